"""The built-in market simulator: bars when there is no data and no exchange. Never evidence of anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from svc_ingest.domain.raw import FloatArray, RawChunk, RawRows, micros_of

# Fixed, so that a restart goes on with the same market; a plausible year for anyone who reads the screen.
START = datetime(2025, 1, 1, tzinfo=UTC)
_SECONDS_A_YEAR = 31_536_000
_START_PRICES = {"BTCUSDT": 90_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 180.0, "BNBUSDT": 650.0, "XRPUSDT": 2.2}
_START_PRICE = 100.0  # of any other symbol


@dataclass(slots=True)
class _State:
    """Where the market stands. price, variance: (n_symbols,); variance per bar, as a multiple of its long-run mean."""

    price: FloatArray
    variance: FloatArray
    is_stormy: bool = False


class MarketSimulator:
    """
    Prices with volatility clusters, calm and stormy regimes, jumps and a common factor; origin `simulated`.

    Log returns follow a GJR-GARCH(1,1) recursion (Glosten, Jagannathan, Runkle 1993, eq. 3) scaled by a two-state
    regime, plus Poisson jumps (Merton 1976). The same seed gives the same bars, whatever was asked for before.
    """

    def __init__(self, *, interval: str, symbols: Sequence[str], seed: int, n_days: int) -> None:
        self._symbols, self._seed, self._n_days = tuple(sorted(symbols)), seed, n_days
        self._step = timedelta(seconds=INTERVAL_SECONDS[interval])
        self._bars_a_day = max(1, timedelta(days=1) // self._step)

    @property
    def origin(self) -> Origin:
        """Return `simulated`."""
        return Origin.SIMULATED

    @property
    def description(self) -> str:
        """Return what the source is."""
        return "built-in market simulator (SIMULATED, not market data)"

    @property
    def lineage(self) -> str:
        """Return the seed, which is all that the bars depend on."""
        return f"simulator:seed={self._seed}"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols, sorted."""
        return self._symbols

    @property
    def is_live(self) -> bool:
        """Return False: nothing to wait for."""
        return False

    @property
    def last_closed_at(self) -> datetime | None:
        """Return the end of the last simulated day."""
        return START + timedelta(days=self._n_days)

    async def open(self) -> Mapping[str, int]:
        """Nothing to check: no row is out of order."""
        return dict.fromkeys(self._symbols, 0)

    async def chunks(self, *, after: datetime | None, until: datetime | None) -> AsyncIterator[RawChunk]:
        """Yield the bars day by day; the days before `after` are simulated too, to come to its state."""
        state = self._start()
        for day in range(self._n_days):
            first = START + timedelta(days=day)
            values = await asyncio.to_thread(self._simulate_day, state, day)
            if until is not None and first >= until:
                return
            if after is None or first + timedelta(days=1) > after:
                yield self._chunk(first, values, after, until)

    async def close(self) -> None:
        """Nothing is held open."""

    def _chunk(self, first: datetime, values: FloatArray, after: datetime | None, until: datetime | None) -> RawChunk:
        step = micros_of(START + self._step) - micros_of(START)
        closed_at = micros_of(first) + np.arange(1, self._bars_a_day + 1, dtype=np.int64) * step
        inside = np.ones(closed_at.size, dtype=bool)
        inside &= closed_at > (0 if after is None else micros_of(after))
        inside &= closed_at <= (closed_at[-1] if until is None else micros_of(until))
        rows = {
            symbol: RawRows(closed_at[inside], np.ascontiguousarray(values[inside, i]))
            for i, symbol in enumerate(self._symbols)
        }
        end = first + timedelta(days=1)
        return RawChunk(rows, until=end if until is None else min(end, until))

    def _start(self) -> _State:
        prices = [_START_PRICES.get(symbol, _START_PRICE) for symbol in self._symbols]
        return _State(np.array(prices), np.ones(len(prices)))

    def _simulate_day(self, state: _State, day: int) -> FloatArray:
        """Move the market by one day and return its bars: (n_bars, n_symbols, 5)."""
        n_bars, n = self._bars_a_day, len(self._symbols)
        rng = np.random.default_rng([self._seed, day])
        common, own = rng.standard_t(5, (n_bars, 1)), rng.standard_t(5, (n_bars, n))
        shocks = (0.75 * common + 0.66 * own) / np.sqrt(5 / 3)  # unit variance, correlation 0.56
        jumps = np.where(rng.random((n_bars, n)) < 2 / self._bars_a_day / 7, rng.normal(0, 8, (n_bars, n)), 0.0)
        turns, drift = rng.random(n_bars), rng.normal(0, 0.03, (1, n))
        returns, sigma = np.empty((n_bars, n)), np.empty((n_bars, n))
        # 60 % a year in the long run, 2.5 times that in a storm.
        unit = 0.6 * np.sqrt(self._step.total_seconds() / _SECONDS_A_YEAR)
        for i in range(n_bars):
            if turns[i] < (1 / 72 if state.is_stormy else 1 / 864):
                state.is_stormy = not state.is_stormy
            sigma[i] = unit * np.sqrt(state.variance) * (2.5 if state.is_stormy else 1.0)
            shock = shocks[i] + drift[0]
            returns[i] = sigma[i] * (shock + jumps[i])
            leverage = np.where(shock < 0, 0.04, 0.0)
            state.variance = np.minimum(
                0.05 + 0.90 * state.variance + (0.03 + leverage) * shock**2 * state.variance, 25
            )
        return self._bars(state, returns, sigma, rng)

    def _bars(self, state: _State, returns: FloatArray, sigma: FloatArray, rng: np.random.Generator) -> FloatArray:
        close = state.price * np.exp(np.cumsum(returns, axis=0))
        open_ = np.vstack([state.price, close[:-1]])
        state.price = close[-1]
        wicks = np.abs(rng.normal(0, 0.5, (2, *returns.shape))) * sigma
        high = np.maximum(open_, close) * np.exp(wicks[0])
        low = np.minimum(open_, close) * np.exp(-wicks[1])
        activity = np.exp(rng.normal(0, 0.4, returns.shape)) * (1 + np.abs(returns) / sigma)
        volume = activity * 2e6 / close  # about two million quote units a bar
        return np.stack([open_, high, low, close, volume], axis=2)
