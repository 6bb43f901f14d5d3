"""
The TableStore on the local disk: `tables/<kind>/<market>/<partition>/<hash>.parquet` beside a manifest.

One process writes a table, any number read it at the same time without a lock: a read that meets a file which has been
merged away meanwhile starts again from the newer manifest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_store.checked import Checked
from qraft_store.tables.content import content_hash, version_of
from qraft_store.tables.folder import TableFolder
from qraft_store.tables.manifest import MANIFEST, Manifest, Part, foreign_partitions, grouped, load_manifest
from qraft_store.tables.port import Appended, Pieces, Revisions
from qraft_store.tables.quarantine import read_quarantine
from qraft_store.tables.scan import END_OF_TIME, Query, last_rows, partition_rows, pieces, scan
from qraft_store.tables.schema import check_market, instant_of, is_market, kind_of, micros, wanted_columns
from qraft_store.tables.verify import check_table
from qraft_store.tables.writer import TableWriter

# A writer merges a partition's parts at most once an append; a reader that loses this often races something else.
_READ_ATTEMPTS: Final = 5
# Before every instant that a row may name.
_BEGINNING: Final = -(1 << 62)
# Content hashes of partitions in several parts; more are of parts merged long ago.
_CONTENTS_MAX: Final = 10_000
Result = TypeVar("Result")


class ParquetTables:
    """
    Tables under a root folder. The first append to a table locks it until `close`.

    root: where rows are written. cold_root: where `tier` moves old partitions to, and where they are read from.
    """

    def __init__(self, root: Path, *, cold_root: Path | None = None) -> None:
        self._root = root
        self._cold_root = cold_root
        self._writers: dict[tuple[str, str], TableWriter] = {}
        self._opening = threading.Lock()
        # Of a folder the manifest last read and the file it was read from; replaced files have another inode.
        self._manifests: dict[Path, tuple[tuple[int, int, int], Manifest]] = {}
        self._contents: dict[tuple[str, ...], str] = {}

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """
        Store rows, all of a call or none; see the port.

        Raises:
            ValueError: as the port says.
            Transient: if another process writes the table, or the disk is full.
            Malformed: if a file that holds earlier revisions is damaged.
        """
        return self._writer(kind, market).append(rows)

    def read(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        columns: Sequence[str] | None = None,
        revisions: Revisions = "latest",
    ) -> pa.Table:
        """
        Return the rows with start < event_at <= end and known_at <= as_of; see the port.

        Raises:
            Malformed: if a file of the range is damaged.
        """
        query = Query(
            kind=kind_of(kind),
            symbols=None if symbols is None else tuple(symbols),
            first=micros(start) + 1,
            last=micros(end),
            known=micros(end if as_of is None else as_of),
            columns=tuple(wanted_columns(kind, columns)),
            revisions=revisions,
        )
        return self._on_disk(kind, market, lambda folder, manifest: scan(folder, manifest, query))

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return of each symbol the n newest rows; reads from the end, as few row groups as that takes."""
        query = Query(
            kind=kind_of(kind),
            symbols=None if symbols is None else tuple(symbols),
            first=_BEGINNING,
            last=micros(as_of),
            known=micros(as_of),
            columns=tuple(wanted_columns(kind, None)),
            revisions="latest",
        )
        return self._on_disk(kind, market, lambda folder, manifest: last_rows(folder, manifest, query, n))

    def mark(self, kind: str, *, market: str) -> str:
        """Return which manifest is in force; see the port."""
        identity = _identity(self._folder(kind, market).hot)
        return "" if identity is None else repr(identity)

    def pieces(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str],
        start: datetime,
        end: datetime,
        columns: Sequence[str],
        known: Collection[str],
    ) -> Pieces:
        """
        Return the files of a range and the rows of those that are not known; see the port.

        Raises:
            Malformed: if such a file is damaged.
        """
        query = Query(
            kind=kind_of(kind),
            symbols=tuple(symbols),
            first=micros(start) + 1,
            last=micros(end),
            known=END_OF_TIME,
            columns=tuple(wanted_columns(kind, columns)),
            revisions="all",
        )
        return self._on_disk(kind, market, lambda folder, manifest: pieces(folder, manifest, query, known))

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets that have rows of a kind, sorted."""
        kind_of(kind)
        folders = sorted((self._root / "tables" / kind).glob(f"*/{MANIFEST}"))
        return tuple(path.parent.name for path in folders if self._manifest(kind, path.parent.name).partitions)

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols stored, sorted."""
        return tuple(sorted(self._manifest(kind, market).symbols))

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored event_at, or None when empty."""
        partitions = self._manifest(kind, market).partitions
        if not partitions:
            return None
        first = min(part.first for part in partitions[min(partitions)])
        last = max(part.last for part in partitions[max(partitions)])
        return instant_of(first), instant_of(last)

    def version(self, kind: str, *, market: str) -> str:
        """Return the SHA-256 over the partitions' content; a partition in several parts is read once for it."""
        return self._on_disk(kind, market, lambda folder, manifest: self._version(folder, manifest))

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows, as received, with their `reason`; a row refused twice for one reason once."""
        return read_quarantine(self._folder(kind, market).hot, kind=kind)

    def verify(self) -> Checked:
        """
        Read every file of every table, compare it with its manifest, and name what is damaged; takes no lock.

        Raises:
            Transient: if parts were moved to a cold root that was not given or is not there.
            Refused: if the cold root belongs to another lake.
        """
        checked = Checked()
        for kind in (name for name in KINDS if name != "bars"):
            for market in self._markets_of(kind):
                checked.add(check_table(self._folder(kind, market), kind=kind, market=market))
        return checked

    def close(self) -> None:
        """Merge what is left in parts and give every table that this process wrote to other writers."""
        while self._writers:
            writer = self._writers.popitem()[1]
            try:
                writer.compact()
            finally:
                writer.close()

    def tier(self, kind: str, *, market: str, before: datetime) -> int:
        """
        Move the partitions whose rows are all older than an instant to the cold root; return the bytes moved.

        For the process that writes the table. What was read before is read after, and has the same version.

        Raises:
            ValueError: if the lake has no cold root.
            Transient: if another process writes the table, or the cold root cannot be written.
            Refused: if the cold root belongs to another lake.
        """
        if self._cold_root is None:
            raise ValueError("expected a cold root to move partitions to, the lake was opened without one")
        return self._writer(kind, market).tier(before_us=micros(before))

    def _markets_of(self, kind: str) -> list[str]:
        """Return the markets that have a folder under either root, sorted."""
        roots = [root for root in (self._root, self._cold_root) if root is not None]
        names = {path.name for root in roots for path in (root / "tables" / kind).glob("*") if path.is_dir()}
        return [name for name in sorted(names) if is_market(name)]

    def _folder(self, kind: str, market: str) -> TableFolder:
        place = Path("tables", kind_of(kind).name, check_market(market))
        folder = TableFolder(self._root / place, self._cold_root / place if self._cold_root else None)
        folder.check()
        return folder

    def _writer(self, kind: str, market: str) -> TableWriter:
        folder = self._folder(kind, market)
        with self._opening:
            if (kind, market) not in self._writers:
                self._writers[kind, market] = TableWriter(folder, kind=kind, market=market)
            return self._writers[kind, market]

    def _manifest(self, kind: str, market: str) -> Manifest:
        folder = self._folder(kind, market).hot
        identity = _identity(folder)
        if identity is None:
            return Manifest(kind, market)
        kept = self._manifests.get(folder)
        if kept is None or kept[0] != identity:
            kept = self._manifests[folder] = (identity, load_manifest(folder) or Manifest(kind, market))
        return kept[1]

    def _on_disk(self, kind: str, market: str, read: Callable[[TableFolder, Manifest], Result]) -> Result:
        """Return what `read` makes of the table; again if files it names have been merged away meanwhile."""
        folder = self._folder(kind, market)
        missing: FileNotFoundError | None = None
        for _ in range(_READ_ATTEMPTS):
            manifest = self._manifest(kind, market)
            try:
                return read(folder, manifest)
            except FileNotFoundError as error:
                missing = error
                if self._manifest(kind, market) is manifest:
                    break
        raise Malformed(
            "damaged_lake_file",
            f"expected the files that {folder.hot / MANIFEST} names: {missing}; restore it, or move {folder.hot} away "
            f"and load it again",
        ) from missing

    def _version(self, folder: TableFolder, manifest: Manifest) -> str:
        # Partitions that an older release made shorter count as those that the next writer makes of them.
        old = foreign_partitions(manifest)
        whole = {name: parts for name, parts in manifest.partitions.items() if name not in old}
        for name, parts in grouped(manifest, old).items():
            whole[name] = [*whole.get(name, []), *parts]
        contents = [(name, self._content(folder, parts, kind=manifest.kind)) for name, parts in whole.items()]
        return version_of(manifest.kind, manifest.market, contents)

    def _content(self, folder: TableFolder, parts: Sequence[Part], *, kind: str) -> str:
        if len(parts) == 1:
            return parts[0].content
        files = tuple(part.file for part in parts)
        if files not in self._contents:
            if len(self._contents) >= _CONTENTS_MAX:
                self._contents.clear()
            self._contents[files] = content_hash(partition_rows(folder, parts, kind=kind_of(kind)))
        return self._contents[files]


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a folder's manifest from those that it replaced, None where there is none."""
    try:
        status = (folder / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
