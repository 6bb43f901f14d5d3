"""Closes of the last day out of the bar store, off the event loop."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import numpy as np

from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel, BarStore
from svc_execution.domain.closes import valid_closes
from svc_execution.ports import CloseHistory


class BarStoreHistory:
    """The History port over any BarStore."""

    def __init__(self, store: BarStore, *, market: str, interval: str) -> None:
        self._store = store
        self._market = market
        self._interval = interval
        self._step = timedelta(seconds=INTERVAL_SECONDS[interval])

    async def closes(self, *, end: datetime, n_bars: int) -> CloseHistory:
        """Return the last n_bars grid steps up to `end`; a store without them gives NaN rows, never made-up ones."""
        panel = await asyncio.to_thread(self._read, end, n_bars)
        if panel is None:
            return CloseHistory((), np.full((n_bars, 0), np.nan))
        usable = valid_closes(panel.open, panel.close, panel.volume)
        closes = np.full((n_bars, len(panel.symbols)), np.nan)
        closes[n_bars - len(usable) :] = usable
        return CloseHistory(panel.symbols, closes)

    def _read(self, end: datetime, n_bars: int) -> BarPanel | None:
        try:
            return self._store.read(
                market=self._market,
                interval=self._interval,
                symbols=None,
                start=end - n_bars * self._step,
                end=end,
                # A live bar is known a little after its end, and always before the next one's.
                as_of=end + self._step,
            )
        except OSError as error:
            raise Transient("bar_store_away", str(error)) from error
