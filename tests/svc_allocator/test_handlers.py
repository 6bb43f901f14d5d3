"""The allocator on the bus: one Targets a bar, whatever is missing, late, strange or killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.svc_allocator.kit import Desk, allocator_on, bar_at, bars_of_signals, memory_bus, message, signals

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Delivery, OutMessage, PublishAck
from qraft_contracts import headers
from qraft_contracts.codec import decode
from qraft_contracts.outcomes import Transient
from qraft_contracts.signals import Signals
from qraft_contracts.subjects import HORIZONS
from qraft_contracts.targets import Targets

INCOMPLETE = frozenset({(1, "1h"), (2, "7d"), (3, "4h"), (3, "1d")})


@asynccontextmanager
async def line() -> AsyncIterator[tuple[MemoryBroker, MemoryBus, Desk]]:
    """A broker, a started publisher and a started reader of targets."""
    broker = MemoryBroker()
    publisher, reader = memory_bus(broker, "inference"), memory_bus(broker, "desk")
    desk = Desk(reader)
    await publisher.start()
    await reader.start()
    yield broker, publisher, desk
    await reader.drain()
    await publisher.drain()


async def start_allocator(broker: MemoryBroker) -> MemoryBus:
    bus = memory_bus(broker, "allocator", drain_timeout_s=0.0)
    allocator_on(bus)
    await bus.start()
    return bus


async def until_settled(bus: MemoryBus) -> None:
    """Wait until every signal is acknowledged."""
    async with asyncio.timeout(20):
        while any([await bus.lag("SIGNALS", f"allocator-{h}") for h in HORIZONS]):
            await asyncio.sleep(0.001)


async def undisturbed(stream: Sequence[Signals], n_targets: int) -> list[bytes]:
    async with line() as (broker, publisher, desk):
        await publisher.publish_many([message(one) for one in stream])
        bus = await start_allocator(broker)
        await desk.wait_for(n_targets)
        await bus.drain()
    return [delivery.data for delivery in desk.received]


async def test_a_complete_bar_gives_one_targets_message_with_its_id_and_lineage():
    async with line() as (broker, publisher, desk):
        bus = await start_allocator(broker)
        await publisher.publish_many([message(one) for one in bars_of_signals(1)])
        (delivery,) = await desk.wait_for(1)
        await bus.drain()

    targets = decode(delivery.data, Targets)
    assert (targets.as_of, targets.profile, targets.hold) == (bar_at(0), "demo", False)
    assert [target.symbol for target in targets.targets] == ["BTCUSDT", "ETHUSDT"]
    assert delivery.headers[headers.MESSAGE_ID] == "targets.paper/crypto/2025-06-01T00:05:00Z"
    assert delivery.headers[headers.LINEAGE] == "run-1"
    assert [hop for hop, _ in headers.parse_hops(delivery.headers[headers.HOPS])] == ["inference", "allocator"]


async def test_bars_that_a_horizon_left_out_are_held_and_the_next_complete_bar_is_decided():
    targets = [decode(data, Targets) for data in await undisturbed(bars_of_signals(5, without=INCOMPLETE), 5)]

    assert [one.as_of for one in targets] == [bar_at(n) for n in range(5)]
    assert [one.reason for one in targets] == [None, *["incomplete_signals"] * 3, None]
    assert [one.hold for one in targets] == [False, True, True, True, False]
    assert targets[1].targets == () and targets[4].targets != ()


@pytest.mark.parametrize("n_before_kill", range(19))
async def test_killed_after_any_message_the_restarted_allocator_publishes_the_same_bytes(n_before_kill: int):
    stream = bars_of_signals(5, without=INCOMPLETE)
    expected = await undisturbed(stream, 5)

    async with line() as (broker, publisher, desk):
        first = await start_allocator(broker)
        for one in stream[:n_before_kill]:
            await publisher.publish(message(one))
            await asyncio.sleep(0.002)  # lets the handler get anywhere; the outcome may not depend on where
        await first.drain()
        await publisher.publish_many([message(one) for one in stream[n_before_kill:]])
        second = await start_allocator(broker)
        await desk.wait_for(5)
        await second.drain()

    assert [delivery.data for delivery in desk.received] == expected


class PublishThenHang:
    """A bus whose publish is stored and never answered: the process dies before it can acknowledge."""

    def __init__(self, bus: MemoryBus, *, is_stored: bool) -> None:
        self._bus = bus
        self._is_stored = is_stored
        self.reached = asyncio.Event()

    async def publish(self, out: OutMessage) -> PublishAck:
        if self._is_stored:
            await self._bus.publish(out)
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    async def last(self, subject: str) -> Delivery | None:
        return await self._bus.last(subject)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_killed_between_publish_and_acknowledge_there_is_one_effect(is_stored: bool):
    stream = bars_of_signals(2)
    expected = await undisturbed(stream, 2)

    async with line() as (broker, publisher, desk):
        await publisher.publish_many([message(one) for one in stream])
        first = memory_bus(broker, "allocator", drain_timeout_s=0.0)
        hanging = PublishThenHang(first, is_stored=is_stored)
        allocator_on(first, publish_through=hanging)  # type: ignore[arg-type]
        await first.start()
        await asyncio.wait_for(hanging.reached.wait(), 20)
        await first.drain()
        second = await start_allocator(broker)
        await desk.wait_for(2)
        await until_settled(second)
        await second.drain()

    assert [delivery.data for delivery in desk.received] == expected


class Counting:
    """A bus that remembers what was asked of it: the twin's own duplicate check would hide a second publish."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.message_ids: list[str] = []

    async def publish(self, out: OutMessage) -> PublishAck:
        self.message_ids.append(out.message_id)
        return await self._bus.publish(out)

    async def last(self, subject: str) -> Delivery | None:
        return await self._bus.last(subject)


async def test_signals_of_published_bars_have_no_second_effect_also_after_a_restart():
    stream = bars_of_signals(2)
    async with line() as (broker, publisher, desk):
        bus = await start_allocator(broker)
        await publisher.publish_many([message(one) for one in stream])
        await desk.wait_for(2)
        await until_settled(bus)
        await bus.drain()
        restarted = memory_bus(broker, "allocator", drain_timeout_s=0.0)
        counting = Counting(restarted)
        allocator_on(restarted, publish_through=counting)  # type: ignore[arg-type]
        await restarted.start()
        # The same bars under new ids, as after the stream's duplicate window.
        await publisher.publish_many([_with_id(message(one), f"again/{i}") for i, one in enumerate(stream)])
        await publisher.publish_many([message(one) for one in bars_of_signals(3)[8:]])
        await desk.wait_for(3)
        await restarted.drain()

    assert counting.message_ids == ["targets.paper/crypto/2025-06-01T00:15:00Z"]


async def test_undecodable_and_misplaced_signals_are_dead_letters_and_their_bar_is_held():
    good = bars_of_signals(2)
    async with line() as (broker, publisher, desk):
        bus = await start_allocator(broker)
        await publisher.publish_many([message(good[0], data=b"{"), message(good[1], subject="signals.1d")])
        await publisher.publish_many([message(one) for one in [*good[3:]]])
        (first, second) = await desk.wait_for(2)
        await bus.drain()
        last = await publisher.last("deadletter.signals")

    assert last is not None
    assert decode(first.data, Targets).reason == "incomplete_signals"
    assert decode(second.data, Targets).reason is None


async def test_signals_of_another_market_are_refused_and_disturb_nothing():
    async with line() as (broker, publisher, desk):
        bus = await start_allocator(broker)
        await publisher.publish(message(signals("1h", 0, market="stocks")))
        await publisher.publish_many([message(one) for one in bars_of_signals(1)])
        (only,) = await desk.wait_for(1)
        await bus.drain()

    assert decode(only.data, Targets).market == "crypto"


class FailOnce:
    """A bus that is away for the first publish."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.n_failed = 0

    async def publish(self, out: OutMessage) -> PublishAck:
        if self.n_failed == 0:
            self.n_failed += 1
            raise Transient("bus_away", "not now")
        return await self._bus.publish(out)

    async def last(self, subject: str) -> Delivery | None:
        return await self._bus.last(subject)


async def test_a_publish_that_fails_is_tried_again_and_the_bar_is_not_lost():
    async with line() as (broker, publisher, desk):
        bus = memory_bus(broker, "allocator", drain_timeout_s=0.0)
        failing = FailOnce(bus)
        allocator_on(bus, publish_through=failing)  # type: ignore[arg-type]
        await bus.start()
        await publisher.publish_many([message(one) for one in bars_of_signals(2)])
        received = await desk.wait_for(2)
        await bus.drain()

    assert failing.n_failed == 1
    assert [decode(one.data, Targets).as_of for one in received] == [bar_at(0), bar_at(1)]


def _with_id(out: OutMessage, message_id: str) -> OutMessage:
    return OutMessage(out.subject, out.data, message_id, out.schema, out.as_of, out.origin, out.lineage)
