"""
The Parquet lake: `bars/<interval>/<market>/<partition>/` under a root folder, closed partitions also under a cold one.

One process writes a series (svc_ingest), any number read it, at the same time. A row's partition is the UTC day, month
or year of its closed_at (see partitions.py), so a time range is a list of folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.raw import EVER_US, checked_rows, span_us
from qraft_store.bars.reader import SeriesReader
from qraft_store.bars.rows import micros, table_of
from qraft_store.bars.series import Series
from qraft_store.bars.tiers import move_to_cold
from qraft_store.bars.verify import check_series
from qraft_store.bars.writer import SeriesWriter
from qraft_store.checked import Checked

_MARKET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ParquetLake:
    """
    The BarStore on the local disk. Reading takes no lock; the first append to a series locks it until `close`.

    root: where bars are written. cold_root: where `tier` moves old partitions to, and where they are read from.
    """

    def __init__(self, root: Path, *, cold_root: Path | None = None) -> None:
        self._root = root
        self._cold_root = cold_root
        self._writers: dict[tuple[str, str], SeriesWriter] = {}
        self._readers: dict[tuple[str, str], SeriesReader] = {}

    def append(self, batches: Sequence[BarBatch]) -> int:
        """
        Store batches and return how many rows were new; see the port. Partitions that end within the call are written
        whole.

        Raises:
            ValueError: as the port says; partitions before the faulty one are stored.
            Transient: if another process writes the series, or the disk is full.
        """
        if len(batches) == 1:
            (batch,) = batches
            if self._writer(batch.market, batch.interval).append_next(batch):
                return len(batch.symbols)
        by_series: dict[tuple[str, str], list[BarBatch]] = {}
        for batch in batches:
            by_series.setdefault((batch.market, batch.interval), []).append(batch)
        return sum(
            self._writer(market, interval).append(table_of(part)) for (market, interval), part in by_series.items()
        )

    def read(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """
        Return the bars with start < closed_at <= end; see the port.

        Raises:
            Malformed: if a file of the range is damaged.
            ValueError: as the port says.
        """
        reader = self._reader(market, interval)
        known_by = end if as_of is None else as_of
        return reader.read(symbols, start=start, end=end, as_of=known_by, revisions=revisions)

    def last(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        n: int,
        as_of: datetime,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """
        Return the n grid steps that end with the newest bar known by `as_of`; see the port.

        Raises:
            Malformed: if a file of the range is damaged.
            ValueError: as the port says.
        """
        return self._reader(market, interval).last(symbols, n=n, as_of=as_of, revisions=revisions)

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        return self._reader(market, interval).range()

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the markets that have rows of an interval, sorted."""
        _check_interval(interval)
        return tuple(market for market in self._folders(interval) if self._reader(market, interval).has_rows())

    def symbols(self, *, market: str, interval: str) -> tuple[str, ...]:
        """Return the symbols stored, in any revision, sorted."""
        return self._reader(market, interval).symbols()

    def version(self, *, market: str, interval: str) -> str:
        """Return the SHA-256 that names the stored rows; see the port."""
        return self._reader(market, interval).version()

    def rows(
        self,
        *,
        market: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> Iterator[pa.Table]:
        """
        Give every stored revision as plain rows; see the port.

        Raises:
            Malformed: if a file of the range is damaged.
        """
        known_us = EVER_US if as_of is None else micros(as_of)
        return self._reader(market, interval).rows(*span_us(start, end), known_us=known_us)

    def append_rows(self, rows: pa.Table, *, market: str, interval: str) -> int:
        """
        Store plain rows; see the port. Partitions that end within the call are written whole.

        Raises:
            ValueError: as the port says; partitions before the faulty one are stored.
            Transient: if another process writes the series, or the disk is full.
        """
        _check_interval(interval)
        return self._writer(market, interval).append(checked_rows(rows, interval=interval), is_restored=True)

    def tier(self, *, market: str, interval: str, before: datetime) -> int:
        """
        Move the partitions that ended by an instant to the cold root and return the bytes moved.

        For the process that writes the series. What was read before is read after, and has the same version; rows that
        only the cold root holds, because the hot one was restored from an older backup, are kept and read from then on.

        Raises:
            ValueError: if the lake has no cold root.
            Transient: if another process writes the series, or the cold root cannot be written.
            Refused: if the cold root belongs to another lake.
            Malformed: if a cold file contradicts the hot one, or one of them is damaged.
        """
        if self._cold_root is None:
            raise ValueError("expected a cold root to move partitions to, the lake was opened without one")
        self._writer(market, interval)  # holds the lock
        series = self._series(market, interval)
        old = [partition for partition in series.partitions() if partition.end_us <= micros(before)]
        return sum(move_to_cold(series, partition) for partition in old)

    def make_columns(self, *, market: str, interval: str) -> int:
        """
        Make every column file that is missing, stale or damaged and return how many were made.

        For the process that writes the series, after a lake was restored or written by an older version. Reads are
        right without them, and slower.

        Raises:
            Malformed: if a Parquet file is damaged.
            Transient: if another process writes the series.
        """
        return self._writer(market, interval).make_columns(verify=True)

    def verify(self) -> Checked:
        """
        Read every file of every series and name what is damaged; takes no lock.

        The tail of a partition that grows has no hash yet: of it the messages, order, grid and place are checked.

        Raises:
            Transient: if partitions were moved to a cold root that was not given or is not there.
        """
        checked = Checked()
        for interval in INTERVAL_SECONDS:
            for market in self._folders(interval):
                series = self._series(market, interval)
                series.check()
                checked.add(check_series(series))
        return checked

    def close(self) -> None:
        """Give every series that this process wrote to other writers."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _folders(self, interval: str) -> list[str]:
        roots = [root for root in (self._root, self._cold_root) if root is not None]
        names = {entry.name for root in roots for entry in (root / "bars" / interval).glob("*") if entry.is_dir()}
        return [name for name in sorted(names) if _MARKET_NAME.fullmatch(name)]

    def _series(self, market: str, interval: str) -> Series:
        _check_interval(interval)
        if not _MARKET_NAME.fullmatch(market):
            raise ValueError(f"expected a market such as crypto or binance.perp, received {market!r}")
        place = Path("bars", interval, market)
        return Series(market, interval, self._root / place, self._cold_root / place if self._cold_root else None)

    def _reader(self, market: str, interval: str) -> SeriesReader:
        name = (market, interval)
        if name not in self._readers:
            self._readers[name] = SeriesReader(self._series(market, interval))
        self._readers[name].series.check()
        return self._readers[name]

    def _writer(self, market: str, interval: str) -> SeriesWriter:
        name = (market, interval)
        if name not in self._writers:
            series = self._series(market, interval)
            series.check()
            self._writers[name] = SeriesWriter(series)
        return self._writers[name]


def _check_interval(interval: str) -> None:
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"expected an interval out of {list(INTERVAL_SECONDS)}, received {interval!r}")
