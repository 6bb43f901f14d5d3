"""One line of bars: a source, its quality check, the store and the names that go with them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel, BarStore
from svc_ingest.domain.faults import FaultKind, QualityReport
from svc_ingest.domain.quality import RECENT_BARS, QualityCheck
from svc_ingest.domain.raw import RawChunk, RawRows, micros_of
from svc_ingest.ports import BarSource

# Revision numbers that a restart may find taken: a venue corrected a bar while we were away, more than once.
_MAX_REVISIONS = 16


@dataclass(frozen=True, slots=True)
class Line:
    """What loading and publishing share."""

    source: BarSource
    store: BarStore
    check: QualityCheck
    market: str
    interval: str

    @property
    def step(self) -> timedelta:
        """Return the length of a bar."""
        return timedelta(seconds=INTERVAL_SECONDS[self.interval])

    @property
    def stored_until(self) -> datetime | None:
        """Return the end of the newest stored bar."""
        found = self.store.range(market=self.market, interval=self.interval)
        return found[1] if found else None

    def take_up(self, after: datetime | None) -> None:
        """
        Prepare the check for bars after an instant, from what is stored up to it.

        Raises:
            Malformed: if the store holds bars of another kind: simulated and market data never mix.
        """
        if after is None:
            return
        panel = self.store.read(
            market=self.market, interval=self.interval, symbols=None, start=after - RECENT_BARS * self.step, end=after
        )
        if panel is None:
            return
        if (panel.origin is Origin.SIMULATED) != (self.source.origin is Origin.SIMULATED):
            raise Malformed(
                "origin_conflict",
                f"the lake holds bars of origin {panel.origin}, the source {self.source.description} gives "
                f"{self.source.origin}; use another QRAFT_HOME or remove the lake",
            )
        self.check.prime(_rows_of(panel), until=micros_of(after))

    def append(self, batch: BarBatch) -> BarBatch:
        """
        Store a batch and return it as stored: a revision whose number is taken by other values gets the next one.

        Raises:
            Malformed: if the bar is stored with other values.
        """
        for revision in range(batch.revision, batch.revision + (_MAX_REVISIONS if batch.revision else 1)):
            numbered = batch if revision == batch.revision else replace(batch, revision=revision)
            try:
                self.store.append([numbered])
            except ValueError as error:
                conflict = error
            else:
                return numbered
        raise _conflict(conflict)

    def stored_batches(self, *, after: datetime, until: datetime) -> list[BarBatch]:
        """Return the first revisions that are stored, after < closed_at <= until, as they were published."""
        panel = self.store.read(market=self.market, interval=self.interval, symbols=None, start=after, end=until)
        if panel is None:
            return []
        report = QualityReport()
        check = QualityCheck(market=self.market, interval=self.interval, origin=panel.origin, report=report)
        return check.take(RawChunk(_rows_of(panel), until=until))


async def append_all(line: Line, batches: list[BarBatch]) -> int:
    """
    Store many batches at once, off the event loop, and return how many rows were new.

    Raises:
        Malformed: if a bar is stored with other values.
    """
    try:
        return await asyncio.to_thread(line.store.append, batches)
    except ValueError as error:
        raise _conflict(error) from error


def _conflict(error: ValueError) -> Malformed:
    return Malformed("lake_conflict", f"{error}; use another QRAFT_HOME or remove the lake")


async def open_source(line: Line) -> None:
    """Open the source and count the rows that stand out of order in it."""
    for symbol, n in (await line.source.open()).items():
        line.check.report.add(symbol, FaultKind.OUT_OF_ORDER, n)


def _rows_of(panel: BarPanel) -> dict[str, RawRows]:
    """Return each symbol's stored rows."""
    closed_at = panel.closed_at.astype("datetime64[us]").astype(np.int64)
    values = np.stack([panel.open, panel.high, panel.low, panel.close, panel.volume], axis=2)
    known = ~np.isnan(panel.close)
    return {
        symbol: RawRows(closed_at[known[:, i]], np.ascontiguousarray(values[known[:, i], i]))
        for i, symbol in enumerate(panel.symbols)
    }
