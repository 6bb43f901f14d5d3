"""The real service without a bus around it, its desk served over HTTP, and a day of trading to put into its journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.libs.web.browser import serve
from tests.svc_execution.kit import T0, at, deliver_bar, deliver_targets, make_targets

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.settings import BusSettings
from qraft_contracts.origin import Origin
from qraft_contracts.targets import ScoreSummary, Targets
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import SystemClock
from qraft_runtime.http import build_http_app
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.memory import MemoryBarStore
from svc_execution.app import Application
from svc_execution.settings import ExecutionSettings

REAL_SYMBOLS = ("BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
N_BARS_HISTORY = 300  # the volatility of 288 bars is known from the first order on
N_BARS_LOOK_BACK = 48
# (threshold, look-back in bars) of each horizon in the score summaries below.
HORIZONS = {"1h": (0.60, 12), "4h": (0.50, 48), "1d": (0.35, 96), "7d": (0.25, 192)}
_VALUES = ("open", "high", "low", "close", "volume")
# When each service before execution published, after the bar.
_HOP_NS = {"svc_ingest": 0, "svc_features": 900_000, "svc_inference": 2_600_000, "svc_allocator": 4_100_000}


@dataclass(slots=True)
class DeskSite:
    """A running desk. trade: put one bar and its targets through the real handlers."""

    address: str
    dsn: str
    application: Application
    store: MemoryBarStore

    async def trade(self, bar: BarBatch, targets: Targets) -> None:
        """Handle one bar and the targets made on it, as the bus would bring them."""
        self.store.append([bar])
        start_ns = time.time_ns()
        hops = ",".join(f"{name}={start_ns + after_ns}" for name, after_ns in _HOP_NS.items())
        await self.application.merge.on_bars(deliver_bar(bar))
        await self.application.merge.on_targets(deliver_targets(targets, hops=hops))


@asynccontextmanager
async def running_desk(dsn: str, *, history: Sequence[BarBatch] = (), port: int = 0) -> AsyncIterator[DeskSite]:
    """Yield the real application on a real journal, serving its real routes."""
    store = MemoryBarStore()
    store.append(history)
    bus = MemoryBus(MemoryBroker(), name="svc_execution", settings=BusSettings())
    common = CommonSettings(postgres_dsn=dsn)
    application = Application(common, ExecutionSettings(), bus=bus, store=store, clock=SystemClock())
    await application.start()
    await bus.start()
    background = [asyncio.create_task(run()) for run in application.background]
    try:
        async with serve(build_http_app(application.health, application.routes), port=port) as address:
            yield DeskSite(address, dsn, application, store)
    finally:
        await cancel_and_wait(*background)
        await bus.drain()
        await application.stop()


def real_bars(qraft_data: Path, *, n_bars: int) -> list[BarBatch]:
    """Return the first bars after T0 of five real perpetuals; bar i ends at `at(i)`."""
    columns = {
        symbol: _columns(qraft_data / "bars" / "perp_5m_2025" / f"{symbol}.parquet", n_bars) for symbol in REAL_SYMBOLS
    }
    return [
        BarBatch(
            market="crypto",
            interval="5m",
            closed_at=at(i + 1),
            known_at=at(i + 1),
            revision=0,
            origin=Origin.REPLAY,
            symbols=REAL_SYMBOLS,
            **{
                name: np.array([columns[s][name][i] for s in REAL_SYMBOLS])
                for name in ("open", "high", "low", "close", "volume")
            },
        )
        for i in range(n_bars)
    ]


def _columns(path: Path, n_bars: int) -> Mapping[str, np.ndarray]:
    table = pq.read_table(path)
    opened_s = table["open_time"].cast(pa.timestamp("s", tz="UTC")).cast(pa.int64()).to_numpy()
    first = int(np.searchsorted(opened_s, T0.timestamp()))
    assert opened_s[first] == T0.timestamp()
    return {name: table[name].to_numpy()[first : first + n_bars] for name in _VALUES}


async def trade_momentum(site: DeskSite, bars: Sequence[BarBatch]) -> None:
    """
    Trade every bar after the history: against the move of the last four hours, a new view every hour.

    On the last bar no score passes, so that the desk has to say so.
    """
    weights: dict[str, float] = {}
    for i in range(N_BARS_HISTORY, len(bars)):
        if i % 12 == 0:
            weights = _contrarian_weights(bars, i)
        is_last = i == len(bars) - 1
        scores = tuple(_summary(bars, i, horizon, is_last) for horizon in HORIZONS)
        policy = "long" if i % 24 else "short"
        targets = make_targets(i + 1, weights, profile="demo", policy=policy, scores=scores)
        await site.trade(bars[i], targets)


def _contrarian_weights(bars: Sequence[BarBatch], i: int) -> dict[str, float]:
    moves = bars[i].close / bars[i - N_BARS_LOOK_BACK].close - 1.0
    weights = np.clip(-8.0 * moves, -0.2, 0.2)
    return {symbol: float(w) for symbol, w in zip(REAL_SYMBOLS, weights, strict=True) if abs(w) > 0.03}


def _summary(bars: Sequence[BarBatch], i: int, horizon: str, is_last: bool) -> ScoreSummary:
    threshold, n_back = HORIZONS[horizon]
    closes = np.array([bar.close for bar in bars[i - n_back : i + 1]])
    returns = np.diff(np.log(closes), axis=0)
    scores = np.abs(returns.sum(axis=0)) / (returns.std(axis=0) * np.sqrt(n_back)) - 0.4
    if is_last:
        scores = np.minimum(scores, 0.9 * threshold)
    low, p50, p90, best = (float(np.quantile(scores, q)) for q in (0.0, 0.5, 0.9, 1.0))
    n_passed = int((scores >= threshold).sum())
    return ScoreSummary(horizon, len(scores), n_passed, low, p50, p90, best, threshold, threshold - best)


def simulated(bar: BarBatch) -> BarBatch:
    """Return the bar with the origin `simulated`."""
    return replace(bar, origin=Origin.SIMULATED)
