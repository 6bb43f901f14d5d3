"""Signals of a bar, a bus with everything on it, and a reader of what was published."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Bus, Delivery, OutMessage, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.codec import encode
from qraft_contracts.origin import Origin
from qraft_contracts.signals import SignalRow, Signals, signals_id
from qraft_contracts.subjects import HORIZONS, TARGETS_PAPER, signals_subject
from qraft_contracts.targets import Targets
from qraft_contracts.times import format_instant
from qraft_quant.allocation import DEMO
from qraft_store.bars.memory import MemoryBarStore
from svc_allocator.adapters.correlations import BarStoreCorrelations
from svc_allocator.handlers import SignalsHandler

START = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)
BUCKETS = {"1h": "mean_reversion", "4h": "event", "1d": "trend", "7d": "trend"}
Row = tuple[float, float, float]


def bar_at(n: int) -> datetime:
    return START + timedelta(minutes=5 * n)


def signals(horizon: str, n: int, rows: Mapping[str, Row] | None = None, **changes: object) -> Signals:
    """Signals of the n-th bar; rows: symbol -> (expected return, confidence, volatility)."""
    if rows is None:
        rows = {"BTCUSDT": (0.02 + 0.0001 * n, 0.7, 0.05), "ETHUSDT": (-0.03, 0.7, 0.05), "SOLUSDT": (0.0, 0.7, 0.05)}
    fields: dict[str, object] = {
        "market": "crypto",
        "interval": "5m",
        "horizon": horizon,
        "as_of": bar_at(n),
        "origin": Origin.REPLAY,
        "model_id": "m0123456789abcdef",
        "feature_signature": "f1",
        "bucket": BUCKETS[horizon],
        "cost": 0.003,
        "rows": tuple(SignalRow(symbol, *row) for symbol, row in rows.items()),
        **changes,
    }
    return Signals(**fields)  # type: ignore[arg-type]


def message(of: Signals, *, subject: str | None = None, data: bytes | None = None) -> OutMessage:
    return OutMessage(
        subject=subject or signals_subject(of.horizon),
        data=encode(of) if data is None else data,
        message_id=signals_id(of.market, format_instant(of.as_of), of.horizon),
        schema=Signals.SCHEMA,
        as_of=of.as_of,
        origin=of.origin,
        lineage="run-1",
    )


def bars_of_signals(n_bars: int, *, without: frozenset[tuple[int, str]] = frozenset()) -> list[Signals]:
    return [signals(h, n) for n in range(n_bars) for h in HORIZONS if (n, h) not in without]


class Desk:
    """Reads targets.paper from the start, as svc_execution would."""

    def __init__(self, bus: Bus) -> None:
        self.received: list[Delivery] = []
        self._changed = asyncio.Event()
        bus.subscribe(Subscription(TARGETS_PAPER, "desk", self._receive, (Targets.SCHEMA,)))

    async def _receive(self, delivery: Delivery) -> None:
        self.received.append(delivery)
        self._changed.set()

    async def wait_for(self, n: int) -> list[Delivery]:
        async with asyncio.timeout(20):
            while len(self.received) < n:
                self._changed.clear()
                await self._changed.wait()
        return self.received


def memory_bus(broker: MemoryBroker, name: str, *, drain_timeout_s: float = 1.0) -> MemoryBus:
    return MemoryBus(broker, name=name, settings=BusSettings(drain_timeout_s=drain_timeout_s))


def allocator_on(bus: Bus, *, publish_through: Bus | None = None) -> SignalsHandler:
    """The allocator as app.py wires it, but for the adapters."""
    correlations = BarStoreCorrelations(MemoryBarStore(), market="crypto", interval="5m", n_common_min=84)
    handler = SignalsHandler(
        publish_through or bus, market="crypto", interval="5m", limits=DEMO, correlations=correlations
    )
    for subscription in handler.subscriptions():
        bus.subscribe(subscription)
    return handler
