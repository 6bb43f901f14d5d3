"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.lake import open_bars
from svc_allocator.adapters.correlations import BarStoreCorrelations
from svc_allocator.handlers import SignalsHandler
from svc_allocator.settings import AllocatorSettings

NAME: Final = "svc_allocator"

# A handler in progress either publishes, which takes milliseconds, or waits for a horizon that a draining bus will
# not bring any more. Its message stays unacknowledged and comes again, so there is nothing to wait for.
_DRAIN_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Application:
    """One allocator, wired and not yet started."""

    common: CommonSettings
    bus: NatsBus
    health: Health

    def run(self) -> int:
        """Run until SIGTERM or until the bus cannot go on; return the exit code."""
        return run_service(NAME, self.common, bus=self.bus, health=self.health)


def build(common: CommonSettings, settings: AllocatorSettings) -> Application:
    """Wire the service."""
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings(drain_timeout_s=_DRAIN_TIMEOUT_S))
    correlations = BarStoreCorrelations(
        open_bars(common),
        market=common.market,
        interval=common.interval,
        n_common_min=settings.n_common_returns_min,
    )
    handler = SignalsHandler(
        bus,
        market=common.market,
        interval=common.interval,
        limits=settings.limits,
        correlations=correlations,
    )
    for subscription in handler.subscriptions():
        bus.subscribe(subscription)
    return Application(common, bus, Health())
