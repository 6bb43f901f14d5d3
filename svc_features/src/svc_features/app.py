"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.lake import ParquetLake
from svc_features.handlers import BarsHandler
from svc_features.settings import FeaturesSettings
from svc_features.usecases import ComputeFeatures

NAME: Final = "svc_features"


@dataclass(frozen=True, slots=True)
class Application:
    """The service, wired and not yet started."""

    common: CommonSettings
    bus: NatsBus
    health: Health

    def run(self) -> int:
        """Run until SIGTERM or until the bus cannot go on; return the exit code."""
        return run_service(NAME, self.common, bus=self.bus, health=self.health)


def build(common: CommonSettings, settings: FeaturesSettings) -> Application:
    """Wire the service."""
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings())
    store = ParquetLake(common.lake)
    compute = ComputeFeatures(common.market, common.interval, store, settings.n_symbols_max)
    bus.subscribe(BarsHandler(bus, compute).subscription())
    return Application(common, bus, Health())
