"""Small bars for the bar store tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch

STEP = timedelta(minutes=5)
T0 = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)


def bar(
    closed_at: datetime,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    *,
    base: float = 100.0,
    revision: int = 0,
    origin: Origin = Origin.REPLAY,
    known_at: datetime | None = None,
) -> BarBatch:
    """Return one batch whose values depend on base, symbol and nothing else."""
    close = base + np.arange(len(symbols), dtype=np.float64)
    return BarBatch(
        "crypto",
        "5m",
        closed_at,
        known_at or closed_at,
        revision,
        origin,
        tuple(symbols),
        close - 1,
        close + 2,
        close - 2,
        close,
        close * 10,
    )


def bars(n: int, *, start: datetime = T0, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT")) -> list[BarBatch]:
    """Return n batches, one a grid step."""
    return [bar(start + i * STEP, symbols, base=100.0 + i) for i in range(n)]
