"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_quant.features import compile_engine
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.lake import ParquetLake
from svc_features.handlers import SERVICE, BarsHandler
from svc_features.settings import FeaturesSettings
from svc_features.usecases import ComputeFeatures


@dataclass(frozen=True, slots=True)
class Application:
    """The service, wired and not yet started."""

    common: CommonSettings
    bus: NatsBus
    health: Health

    def run(self) -> int:
        """Run until SIGTERM or until the bus cannot go on; return the exit code."""
        return run_service(SERVICE, self.common, bus=self.bus, health=self.health, on_start=_compile)


async def _compile() -> None:
    # Before the first message: ten seconds in a handler would look like a dead consumer to the bus.
    await asyncio.to_thread(compile_engine)


def build(common: CommonSettings, settings: FeaturesSettings) -> Application:
    """Wire the service."""
    bus = NatsBus(common.nats_url, name=SERVICE, settings=BusSettings())
    store = ParquetLake(common.lake)
    compute = ComputeFeatures(common.market, common.interval, store, settings.n_symbols_max)
    bus.subscribe(BarsHandler(bus, compute).subscription())
    return Application(common, bus, Health())
