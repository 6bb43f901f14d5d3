"""The composition root: the only file that names concrete adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from qraft_bus.nats import NatsBus
from qraft_bus.port import Bus, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.arrow_schemas import FEATURES_SCHEMA
from qraft_contracts.models import ModelDecision
from qraft_contracts.subjects import FEATURES_READY
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import Background, run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from svc_inference.adapters.active import RegistryActiveModels
from svc_inference.adapters.onnx import OnnxModelSource
from svc_inference.handlers import SERVICE, FeaturesHandler, ModelsHandler, tell
from svc_inference.settings import InferenceSettings
from svc_inference.usecases.follow import FollowRegistry

MODEL_SUBJECTS: Final = "models.>"


@dataclass(frozen=True, slots=True)
class Application:
    """The wired service. start before the bus, background while it runs, stop after it."""

    bus: Bus
    health: Health
    follow: FollowRegistry
    start: Callable[[], Awaitable[None]]
    background: tuple[Background, ...]
    stop: Callable[[], Awaitable[None]]


def build(common: CommonSettings, settings: InferenceSettings, *, bus: Bus, clock: Clock) -> Application:
    """Return the service on a bus that is not started yet."""
    artefacts = ObjectArtefactStore(common.artefacts)
    registry = RegistryActiveModels(
        common.postgres_dsn, symbol_group=settings.symbol_group, artefacts=artefacts, now=clock.now
    )
    source = OnnxModelSource(artefacts, n_threads=settings.n_threads)
    follow = FollowRegistry(registry=registry, source=source, refresh_s=settings.refresh_s, tell=tell)
    features = FeaturesHandler(
        bus=bus,
        follow=follow,
        clock=clock,
        market=common.market,
        interval=common.interval,
        age_max=timedelta(seconds=settings.input_age_max_s),
    )
    bus.subscribe(
        Subscription(
            subject=MODEL_SUBJECTS,
            durable=f"inference-models-{settings.instance_id}",
            handler=ModelsHandler(follow),
            schemas=(ModelDecision.SCHEMA,),
        )
    )
    bus.subscribe(
        Subscription(subject=FEATURES_READY, durable="inference", handler=features, schemas=(FEATURES_SCHEMA,))
    )
    health = Health()
    health.set_ready("models", False, "the registry has not been read yet")

    async def start() -> None:
        await follow.start()
        health.set_ready("models", True)

    return Application(bus, health, follow, start, (follow.run,), registry.close)


def run() -> int:
    """Run the service by the environment until it is told to stop; return the exit code."""
    common, settings = CommonSettings(), InferenceSettings()
    bus = NatsBus(common.nats_url, name=SERVICE, settings=BusSettings())
    application = build(common, settings, bus=bus, clock=SystemClock())
    return run_service(
        SERVICE,
        common,
        bus=application.bus,
        health=application.health,
        background=application.background,
        on_start=application.start,
        on_stop=application.stop,
    )
