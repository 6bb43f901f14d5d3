"""
The Parquet lake: `bars/<interval>/<market>/date=YYYY-MM-DD/` under a root folder.

One process writes a series (svc_ingest), any number read it, at the same time. A row's folder is the UTC date of its
closed_at, so a time range is a list of folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_store.bars.days import read_day
from qraft_store.bars.port import BarPanel
from qraft_store.bars.rows import closed_micros, instant_of, panel_of, table_of
from qraft_store.bars.writer import DAY_PREFIX, SeriesWriter, day_folders

_MARKET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ParquetLake:
    """The BarStore on the local disk. Reading takes no lock; the first append to a series locks it until `close`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writers: dict[tuple[str, str], SeriesWriter] = {}

    def append(self, batches: Sequence[BarBatch]) -> int:
        """
        Store batches and return how many rows were new; see the port. Days that end within the call are written whole.

        Raises:
            ValueError: as the port says; days before the faulty one are stored.
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
    ) -> BarPanel | None:
        """
        Return the bars with start < closed_at <= end; see the port.

        Raises:
            Malformed: if a file of the range is damaged.
            ValueError: if the range is too large for one panel.
        """
        first, last = (_folder_name(instant.astimezone(UTC).date()) for instant in (start, end))
        folders = [f for f in day_folders(self._series(market, interval)) if first <= f.name <= last]

        def tables(columns: Sequence[str]) -> Iterator[pa.Table]:
            for folder in folders:
                table = read_day(folder, columns)
                if table is not None:
                    yield table

        panel = panel_of(
            tables,
            market=market,
            interval=interval,
            symbols=symbols,
            start=start,
            end=end,
            as_of=end if as_of is None else as_of,
        )
        # Arrow keeps what it decoded with for a next read that comes hours later: 75 MB after a week of 500 symbols.
        pa.default_memory_pool().release_unused()
        return panel

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        folders = day_folders(self._series(market, interval))
        first = next((day for day in map(_bounds, folders) if day), None)
        last = next((day for day in map(_bounds, reversed(folders)) if day), None)
        return (first[0], last[1]) if first and last else None

    def close(self) -> None:
        """Give every series that this process wrote to other writers."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _series(self, market: str, interval: str) -> Path:
        if not _MARKET_NAME.fullmatch(market) or interval not in INTERVAL_SECONDS:
            raise ValueError(
                f"expected a market such as crypto and an interval out of {sorted(INTERVAL_SECONDS)}, "
                f"received {market!r} and {interval!r}"
            )
        return self._root / "bars" / interval / market

    def _writer(self, market: str, interval: str) -> SeriesWriter:
        name = (market, interval)
        if name not in self._writers:
            self._writers[name] = SeriesWriter(self._series(market, interval))
        return self._writers[name]


def _folder_name(day: date) -> str:
    return f"{DAY_PREFIX}{day.isoformat()}"


def _bounds(folder: Path) -> tuple[datetime, datetime] | None:
    """Return the first and the last closed_at of revision 0 of a day."""
    rows = read_day(folder)
    if rows is None:
        return None
    closed_at = closed_micros(rows)[np.asarray(rows["revision"]) == 0]
    return (instant_of(closed_at.min()), instant_of(closed_at.max())) if closed_at.size else None
