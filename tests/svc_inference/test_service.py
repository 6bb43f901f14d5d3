"""The wired service on a real nats-server and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.kit.servers import PostgresServer, postgres_server
from tests.libs.registry.kit import put_model
from tests.svc_inference.kit import AS_OF, BASE, features_message, make_batch, make_model

from qraft_bus.nats import NatsBus
from qraft_bus.port import Delivery, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.codec import decode
from qraft_contracts.signals import Signals
from qraft_contracts.subjects import HORIZONS
from qraft_registry.domain import Slot
from qraft_registry.postgres import PostgresRegistryStore, open_store
from qraft_registry.registry import Registry
from qraft_runtime.clock import SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from svc_inference.app import Application, build
from svc_inference.settings import InferenceSettings

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

STEP = timedelta(minutes=5)
WAIT_S = 20.0


class Stack:
    """The service, an operator beside it, and a collector of its signals."""

    def __init__(self, *, nats_url: str, dsn: str, home: Path) -> None:
        self.dsn = dsn
        self.nats_url = nats_url
        self.common = CommonSettings(nats_url=nats_url, postgres_dsn=dsn, home=home)
        # A net far longer than the tests: what they see comes from the messages.
        self.settings = InferenceSettings(refresh_s=3600.0, n_threads=1)
        self.artefacts = ObjectArtefactStore(self.common.artefacts)
        self.signals: list[Signals] = []
        self.arrived = asyncio.Condition()
        self.client = NatsBus(nats_url, name="client", settings=BusSettings())
        self.client.subscribe(
            Subscription(subject="signals.*", durable="collector", handler=self._collect, schemas=(Signals.SCHEMA,))
        )
        self.store: PostgresRegistryStore
        self.n_bars = 0

    async def _collect(self, delivery: Delivery) -> None:
        self.signals.append(decode(delivery.data, Signals))
        async with self.arrived:
            self.arrived.notify_all()

    async def start(self) -> None:
        self.store = await open_store(self.dsn, application_name="test", pool_size=2)
        self.registry = Registry(store=self.store, artefacts=self.artefacts, now=lambda: datetime.now(UTC))
        await self.client.start()
        self.application, self.background = await self.start_service(self.settings)

    async def start_service(self, settings: InferenceSettings) -> tuple[Application, list[asyncio.Task[None]]]:
        bus = NatsBus(self.nats_url, name="svc_inference", settings=BusSettings())
        application = build(self.common, settings, bus=bus, clock=SystemClock())
        await application.start()
        await bus.start()
        return application, [asyncio.create_task(make()) for make in application.background]

    async def stop(self) -> None:
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self.application.bus.drain()
        await self.application.stop()
        await self.client.drain()
        await self.store.close()

    async def activate(self, model: bytes) -> str:
        """Register and promote as the operator's command does, its messages published at the end."""
        model_id = await put_model(self.artefacts, model)
        await self.registry.register_candidate(model_id, actor="ada", reason="trained")
        await self.registry.promote(model_id, actor="ada", reason="gates pass")
        await self.store.publish_pending(self.client)
        return model_id

    async def publish_bar(self) -> None:
        await self.client.publish(features_message(make_batch(as_of=AS_OF + self.n_bars * STEP)))
        self.n_bars += 1

    async def answer(self) -> list[Signals]:
        """Publish one bar and return its four messages."""
        wanted = 4 * (self.n_bars + 1)
        await self.publish_bar()
        async with asyncio.timeout(WAIT_S), self.arrived:
            await self.arrived.wait_for(lambda: len(self.signals) >= wanted)
        return self.signals[wanted - 4 : wanted]

    async def until(self, is_true: Callable[[], bool]) -> float:
        """Wait for a claim about the service's board and return the seconds it took."""
        began = time.monotonic()
        async with asyncio.timeout(WAIT_S):
            while not is_true():
                await asyncio.sleep(0.002)
        return time.monotonic() - began

    def serves(self, horizon: str, model_id: str) -> bool:
        seat = self.application.follow.board.seat(horizon)
        return seat.model is not None and seat.model_id == model_id


@pytest.fixture
async def stack(nats_url: str, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(nats_url=nats_url, dsn=postgres_dsn, home=tmp_path)
    await stack.start()
    yield stack
    await stack.stop()


FIRST, SECOND = make_model(), make_model(base=[value * 0.9 for value in BASE])


async def test_service_answers_before_any_model_is_active_and_follows_the_activation(stack: Stack) -> None:
    before = await stack.answer()
    model_id = await stack.activate(FIRST)
    await stack.until(lambda: all(stack.serves(h, model_id) for h in HORIZONS))
    after = await stack.answer()

    assert [(s.horizon, s.reason) for s in before] == [(h, "no_active_model") for h in HORIZONS]
    assert [(s.horizon, s.model_id, len(s.rows)) for s in after] == [(h, model_id, 3) for h in HORIZONS]


async def test_rollback_takes_effect_in_under_a_second(stack: Stack) -> None:
    first = await stack.activate(FIRST)
    second = await stack.activate(SECOND)
    await stack.until(lambda: all(stack.serves(h, second) for h in HORIZONS))

    began = time.monotonic()
    await stack.registry.rollback(Slot("all", "4h"), actor="ada", reason="drift")
    await stack.store.publish_pending(stack.client)
    await stack.until(lambda: stack.serves("4h", first))
    took_s = time.monotonic() - began
    signals = await stack.answer()

    assert took_s < 1.0
    assert [s.model_id for s in signals] == [second, first, second, second]


async def test_every_replica_hears_of_a_decision(stack: Stack) -> None:
    other, background = await stack.start_service(stack.settings.model_copy(update={"instance_id": "1"}))

    model_id = await stack.activate(FIRST)
    boards = (stack.application.follow, other.follow)
    await stack.until(lambda: all(follow.board.seat("1h").model_id == model_id for follow in boards))

    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await other.bus.drain()
    await other.stop()


async def test_no_bar_is_lost_while_models_are_swapped(stack: Stack) -> None:
    await stack.activate(FIRST)
    second = await stack.activate(SECOND)

    for i in range(30):
        await stack.publish_bar()
        if i % 10 == 5:
            await stack.registry.rollback(Slot("all", "1h"), actor="ada", reason="drill")
            await stack.registry.promote(second, horizons=["1h"], actor="ada", reason="drill over")
            await stack.store.publish_pending(stack.client)
    await stack.answer()

    assert [s.as_of for s in stack.signals] == [AS_OF + i * STEP for i in range(31) for _ in HORIZONS]


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this module alone: it is crashed."""
    with postgres_server() as server:
        yield server


async def test_postgres_away_keeps_the_models_and_is_followed_again_when_it_is_back(
    nats_url: str, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    own_postgres.execute("CREATE DATABASE away")
    stack = Stack(nats_url=nats_url, dsn=own_postgres.dsn("away"), home=tmp_path)
    await stack.start()
    first = await stack.activate(FIRST)
    await stack.until(lambda: all(stack.serves(h, first) for h in HORIZONS))

    own_postgres.crash()
    stack.application.follow.ask()
    during = await stack.answer()
    own_postgres.start()
    await stack.store.close()
    stack.store = await open_store(stack.dsn, application_name="test", pool_size=2)
    stack.registry = Registry(store=stack.store, artefacts=stack.artefacts, now=lambda: datetime.now(UTC))
    second = await stack.activate(SECOND)
    await stack.until(lambda: all(stack.serves(h, second) for h in HORIZONS))

    assert {s.model_id for s in during} == {first}
    await stack.stop()
