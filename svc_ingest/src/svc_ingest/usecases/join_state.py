"""Put the state of the market beside each bar that goes out: what was known at the bar's end, never what came later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Outcome
from qraft_frames.bars import BarBatch
from qraft_telemetry import logs, metrics
from svc_ingest.domain.market_state import KnownState
from svc_ingest.domain.raw import micros_of
from svc_ingest.ports import MarketState

# Bars that are read for at once: a day of 5-minute bars costs about what one bar does, and 500 symbols with 30 inputs
# take 35 MB.
STRETCH_BARS: Final = 288


@dataclass(slots=True)
class StateJoin:
    """
    Adds state to batches. source None = none.

    Simulated bars get none: no state of a real market may stand beside them. A table that cannot be read never stops a
    bar: its inputs are absent, which the log says once and a metric counts.
    """

    source: MarketState | None
    _told: set[str] = field(default_factory=set)

    async def joined(self, batches: Sequence[BarBatch]) -> AsyncIterator[BarBatch]:
        """Yield the batches in their order, each with the state as of its bar's end; revisions have the bar's own."""
        for first in range(0, len(batches), STRETCH_BARS):
            for batch in await self._stretch(batches[first : first + STRETCH_BARS]):
                yield batch

    async def _stretch(self, batches: Sequence[BarBatch]) -> list[BarBatch]:
        if self.source is None or all(batch.origin is Origin.SIMULATED for batch in batches):
            return list(batches)
        symbols = tuple(sorted({symbol for batch in batches for symbol in batch.symbols}))
        at_us = np.unique(np.array([micros_of(batch.closed_at) for batch in batches], dtype=np.int64))
        try:
            known = await asyncio.to_thread(self.source.read, symbols=symbols, at_us=at_us)
        except Outcome as error:
            known = KnownState({}, {"state": str(error)})
        self._tell(known)
        rows = {int(at): row for row, at in enumerate(at_us)}
        places = {symbol: place for place, symbol in enumerate(symbols)}
        return [
            _with_state(batch, known, rows[micros_of(batch.closed_at)], None if batch.symbols == symbols else places)
            for batch in batches
        ]

    def _tell(self, known: KnownState) -> None:
        for source, why in known.faults.items():
            metrics.STATE_FAULTS.labels(source).inc()
            if source not in self._told:
                logs.get().warning("state.unavailable", source=source, why=why[:300])
        # Said again when it comes back and is lost again.
        self._told = set(known.faults)


def _with_state(batch: BarBatch, known: KnownState, row: int, places: dict[str, int] | None) -> BarBatch:
    """Return the batch with one row of the state. places: of the columns; None = the batch has all, in order."""
    if batch.origin is Origin.SIMULATED:
        return batch
    state = {name: values[row] for name, values in known.values.items()}
    if places is not None:
        columns = np.array([places[symbol] for symbol in batch.symbols], dtype=np.intp)
        state = {name: values[columns] for name, values in state.items()}
    return replace(batch, state={name: values for name, values in state.items() if not np.isnan(values).all()})
