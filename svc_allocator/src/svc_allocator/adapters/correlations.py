"""Correlations from the bar store, fixed for a UTC day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.allocation import Correlations, weekly_correlations
from qraft_store.bars.port import BarStore

_WEEK = timedelta(days=7)
_HOUR_S = 3_600


class BarStoreCorrelations:
    """
    Correlations of hourly log returns over the seven days that end at the last UTC midnight at or before as_of.

    Only bars known by that midnight are read, and svc_ingest stores a bar before it tells of it: the answer is the
    same in the first run, after a restart and in a replay. One day is kept in memory.
    """

    def __init__(self, bars: BarStore, *, market: str, interval: str, n_common_min: int) -> None:
        self._bars = bars
        self._market = market
        self._interval = interval
        self._n_common_min = n_common_min
        self._day: datetime | None = None
        self._of_day: Correlations | None = None

    async def at(self, as_of: datetime) -> Correlations | None:
        """Return the correlations of the as_of's UTC day; None when no symbol has bars, or bars are longer than 1h."""
        midnight = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight != self._day:
            self._of_day = await asyncio.to_thread(self._read, midnight)
            self._day = midnight
        return self._of_day

    def _read(self, midnight: datetime) -> Correlations | None:
        if INTERVAL_SECONDS[self._interval] > _HOUR_S:
            return None
        panel = self._bars.read(
            market=self._market,
            interval=self._interval,
            symbols=None,
            # The port's start is exclusive; the first hour of the week is needed for its first return.
            start=midnight - _WEEK - timedelta(seconds=1),
            end=midnight,
            as_of=midnight,
        )
        if panel is None:
            return None
        return weekly_correlations(
            panel.symbols,
            panel.close,
            closed_at_s=panel.closed_at.astype("datetime64[s]").astype(np.int64),
            end_s=int(midnight.timestamp()),
            n_common_min=self._n_common_min,
        )
