"""What the tests of the trainer share beside fixtures: rows as a run gets them, and lakes to get them from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qraft_contracts.kinds import STATE_INPUTS
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel
from svc_train.domain.manifest import instant_of
from svc_train.domain.panel import TrainingData

SNAPSHOT = "5" * 64


def data_of(bars: BarPanel, state: Mapping[str, Any] | None = None) -> TrainingData:
    """Return bars, and states by name, as if they had been read from a snapshot."""
    state = dict(state or {})
    fields = {name: f"{STATE_INPUTS[name].kind}.{STATE_INPUTS[name].field}@binance.perp" for name in state}
    return TrainingData(bars, SNAPSHOT, "6" * 64, {}, state, fields)


def batches_of(bars: BarPanel) -> Iterator[BarBatch]:
    """Yield a panel as the live line stores it: one batch a bar, known at its end."""
    for t, closed_at in enumerate(map(instant_of, bars.closed_at)):
        rows = (bars.open[t], bars.high[t], bars.low[t], bars.close[t], bars.volume[t])
        yield BarBatch(bars.market, bars.interval, closed_at, closed_at, 0, bars.origin, bars.symbols, *rows)
