"""The service's handlers on the memory bus: order, idempotence, resuming, counting, swapping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from tests.libs.registry.kit import manifest_of
from tests.svc_inference.kit import AS_OF, BASE, features_message, make_batch, make_model

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Delivery, OutMessage, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.arrow_schemas import FEATURES_SCHEMA
from qraft_contracts.codec import decode
from qraft_contracts.origin import Origin
from qraft_contracts.signals import Signals
from qraft_contracts.subjects import FEATURES_READY, HORIZONS, signals_subject
from qraft_runtime.clock import FixedClock
from svc_inference.adapters.onnx import open_model
from svc_inference.domain.model import ActiveModel
from svc_inference.handlers import SERVICE, FeaturesHandler, tell
from svc_inference.ports import Model
from svc_inference.usecases.follow import FollowRegistry

STEP = timedelta(minutes=5)
MODELS = {
    model.info.model_id: model
    for data in (make_model(), make_model(base=[value * 0.9 for value in BASE]))
    for model in [open_model(data, manifest=manifest_of(data, {}), n_threads=1)]
}
FIRST, SECOND = MODELS


class Chosen:
    """ActiveModels and ModelSource of a test: one model for every horizon."""

    def __init__(self) -> None:
        self.model_id = FIRST

    async def active(self) -> Mapping[str, ActiveModel]:
        return {horizon: ActiveModel(self.model_id, None) for horizon in HORIZONS}

    async def load(self, active: ActiveModel) -> Model:
        return MODELS[active.model_id]


class Bench:
    """One service on a broker that outlives it, and what came out of it."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.chosen = Chosen()
        self.clock = FixedClock(AS_OF)
        self.found: list[tuple[Delivery, Signals]] = []
        self.client = MemoryBus(self.broker, name="client", settings=BusSettings())
        self.client.subscribe(
            Subscription(subject="signals.*", durable="collector", handler=self._collect, schemas=(Signals.SCHEMA,))
        )

    async def _collect(self, delivery: Delivery) -> None:
        self.found.append((delivery, decode(delivery.data, Signals)))

    async def start(self) -> MemoryBus:
        """Start the service as a new process would, with nothing but the broker to remember."""
        bus = MemoryBus(self.broker, name=SERVICE, settings=BusSettings())
        self.follow = FollowRegistry(registry=self.chosen, source=self.chosen, refresh_s=30.0, tell=tell)
        await self.follow.start()
        handler = FeaturesHandler(bus=bus, follow=self.follow, clock=self.clock, market="crypto", interval="5m",
                                  age_max=timedelta(minutes=10))  # fmt: skip
        bus.subscribe(
            Subscription(subject=FEATURES_READY, durable="inference", handler=handler, schemas=(FEATURES_SCHEMA,))
        )
        await bus.start()
        return bus

    async def settle(self, bus: MemoryBus) -> list[Signals]:
        """Wait until all features are handled and all signals collected, and return the signals."""
        async with asyncio.timeout(10):
            while await bus.lag("FEATURES", "inference") or await self.client.lag("SIGNALS", "collector"):
                await asyncio.sleep(0)
        return [signals for _, signals in self.found]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.client.start()
    return bench


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("qraft_messages_refused_total", {"service": SERVICE, "reason": reason}) or 0.0


async def test_every_bar_gives_four_messages_in_the_order_of_the_horizons(bench: Bench) -> None:
    bus = await bench.start()

    await bench.client.publish_many([features_message(make_batch(as_of=AS_OF + i * STEP)) for i in range(3)])
    signals = await bench.settle(bus)

    assert [(s.horizon, s.as_of) for s in signals] == [(h, AS_OF + i * STEP) for i in range(3) for h in HORIZONS]
    first = bench.found[0][0]
    assert first.subject == "signals.1h"
    assert first.headers[headers.MESSAGE_ID] == "signals.1h/crypto/2025-06-02T00:00:00Z"
    assert first.headers[headers.ORIGIN] == "replay" and first.headers[headers.LINEAGE] == "test"
    assert [name.split("=")[0] for name in first.headers[headers.HOPS].split(",")] == ["client", SERVICE]
    await bus.drain()


async def test_bar_without_any_usable_row_still_gives_four_messages(bench: Bench) -> None:
    bus, before = await bench.start(), refused("signature_mismatch")

    await bench.client.publish(features_message(make_batch(signature="other")))
    signals = await bench.settle(bus)

    assert [(s.horizon, s.reason, s.rows) for s in signals] == [(h, "signature_mismatch", ()) for h in HORIZONS]
    assert refused("signature_mismatch") == before + 4
    await bus.drain()


async def test_refused_rows_are_counted_by_reason(bench: Bench) -> None:
    bus, before = await bench.start(), refused("nan_input")

    await bench.client.publish(features_message(make_batch([[0, 0], [float("nan"), 0], [0, 0]])))
    await bench.settle(bus)

    assert refused("nan_input") == before + 4
    await bus.drain()


async def test_stale_real_bar_is_answered_empty(bench: Bench) -> None:
    bus = await bench.start()
    bench.clock.at = AS_OF + timedelta(minutes=11)

    await bench.client.publish(features_message(make_batch(origin=Origin.REAL)))
    signals = await bench.settle(bus)

    assert {s.reason for s in signals} == {"stale_input"}
    await bus.drain()


@pytest.mark.parametrize("n_steps_back", [0, 1, 100])
async def test_bar_at_or_before_the_last_has_no_second_effect(bench: Bench, n_steps_back: int) -> None:
    bus, before = await bench.start(), refused("already_answered")
    late = features_message(make_batch([[1, 0], [1, 0], [1, 0]], as_of=AS_OF - n_steps_back * STEP))
    again = OutMessage(late.subject, late.data, "another-id", late.schema, late.as_of, late.origin, late.lineage)

    await bench.client.publish(features_message(make_batch()))
    await bench.client.publish(again)
    signals = await bench.settle(bus)

    assert len(signals) == 4 and refused("already_answered") == before + 1
    await bus.drain()


async def test_restart_does_not_answer_again(bench: Bench) -> None:
    bus = await bench.start()
    await bench.client.publish(features_message(make_batch()))
    await bench.settle(bus)
    await bus.drain()

    bus, before = await bench.start(), refused("already_answered")
    again = features_message(make_batch())
    await bench.client.publish(
        OutMessage(again.subject, again.data, "another-id", again.schema, again.as_of, again.origin, again.lineage)
    )
    signals = await bench.settle(bus)

    assert len(signals) == 4 and refused("already_answered") == before + 1
    await bus.drain()


@pytest.mark.parametrize("n_published", [1, 2, 3])
async def test_bar_of_which_some_horizons_went_out_is_completed_after_a_restart(bench: Bench, n_published: int) -> None:
    bus = await bench.start()
    await bench.client.publish(features_message(make_batch()))
    whole = await bench.settle(bus)
    await bus.drain()
    killed = Bench()
    await killed.client.start()
    await killed.client.publish_many(
        [
            OutMessage(d.subject, d.data, d.headers[headers.MESSAGE_ID], Signals.SCHEMA, s.as_of, s.origin, "test")
            for d, s in bench.found[:n_published]
        ]
    )

    bus = await killed.start()
    await killed.client.publish(features_message(make_batch()))
    signals = await killed.settle(bus)

    assert signals == whole
    await bus.drain()


async def test_undecodable_and_foreign_messages_are_put_aside_and_the_next_bar_is_answered(bench: Bench) -> None:
    bus, before = await bench.start(), refused("other_market")
    good = features_message(make_batch())
    torn = OutMessage(FEATURES_READY, good.data[:100], "torn", FEATURES_SCHEMA, AS_OF, Origin.REPLAY, "test")

    await bench.client.publish_many([torn, features_message(make_batch(market="stocks")), good])
    signals = await bench.settle(bus)

    assert len(signals) == 4 and all(s.rows for s in signals)
    assert refused("other_market") == before + 1
    assert await bench.client.last("deadletter.features") is not None
    await bus.drain()


async def test_swaps_between_bars_lose_no_bar_and_no_bar_sees_two_models(bench: Bench) -> None:
    bus = await bench.start()
    n_bars = 40

    for i in range(n_bars):
        await bench.client.publish(features_message(make_batch(as_of=AS_OF + i * STEP)))
        if i % 3 == 0:
            bench.chosen.model_id = SECOND if bench.chosen.model_id == FIRST else FIRST
            await bench.follow.refresh()
    signals = await bench.settle(bus)

    assert [s.as_of for s in signals] == [AS_OF + i * STEP for i in range(n_bars) for _ in HORIZONS]
    by_bar = [{s.model_id for s in signals[i : i + 4]} for i in range(0, len(signals), 4)]
    assert all(len(models) == 1 for models in by_bar) and set.union(*by_bar) == {FIRST, SECOND}
    await bus.drain()


async def test_every_subject_of_a_horizon_has_its_newest_message(bench: Bench) -> None:
    bus = await bench.start()

    await bench.client.publish(features_message(make_batch()))
    await bench.settle(bus)

    for horizon in HORIZONS:
        newest = await bench.client.last(signals_subject(horizon))
        assert newest is not None and decode(newest.data, Signals).horizon == horizon
    await bus.drain()
