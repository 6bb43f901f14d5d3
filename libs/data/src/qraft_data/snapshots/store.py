"""Write snapshots into the artefact store, read them back, and say later what differs from what was written."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Transient
from qraft_contracts.snapshots import SNAPSHOT_FORMAT, snapshot_id_of
from qraft_data.library import DataLibrary
from qraft_data.query import Query
from qraft_data.snapshots.content import SnapshotContent, content_of
from qraft_data.snapshots.meta import (
    DATA_FILE,
    META_FILE,
    ColumnMeta,
    SnapshotMeta,
    describe_columns,
    encode_meta,
    key_of,
    lineage_of,
)
from qraft_store.artefacts.keys import sha256_of
from qraft_store.artefacts.port import ArtefactStore

# Two million rows are about 100 MB of ten columns: what one scan takes in at a time.
_ROWS_PER_GROUP: Final = 2_000_000
# A live feed appends every few minutes and a read takes seconds, so the second try is the rule's exception.
_N_TRIES_MAX: Final = 3
# The file is made and hashed in memory; ten years of 5-minute bars of 100 symbols are 105 million rows.
N_ROWS_MAX: Final = 150_000_000


@dataclass(frozen=True, slots=True)
class Verification:
    """What verify found. differences: one line each, none when the snapshot is as it was written."""

    snapshot_id: str
    differences: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Return whether everything is as written."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class SnapshotStore:
    """Snapshots under `snapshots/<id>/` of an artefact store."""

    artefacts: ArtefactStore

    async def take(self, library: DataLibrary, query: Query) -> SnapshotMeta:
        """
        Answer a query and keep the answer.

        Raises:
            Transient: if a source kept changing while it was read, or the store is away.
            ValueError, KeyError, Refused: as DataLibrary.get_data, and as `write`.
        """
        for _ in range(_N_TRIES_MAX):
            panel = await asyncio.to_thread(library.run, query, has_versions=True)
            now = await asyncio.to_thread(library.versions, panel.sources)
            if all(panel.sources[source] == version for source, version in now.items()):
                return await self.write(await asyncio.to_thread(content_of, panel))
        raise Transient(
            "sources_moving", f"expected {sorted(now)} to stand still while read, tried {_N_TRIES_MAX} times"
        )

    async def write(self, content: SnapshotContent) -> SnapshotMeta:
        """
        Keep an answer that was read with versions, and return its record. The same again is accepted.

        Raises:
            ValueError: if the id is taken by other data, the answer has no versions, or it is too large.
        """
        meta, data = await asyncio.to_thread(_encode, content)
        stored = await self._find(meta.snapshot_id)
        if stored is not None:
            _check_same(stored, meta)
            return stored
        # The record comes last: a snapshot without one was never finished.
        await self.artefacts.put(key_of(meta.snapshot_id, DATA_FILE), data)
        await self.artefacts.put(key_of(meta.snapshot_id, META_FILE), encode_meta(meta))
        return meta

    async def read(self, snapshot_id: str) -> tuple[SnapshotMeta, pa.Table]:
        """
        Return a snapshot's record and data.

        Raises:
            KeyError: if there is none.
            ValueError: if the data is not what the record says.
            Malformed: if the record cannot be read.
        """
        meta = await self.meta(snapshot_id)
        data = await self.artefacts.get(key_of(snapshot_id, DATA_FILE), sha256=meta.files[DATA_FILE])
        return meta, await asyncio.to_thread(_table_of, data)

    async def meta(self, snapshot_id: str) -> SnapshotMeta:
        """
        Return a snapshot's record.

        Raises:
            KeyError: if there is none.
            Malformed: if it cannot be read.
        """
        data = await self.artefacts.get(key_of(snapshot_id, META_FILE))
        try:
            return msgspec.json.decode(data, type=SnapshotMeta)
        except msgspec.DecodeError as error:
            raise Malformed("bad_snapshot", f"expected {META_FILE} of {snapshot_id}, received {error}") from error

    async def ids(self) -> tuple[str, ...]:
        """Return the ids of all finished snapshots, sorted."""
        keys = await self.artefacts.keys("snapshots/")
        return tuple(key.split("/")[1] for key in keys if key.endswith(f"/{META_FILE}"))

    async def verify(self, snapshot_id: str) -> Verification:
        """
        Hash everything again and name what differs from the record, and the record from its id.

        Raises:
            KeyError: if there is no such snapshot.
        """
        try:
            meta = await self.meta(snapshot_id)
        except Malformed as error:
            return Verification(snapshot_id, (str(error),))
        differences = list(_record_differences(snapshot_id, meta))
        try:
            data = await self.artefacts.get(key_of(snapshot_id, DATA_FILE))
        except KeyError:
            return Verification(snapshot_id, (*differences, f"{DATA_FILE} is missing"))
        if (received := sha256_of(data)) != meta.files.get(DATA_FILE):
            differences.append(f"{DATA_FILE} has SHA-256 {received}, the record says {meta.files.get(DATA_FILE)}")
        try:
            table = await asyncio.to_thread(_table_of, data)
        except Malformed as error:
            return Verification(snapshot_id, (*differences, str(error)))
        return Verification(snapshot_id, (*differences, *await asyncio.to_thread(_data_differences, meta, table)))

    async def _find(self, snapshot_id: str) -> SnapshotMeta | None:
        try:
            return await self.meta(snapshot_id)
        except KeyError:
            return None


def evidence_inputs(meta: SnapshotMeta) -> dict[str, Origin]:
    """Return a snapshot as the `inputs` of registry evidence: its artefact folder and its origin."""
    return {f"snapshots/{meta.snapshot_id}": meta.origin}


def _encode(content: SnapshotContent) -> tuple[SnapshotMeta, bytes]:
    if not content.versions or not all(content.versions.values()):
        raise ValueError("expected an answer read with has_versions=True: a snapshot names the version of every source")
    if content.table.num_rows > N_ROWS_MAX:
        raise ValueError(f"expected at most {N_ROWS_MAX} rows in a snapshot, received {content.table.num_rows}")
    versions = dict(content.versions)
    snapshot_id = snapshot_id_of(content.query, versions)
    data = _parquet(content.table)
    meta = SnapshotMeta(
        format=SNAPSHOT_FORMAT,
        snapshot_id=snapshot_id,
        lineage=lineage_of(snapshot_id),
        query=content.query,
        versions=versions,
        origin=content.origin,
        n_rows=content.table.num_rows,
        columns=describe_columns(content.table),
        counts=dict(content.counts),
        roll_points=content.roll_points,
        files={DATA_FILE: sha256_of(data)},
    )
    return meta, data


def _parquet(table: pa.Table) -> bytes:
    """Return the table as Parquet; the same release of pyarrow gives the same bytes for equal tables."""
    sink = io.BytesIO()
    texts: Any = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(
        table.combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        row_group_size=_ROWS_PER_GROUP,
        store_schema=True,
    )
    return sink.getvalue()


def _table_of(data: bytes) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(data), use_threads=False)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise Malformed("bad_snapshot", f"expected Parquet in {DATA_FILE}: {error}") from error


def _check_same(stored: SnapshotMeta, meta: SnapshotMeta) -> None:
    """
    Accept the same content; the bytes may come from another release of pyarrow, what is stored stays.

    Raises:
        ValueError: if the id stands for other content, naming it.
    """
    left, right = (msgspec.structs.replace(one, files={}) for one in (stored, meta))
    if left == right:
        return
    differing = [
        name for name in sorted({*stored.columns, *meta.columns}) if stored.columns.get(name) != meta.columns.get(name)
    ]
    raise ValueError(
        f"expected snapshot {meta.snapshot_id} as stored, received other data under the same id (columns {differing}): "
        "a store changed without changing its version, or one of the two snapshots was tampered with; run verify"
    )


def _record_differences(snapshot_id: str, meta: SnapshotMeta) -> list[str]:
    made_of = snapshot_id_of(meta.query, meta.versions)
    found = []
    if not snapshot_id == meta.snapshot_id == made_of:
        found.append(f"the id is {snapshot_id}, the record says {meta.snapshot_id}, its query and versions {made_of}")
    if meta.lineage != lineage_of(snapshot_id):
        found.append(f"the lineage is {meta.lineage}")
    return found


def _data_differences(meta: SnapshotMeta, table: pa.Table) -> list[str]:
    found = []
    if table.num_rows != meta.n_rows:
        found.append(f"there are {table.num_rows} rows, the record says {meta.n_rows}")
    columns = describe_columns(table)
    for name in sorted({*columns, *meta.columns}):
        if name not in columns or name not in meta.columns:
            found.append(f"column {name} is {'missing' if name not in columns else 'unknown to the record'}")
        elif columns[name] != meta.columns[name]:
            changed = [
                part
                for part in ColumnMeta.__struct_fields__
                if getattr(columns[name], part) != getattr(meta.columns[name], part)
            ]
            found.append(f"column {name} differs in {', '.join(changed)}")
    return found
