"""Reads of one series: from column files, the hot window and, where these are not there, from Parquet. No locks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from qraft_store.bars.columns import COLUMNS, ColumnsHeader, FileKey, file_key, read_header
from qraft_store.bars.content import rows_sha256, series_version, sort_rows
from qraft_store.bars.days import TAIL, read_sha256, read_tail
from qraft_store.bars.hot import HotTail
from qraft_store.bars.panel import MAX_PANEL_CELLS, PanelDraft
from qraft_store.bars.partitions import Partition
from qraft_store.bars.parts import ColumnsPart, Part, TablePart, TailPart, Wanted, add_run
from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.raw import within
from qraft_store.bars.rows import instant_of, micros, new_rows
from qraft_store.bars.series import Series

# Up to here a range's folders are tried by name; listing a folder of two years of days costs as much as 100 tries.
_TRIED_MAX: Final = 100
# Cells that are read at once: a month of one symbol, a day of 500. Beyond it the copy would cost more than it spares.
_RUN_BYTES_MAX: Final = 8 * 1024 * 1024
_KNOWN_MAX: Final = 4_096  # partitions: ten years of days


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a partition's files may be, as text: to join paths takes longer than to ask for the file."""

    tail: str
    closed: list[tuple[str, str]]  # Parquet file and column file, hot then cold


class SeriesReader:
    """
    What one process knows of a series that it reads: the headers of column files and the hot window of the tail.

    All of it is checked against the files at every read, so any number of readers may run beside the writer.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self._headers: dict[int, ColumnsHeader] = {}  # by the partition's ordinal
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}  # so that a thousand headers share one tuple
        self._sha256s: dict[str, tuple[FileKey, str]] = {}
        self._paths: dict[int, _Files] = {}
        self._tail: HotTail | None = None

    def read(
        self, symbols: Sequence[str] | None, *, start: datetime, end: datetime, as_of: datetime, revisions: BarRevisions
    ) -> BarPanel | None:
        """Return the bars with start < closed_at <= end; see the port."""
        division = self.series.division
        step = division.step_us
        first = (micros(start) // step + 1) * step
        n_bars = max(0, micros(end) // step - first // step + 1)
        last = first + (n_bars - 1) * step
        parts = list(self._parts(first, last, is_latest=revisions == "latest")) if n_bars else []
        if symbols:
            columns = tuple(symbols)
        else:
            columns = tuple(sorted(set().union(*{names for _, part in parts if (names := part.symbols())})))
        draft = PanelDraft(
            columns,
            first_us=first,
            n_bars=n_bars,
            step_us=step,
            as_of_us=micros(as_of),
            revisions=revisions,
        )
        _add_all(parts, draft, first=first, stop=last + step)
        return draft.panel(market=self.series.market, interval=self.series.interval, keeps_empty=bool(symbols))

    def last(
        self, symbols: Sequence[str] | None, *, n: int, as_of: datetime, revisions: BarRevisions
    ) -> BarPanel | None:
        """Return the n grid steps that end with the newest bar known by `as_of`; see the port."""
        if not 1 <= n <= MAX_PANEL_CELLS:
            raise ValueError(f"expected from one bar to {MAX_PANEL_CELLS}, received n = {n}")
        wanted = Wanted(frozenset(symbols) if symbols else None, micros(as_of), revisions == "latest")
        for partition in self._newest_first(self.series.division.of(micros(as_of))):
            of_partition = self._parts_of(partition, is_latest=wanted.is_latest)
            found = [at for part in of_partition if (at := part.newest(wanted)) is not None]
            if found:
                newest = max(found)
                start = instant_of(newest - n * self.series.division.step_us)
                return self.read(symbols, start=start, end=instant_of(newest), as_of=as_of, revisions=revisions)
        return None

    def range(self) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        partitions = self.series.partitions()
        first = next((found for found in map(self._bounds, partitions) if found), None)
        last = next((found for found in map(self._bounds, reversed(partitions)) if found), None)
        return (instant_of(first[0]), instant_of(last[1])) if first and last else None

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols stored, in any revision, sorted."""
        parts = (part for partition in self.series.partitions() for part in self._parts_of(partition, is_latest=False))
        return tuple(sorted({name for part in parts for name in part.symbols()}))

    def rows(self, first_us: int, last_us: int, *, known_us: int) -> Iterator[pa.Table]:
        """Give all rows with first_us <= closed_at <= last_us and known_at <= known_us, a partition at a time."""
        for partition in self.series.partitions():
            if partition.end_us <= first_us or partition.start_us > last_us:
                continue
            rows = self.series.read_rows(partition)
            if rows is not None:
                found = within(sort_rows(new_rows(rows, None)), first_us=first_us, last_us=last_us, known_us=known_us)
                if found.num_rows:
                    yield found

    def has_rows(self) -> bool:
        """Return whether anything is stored."""
        parts = (part for partition in self.series.partitions() for part in self._parts_of(partition, is_latest=False))
        return any(part.symbols() for part in parts)

    def version(self) -> str:
        """Return the SHA-256 that names the stored rows."""
        found = ((partition.name, self._rows_sha256(partition)) for partition in self.series.partitions())
        return series_version(
            self.series.market, self.series.interval, [(name, sha256) for name, sha256 in found if sha256]
        )

    def _rows_sha256(self, partition: Partition) -> str | None:
        if read_tail(self.series.folder(partition)) is None:
            for parquet, _ in self._files(partition).closed:
                key = file_key(parquet)
                if key is not None:
                    return self._sha256(parquet, key)
        rows = self.series.read_rows(partition)
        return None if rows is None else rows_sha256(sort_rows(new_rows(rows, None)))

    def _sha256(self, parquet: str, key: FileKey) -> str:
        known = self._sha256s.get(parquet)
        if known is None or known[0] != key:
            if len(self._sha256s) >= _KNOWN_MAX:
                self._sha256s.clear()
            known = self._sha256s[parquet] = (key, read_sha256(Path(parquet)))
        return known[1]

    def _bounds(self, partition: Partition) -> tuple[int, int] | None:
        found = [b for part in self._parts_of(partition, is_latest=False) if (b := part.bounds())]
        return (min(first for first, _ in found), max(last for _, last in found)) if found else None

    def _newest_first(self, upto: Partition) -> Iterator[Partition]:
        """Give the partitions up to one, the newest first; the first of them without listing the folder."""
        yield upto
        yield self.series.division.partition(upto.ordinal - 1)
        for partition in reversed(self.series.partitions()):
            if partition.ordinal < upto.ordinal - 1:
                yield partition

    def _parts(self, first: int, last: int, *, is_latest: bool) -> Iterator[tuple[Partition, Part]]:
        division = self.series.division
        low, high = division.of(first).ordinal, division.of(last).ordinal
        if high - low < _TRIED_MAX:
            partitions = [division.partition(ordinal) for ordinal in range(low, high + 1)]
        else:
            partitions = [partition for partition in self.series.partitions() if low <= partition.ordinal <= high]
        for partition in partitions:
            for part in self._parts_of(partition, is_latest=is_latest):
                yield partition, part

    def _parts_of(self, partition: Partition, *, is_latest: bool) -> list[Part]:
        """Return what holds a partition's rows now: the tail first, see Series.read_rows."""
        tail, closed = self._tail_part(partition), self._closed_part(partition, is_latest=is_latest)
        return [part for part in (closed, tail) if part is not None]

    def _tail_part(self, partition: Partition) -> Part | None:
        if file_key(self._files(partition).tail) is None:
            return None
        tail = self._tail
        folder = self.series.folder(partition)
        if tail is None or tail.partition.ordinal < partition.ordinal:
            tail = self._tail = HotTail(folder, partition, self.series.division.step_us)
        if tail.partition.ordinal == partition.ordinal:
            if tail.refresh():
                return TailPart(tail, tail.extent())
            if not tail.is_too_large:
                tail = self._tail = HotTail(folder, partition, self.series.division.step_us)
                if tail.refresh():
                    return TailPart(tail, tail.extent())
        rows = read_tail(folder)
        return None if rows is None else TablePart(self.series, partition, rows)

    def _closed_part(self, partition: Partition, *, is_latest: bool) -> Part | None:
        for parquet, columns in self._files(partition).closed:
            key = file_key(parquet)
            if key is None:
                continue
            table = TablePart(self.series, partition)
            header = self._header(partition, columns, parquet, key)
            if header is None or (is_latest and header.n_revisions):
                return table
            return ColumnsPart(columns, header, table)
        return None

    def _header(self, partition: Partition, columns: str, parquet: str, key: FileKey) -> ColumnsHeader | None:
        """Return the header of the column file that was made from this very Parquet file."""
        at_hand = file_key(columns)
        if at_hand is None:
            return None
        header = self._headers.get(partition.ordinal)
        if header is None or header.key != at_hand:
            header = read_header(columns)
            if header is None or header.n_rows != partition.n_rows:
                return None
            header.symbols = self._names.setdefault(header.symbols, header.symbols)
            if len(self._headers) >= _KNOWN_MAX:
                self._headers.clear()
                self._names.clear()
            self._headers[partition.ordinal] = header
        if header.made_from != key:
            # Copied, restored or moved: other inode and time, perhaps the same rows.
            if header.sha256 != self._sha256(parquet, key):
                return None
            header.made_from = key
        return header

    def _files(self, partition: Partition) -> _Files:
        files = self._paths.get(partition.ordinal)
        if files is None:
            if len(self._paths) >= _KNOWN_MAX:
                self._paths.clear()
            closed = [(str(path), str(path.with_name(COLUMNS))) for path in self.series.parquet_paths(partition)]
            files = self._paths[partition.ordinal] = _Files(str(self.series.folder(partition) / TAIL), closed)
        return files


def _add_all(parts: list[tuple[Partition, Part]], draft: PanelDraft, *, first: int, stop: int) -> None:
    """Add the parts to a panel, whole partitions of column files in runs."""
    run: list[ColumnsPart] = []
    ordinal = 0
    for partition, part in parts:
        is_whole = partition.start_us >= first and partition.end_us <= stop
        goes_on = (
            isinstance(part, ColumnsPart)
            and is_whole
            and bool(run)
            and partition.ordinal == ordinal + 1
            and part.header.symbols is run[0].header.symbols
            and part.header.n_rows == run[0].header.n_rows
            and (len(run) + 1) * part.n_bytes(draft) <= _RUN_BYTES_MAX
        )
        if run and not goes_on:
            add_run(run, draft)
            run = []
        if isinstance(part, ColumnsPart) and is_whole:
            run.append(part)
            ordinal = partition.ordinal
        else:
            part.add_to(draft)
    if run:
        add_run(run, draft)
