"""Quarantined rows as files: `quarantine/<hash>.parquet` in a table's folder, the rows as received and `reason`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from qraft_store.files import write_whole
from qraft_store.tables.parts import damaged
from qraft_store.tables.schema import table_schema

FOLDER: Final = "quarantine"
REASON: Final = "reason"


def quarantine_schema(kind: str) -> pa.Schema:
    """Return the table's schema with `reason` at its end."""
    return table_schema(kind).append(pa.field(REASON, pa.string()))


def with_reasons(rows: pa.Table, reasons: list[str]) -> pa.Table:
    """Return refused rows with their reasons."""
    return rows.append_column(pa.field(REASON, pa.string()), pa.array(reasons, pa.string()))


def digests(rows: pa.Table) -> list[bytes]:
    """Return of each row a digest of its values as text; NaN and infinite numbers included."""
    return [hashlib.sha256(repr(row).encode()).digest()[:16] for row in _plain(rows).to_pylist()]


def _plain(rows: pa.Table) -> pa.Table:
    """Return the rows with instants as integers: a refused instant may be beyond what Python's datetime knows."""
    arrays = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in rows.itercolumns()
    ]
    return pa.Table.from_arrays(arrays, names=rows.column_names)


class Quarantine:
    """The quarantine of one table, for its writer. A row refused twice for the same reason is kept once."""

    def __init__(self, folder: Path, *, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._seen: set[bytes] | None = None

    def add(self, rows: pa.Table) -> None:
        """
        Keep refused rows, as with_reasons returns them.

        Raises:
            Transient: if the disk is full.
        """
        if rows.num_rows == 0:
            return
        if self._seen is None:
            self._seen = set(digests(read_quarantine(self._folder, kind=self._kind)))
        found = digests(rows)
        fresh = {digest: i for i, digest in reversed(list(enumerate(found))) if digest not in self._seen}
        if fresh:
            new = rows.take(sorted(fresh.values()))
            name = hashlib.sha256(b"".join(sorted(fresh))).hexdigest()[:32]
            write_whole(self._folder / FOLDER / f"{name}.parquet", lambda file: pq.write_table(new, file))
            self._seen.update(fresh)


def read_quarantine(folder: Path, *, kind: str) -> pa.Table:
    """
    Return the quarantined rows of a table's folder, sorted by event_at as far as there is one.

    Raises:
        Malformed: if a file is damaged.
    """
    schema = quarantine_schema(kind)
    found = [schema.empty_table()]
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        try:
            found.append(pq.read_table(path, partitioning=None).cast(schema))
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise damaged(path, error) from error
    rows = pa.concat_tables(found)
    return rows.sort_by([("event_at", "ascending"), ("symbol", "ascending"), ("row_id", "ascending")])
