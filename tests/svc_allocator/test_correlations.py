"""Correlations of the day: which bars they see, and that they stay the same all day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_store.bars.memory import MemoryBarStore
from svc_allocator.adapters.correlations import BarStoreCorrelations

MIDNIGHT = datetime(2025, 6, 10, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def batch(closed_at: datetime, close: np.ndarray, *, interval: str = "1h") -> BarBatch:
    ones = np.ones(close.size)
    return BarBatch(
        "crypto",
        interval,
        closed_at,
        closed_at,
        0,
        Origin.REPLAY,
        SYMBOLS[: close.size],
        close,
        close,
        close,
        close,
        ones,
    )


def stored(prices: np.ndarray, *, first: datetime, interval: str = "1h", step: timedelta = timedelta(hours=1)):
    store = MemoryBarStore()
    store.append([batch(first + i * step, row, interval=interval) for i, row in enumerate(prices)])
    return store


def source(store: MemoryBarStore, *, interval: str = "1h") -> BarStoreCorrelations:
    return BarStoreCorrelations(store, market="crypto", interval=interval, n_common_min=84)


def random_prices(n: int) -> np.ndarray:
    return np.exp(np.cumsum(np.random.default_rng(11).normal(0.0, 0.01, (n, 3)), axis=0)) * 100.0


async def test_the_week_before_the_last_midnight_and_nothing_later_is_used():
    prices = random_prices(200)
    first = MIDNIGHT - timedelta(hours=180)
    found = source(stored(prices, first=first))

    at_midnight = await found.at(MIDNIGHT)
    later = await source(stored(prices, first=first)).at(MIDNIGHT + timedelta(hours=19))

    week = prices[180 - 168 : 181]
    assert at_midnight is not None and later is not None
    assert at_midnight.symbols == SYMBOLS
    assert at_midnight.matrix == pytest.approx(np.corrcoef(np.diff(np.log(week), axis=0).T))
    assert np.array_equal(at_midnight.matrix, later.matrix)


async def test_the_day_before_midnight_has_its_own_correlations():
    prices = random_prices(400)
    found = source(stored(prices, first=MIDNIGHT - timedelta(hours=300)))

    today = await found.at(MIDNIGHT)
    yesterday = await found.at(MIDNIGHT - timedelta(minutes=5))

    assert today is not None and yesterday is not None
    assert not np.array_equal(today.matrix, yesterday.matrix)


async def test_too_few_common_hours_are_unknown():
    found = await source(stored(random_prices(84), first=MIDNIGHT - timedelta(hours=83))).at(MIDNIGHT)

    assert found is not None and np.isnan(found.matrix).all()


async def test_no_bars_or_bars_longer_than_an_hour_give_nothing():
    daily = stored(random_prices(30), first=MIDNIGHT - timedelta(days=20), interval="1d", step=timedelta(days=1))

    assert await source(MemoryBarStore()).at(MIDNIGHT) is None
    assert await source(daily, interval="1d").at(MIDNIGHT) is None
