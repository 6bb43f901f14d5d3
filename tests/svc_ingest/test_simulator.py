"""The built-in market: reproducible, possible bars, and never taken for real."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from qraft_contracts.origin import Origin
from svc_ingest.adapters.simulator import START, MarketSimulator
from svc_ingest.domain.quality import is_impossible

SYMBOLS = ("ETHUSDT", "BTCUSDT")


def make(seed: int = 7, n_days: int = 4) -> MarketSimulator:
    return MarketSimulator(interval="5m", symbols=SYMBOLS, seed=seed, n_days=n_days)


async def values_of(source: MarketSimulator, *, after=None, until=None) -> dict[str, np.ndarray]:
    chunks = [chunk async for chunk in source.chunks(after=after, until=until)]
    return {s: np.concatenate([chunk.rows[s].values for chunk in chunks]) for s in SYMBOLS}


async def test_origin_and_name_say_simulated() -> None:
    assert make().origin is Origin.SIMULATED
    assert "SIMULATED" in make().description
    assert make().symbols == ("BTCUSDT", "ETHUSDT")
    assert make().last_closed_at == START + timedelta(days=4)


async def test_same_seed_gives_the_same_bars_from_any_start() -> None:
    whole = await values_of(make())
    rest = await values_of(make(), after=START + timedelta(days=2, hours=5))

    for symbol in SYMBOLS:
        assert len(whole[symbol]) == 4 * 288
        np.testing.assert_array_equal(whole[symbol][2 * 288 + 60 :], rest[symbol])
    assert not np.array_equal(whole["BTCUSDT"], (await values_of(make(seed=8)))["BTCUSDT"])


async def test_until_is_inclusive() -> None:
    found = await values_of(make(), until=START + timedelta(days=1, minutes=5))

    assert len(found["BTCUSDT"]) == 289


async def test_every_bar_is_possible_and_opens_where_the_last_closed() -> None:
    for values in (await values_of(make(n_days=20))).values():
        assert not is_impossible(values).any()
        np.testing.assert_array_equal(values[1:, 0], values[:-1, 3])


async def test_volatility_clusters_and_tails_are_heavy() -> None:
    close = (await values_of(make(n_days=40)))["BTCUSDT"][:, 3]
    returns = np.diff(np.log(close))
    size = np.abs(returns)

    assert 0.2 < returns.std() * np.sqrt(288 * 365) < 2.0
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.05
    assert ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2 > 4
