"""The one writer of a table of the lake: rules, order, revisions, parts and their merging."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.outcomes import Malformed
from qraft_store.files import copy_whole, lock_writer
from qraft_store.tables.folder import TableFolder
from qraft_store.tables.layout import partitions_of
from qraft_store.tables.manifest import (
    MANIFEST,
    Manifest,
    Part,
    foreign_partitions,
    grouped,
    load_manifest,
    save_manifest,
)
from qraft_store.tables.parts import SUFFIX, read_part, write_part
from qraft_store.tables.port import Appended
from qraft_store.tables.quarantine import Quarantine, with_reasons
from qraft_store.tables.rows import canonical, judge, order_of
from qraft_store.tables.rules import is_refused, reasons_of
from qraft_store.tables.schema import conform, distinct, kind_of, micros_of, table_schema
from qraft_store.tiers import claim_cold

# A part is merged into the next one written while it has at most twice its rows, so that a partition of n rows has
# about log2(n) parts and a row is rewritten about as often; up to this many rows a partition is always one file (2 ms).
_SMALL_ROWS: Final = 8_192


class TableWriter:
    """Appends rows to one table. Holds a file lock for as long as it lives."""

    def __init__(self, places: TableFolder, *, kind: str, market: str) -> None:
        folder = places.hot
        folder.mkdir(parents=True, exist_ok=True)
        self._places, self._folder, self._kind = places, folder, kind_of(kind)
        self._lock = lock_writer(folder / ".writer.lock")
        self._calls = threading.Lock()  # services append from worker threads
        self._quarantine = Quarantine(folder, kind=kind)
        is_open = False
        try:
            self._manifest = self._open(market)
            self._divide_anew()
            is_open = True
        finally:
            if not is_open:  # nobody holds this writer: the next attempt must not find it locked
                self.close()

    def _open(self, market: str) -> Manifest:
        """
        Load or create the manifest and remove the files that a killed writer did not commit.

        Only the hot ones: what a cold root holds beyond the manifest may have been moved there since the backup from
        which the hot root was restored. `verify` names it.
        """
        files = [path for path in self._folder.glob(f"*=*/*{SUFFIX}") if not path.name.startswith(".")]
        manifest = load_manifest(self._folder)
        cold = [] if self._places.cold is None else list(self._places.cold.glob("*=*/*"))
        if manifest is None:
            if files or cold:
                raise Malformed(
                    "damaged_lake_file",
                    f"expected {self._folder / MANIFEST} beside {len(files) + len(cold)} files of rows; restore it, "
                    f"or move {self._folder} away and load it again",
                )
            manifest = Manifest(self._kind.name, market)
            save_manifest(self._folder, manifest)
        named = {self._folder / file for file in _files(manifest)}
        leftovers = [*(set(files) - named), *self._folder.glob("*=*/.*.tmp"), *self._folder.glob(".*.tmp")]
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return manifest

    def _divide_anew(self) -> None:
        """Put the rows of partitions that an older release made of another length into those of this one, at once."""
        old = foreign_partitions(self._manifest)
        if not old:
            return
        manifest = self._copy()
        for name, parts in grouped(self._manifest, old).items():
            # An older release that came after this one may have stored a row in both.
            both = self._read([*manifest.partitions.get(name, []), *parts])
            rows = judge(self._kind, both, None).new
            manifest.partitions[name] = [write_part(self._folder, name, rows, manifest=manifest)]
        for name in old:
            del manifest.partitions[name]
        self._commit(manifest)

    def _copy(self) -> Manifest:
        return Manifest(
            self._manifest.kind,
            self._manifest.market,
            symbols=list(self._manifest.symbols),
            partitions=dict(self._manifest.partitions),
        )

    def append(self, rows: pa.Table) -> Appended:
        """
        Store the rows of one call, all of them or, if this raises, none.

        Raises:
            ValueError: if the columns are not those of the kind.
            Transient: if the disk is full.
        """
        received = conform(self._kind.name, rows)
        with self._calls:
            return self._append(received)

    def _append(self, received: pa.Table) -> Appended:
        reasons = reasons_of(self._kind, received)
        is_good = ~is_refused(reasons)
        good = received if is_good.all() else received.filter(pa.array(is_good))
        place = np.flatnonzero(is_good)  # of each good row among those received
        good = canonical(self._kind, good)
        manifest = self._copy()
        newest = max(manifest.partitions, default="")
        n_new = n_repeated = 0
        for name, within in partitions_of(self._kind.name, manifest.market, micros_of(good, "event_at")):
            candidates = good if within.size == good.num_rows else good.take(within)
            judged = judge(self._kind, candidates, self._stored(manifest, name, candidates))
            n_new, n_repeated = n_new + judged.new.num_rows, n_repeated + judged.n_repeated
            reasons[place[within[judged.refused]]] = judged.reasons
            if judged.new.num_rows:
                self._add(manifest, name, judged.new)
        if newest and max(manifest.partitions) > newest:
            self._merge(manifest, newest)  # the day has rolled: what it left in parts becomes one file
        refused = np.flatnonzero(is_refused(reasons))
        self._quarantine.add(with_reasons(received.take(refused), [str(reason) for reason in reasons[refused]]))
        self._commit(manifest)
        return Appended(n_new, n_repeated, int(refused.size))

    def _stored(self, manifest: Manifest, partition: str, candidates: pa.Table) -> pa.Table | None:
        """Return the stored rows that the candidates may name again."""
        event = micros_of(candidates, "event_at")
        first, last = int(event.min()), int(event.max())
        bits = manifest.bits(distinct(candidates["symbol"]))
        parts = [
            part
            for part in manifest.partitions.get(partition, [])
            if part.last >= first and part.first <= last and int(part.symbols, 16) & bits
        ]
        return self._read(parts, first=first, last=last) if parts else None

    def _read(self, parts: list[Part], *, first: int | None = None, last: int | None = None) -> pa.Table:
        columns = table_schema(self._kind.name).names
        return pa.concat_tables(
            read_part(
                self._places,
                part,
                kind=self._kind,
                columns=columns,
                first=part.first if first is None else first,
                last=part.last if last is None else last,
            )
            for part in parts
        )

    def _add(self, manifest: Manifest, partition: str, rows: pa.Table) -> None:
        """Write new sorted rows, merged with the youngest parts as far as those are small beside them."""
        parts = list(manifest.partitions.get(partition, []))
        young: list[Part] = []
        n_rows = rows.num_rows
        while parts and parts[-1].n_rows <= max(2 * n_rows, _SMALL_ROWS):
            young.append(parts.pop())
            n_rows += young[-1].n_rows
        if young:
            rows = _sorted(pa.concat_tables([self._read(young), rows]))
        manifest.partitions[partition] = [*parts, write_part(self._folder, partition, rows, manifest=manifest)]

    def _merge(self, manifest: Manifest, partition: str) -> None:
        parts = manifest.partitions[partition]
        if len(parts) > 1:
            rows = _sorted(self._read(parts))
            manifest.partitions[partition] = [write_part(self._folder, partition, rows, manifest=manifest)]

    def _commit(self, manifest: Manifest) -> None:
        before, after = _files(self._manifest), _files(manifest)
        if before == after:
            return
        save_manifest(self._folder, manifest)
        self._manifest = manifest
        for file in before - after:
            for path in self._places.paths_of(file):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # a partition of which nothing is left
                (self._folder / file).parent.rmdir()

    def compact(self) -> None:
        """Make one file of each partition that has several."""
        with self._calls:
            for name, parts in list(self._manifest.partitions.items()):
                if len(parts) > 1:
                    manifest = self._copy()
                    self._merge(manifest, name)
                    self._commit(manifest)

    def tier(self, *, before_us: int) -> int:
        """
        Move the partitions whose rows are all older than an instant to the cold root; return the bytes moved.

        A cold file is whole, compared and on disk before the hot one goes, and the manifest names it once, so a reader
        finds it in one place or the other, and a kill leaves both, which are one.

        Raises:
            Transient: if the cold root cannot be written or gives back other bytes.
            Refused: if the cold root belongs to another lake.
        """
        assert self._places.cold is not None, "a lake with a cold root"
        n_bytes = 0
        with self._calls:
            for parts in self._manifest.partitions.values():
                if max(part.last for part in parts) >= before_us:
                    continue
                for part in parts:
                    hot, cold = self._places.paths_of(part.file)
                    if hot.exists():
                        if not n_bytes:
                            claim_cold(self._folder, self._places.cold)
                        n_bytes += copy_whole(hot, cold)
                        hot.unlink()
                with suppress(OSError):  # what else lies there stays
                    (self._folder / parts[0].file).parent.rmdir()
        return n_bytes

    def close(self) -> None:
        """Give the table to another writer."""
        os.close(self._lock)


def _files(manifest: Manifest) -> set[str]:
    return {part.file for parts in manifest.partitions.values() for part in parts}


def _sorted(rows: pa.Table) -> pa.Table:
    whole = rows.combine_chunks()
    return whole.take(order_of(whole))
