"""Small bars for the bar store tests, and every store that has to pass them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarPanel, BarStore

STEP = timedelta(minutes=5)
DAY = timedelta(days=1)
T0 = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)
SERIES: Final = Path("bars/5m/crypto")
STORES: Final = ("memory", "lake")


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[BarStore]:
    """Open one of STORES, empty."""
    if kind == "memory":
        yield MemoryBarStore()
        return
    lake = ParquetLake(folder / "lake")
    try:
        yield lake
    finally:
        lake.close()


def bar(
    closed_at: datetime,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    *,
    base: float = 100.0,
    revision: int = 0,
    origin: Origin = Origin.REPLAY,
    known_at: datetime | None = None,
    market: str = "crypto",
    interval: str = "5m",
) -> BarBatch:
    """Return one batch whose values depend on base, symbol and nothing else."""
    close = base + np.arange(len(symbols), dtype=np.float64)
    return BarBatch(
        market,
        interval,
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


def assert_same(left: BarPanel | None, right: BarPanel | None) -> None:
    """Compare two panels in everything."""
    assert (left is None) == (right is None)
    if left is None or right is None:
        return
    assert (left.market, left.interval, left.origin) == (right.market, right.interval, right.origin)
    assert left.symbols == right.symbols
    for name in ("closed_at", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
        assert getattr(left, name).flags.c_contiguous
