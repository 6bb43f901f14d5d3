"""The capability gate's memory: one look-up for all calls of a moment, two seconds old at most, forgotten when told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from tests.svc_imagegen.jobs.line import ScriptedProvider, SteppedClock

from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters.memory import MemoryCapabilityStore
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.failures import CallRefused
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.routing import ModelRoute
from svc_imagegen.usecases.gate import CapabilityGate

REQUEST = ImageRequest(operation=Operation.GENERATION, model="simulated-1", prompt="a fox", size="64x64")
ROUTE = ModelRoute("simulated", "simulated-1", is_simulated=True, public_id="simulated-1")


class CountingStore(MemoryCapabilityStore):
    """The twin, slow and counting; it can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.n_asked = 0
        self.is_away = False

    async def list_all(self) -> Sequence[Capability]:
        self.n_asked += 1
        found = await super().list_all()
        await asyncio.sleep(0.01)
        if self.is_away:
            raise Transient("postgres_away", "for a test")
        return found

    async def find(self, support: Support) -> None:
        at = datetime(2026, 11, 21, tzinfo=UTC)
        await self.record(Capability("simulated", "simulated-1", "size:64x64", support, "test", at))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def gate(store: CountingStore, clock: SteppedClock) -> CapabilityGate:
    return CapabilityGate(store, [ScriptedProvider()], clock=clock)


async def check(gate: CapabilityGate) -> None:
    await gate.check(REQUEST, ROUTE, uploads=())


async def test_calls_of_one_moment_look_once(gate: CapabilityGate, store: CountingStore, clock: SteppedClock) -> None:
    await asyncio.gather(*(check(gate) for _ in range(50)))
    clock.forward(1.9)
    await check(gate)
    assert store.n_asked == 1

    clock.forward(0.2)
    await asyncio.gather(*(check(gate) for _ in range(50)))
    assert store.n_asked == 2


async def test_a_new_finding_counts_after_two_seconds_and_at_once_when_told(
    gate: CapabilityGate, store: CountingStore, clock: SteppedClock
) -> None:
    await check(gate)
    await store.find(Support.UNSUPPORTED)
    await check(gate)

    clock.forward(2)
    with pytest.raises(CallRefused):
        await check(gate)
    await store.find(Support.SUPPORTED)
    gate.forget()
    await check(gate)


async def test_what_is_forgotten_during_a_look_up_is_looked_up_again(
    gate: CapabilityGate, store: CountingStore
) -> None:
    looking = asyncio.create_task(check(gate))
    await asyncio.sleep(0.005)
    await store.find(Support.UNSUPPORTED)
    gate.forget()
    await looking

    with pytest.raises(CallRefused):
        await check(gate)


async def test_a_store_that_is_away_is_asked_again_by_the_next_call(gate: CapabilityGate, store: CountingStore) -> None:
    store.is_away = True
    with pytest.raises(Transient):
        await check(gate)

    store.is_away = False
    await check(gate)
    assert store.n_asked == 2
