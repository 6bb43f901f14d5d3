"""What happens to the real bus when its server is killed, away, frozen, or robbed of what the bus needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import nats
import pytest
from nats.js import JetStreamContext
from tests.kit.servers import NatsServer, nats_server
from tests.libs.bus.harness import DEADLINE_S, QUICK, Recorder, message, payloads, subscription, until

from qraft_bus.nats import NatsBus
from qraft_bus.port import Delivery
from qraft_bus.publish import PublishRejected
from qraft_bus.settings import BusSettings
from qraft_bus.streams import MESSAGE_BYTES_MAX
from qraft_contracts.outcomes import Transient

pytestmark = pytest.mark.nats

OpenBus = Callable[..., NatsBus]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A server of the test's own, to be mistreated."""
    with nats_server() as own:
        yield own


@pytest.fixture
async def open_bus(server: NatsServer) -> AsyncIterator[OpenBus]:
    opened: list[NatsBus] = []

    def open_one(settings: BusSettings = QUICK) -> NatsBus:
        opened.append(NatsBus(server.url, name="test", settings=settings))
        return opened[-1]

    yield open_one
    for bus in opened:
        await bus.drain()


@pytest.fixture
async def admin(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url)
    yield client.jetstream()
    await client.close()


async def publish_steadily(bus: NatsBus, n_messages: int, *, published: list[int]) -> None:
    """Publish one after the other, like a service does; an exhausted retry goes on with the same message."""
    for number in range(n_messages):
        await bus.publish(message(number))
        published.append(number)
        await asyncio.sleep(0.002)


async def test_killed_server_loses_nothing_and_both_sides_go_on(server: NatsServer, open_bus: OpenBus) -> None:
    recorder, published = Recorder(), list[int]()
    publisher, consumer = open_bus(), open_bus()
    consumer.subscribe(subscription(recorder))
    await publisher.start()
    await consumer.start()
    publishing = asyncio.create_task(publish_steadily(publisher, 300, published=published))

    for n_before in (50, 150):
        await until(lambda n=n_before: len(published) >= n, what=f"{n_before} messages published")  # type: ignore[misc]
        server.kill()
        await asyncio.to_thread(server.start)
    await asyncio.wait_for(publishing, DEADLINE_S)
    await until(lambda: len(set(recorder.payloads)) == 300, what="every message handled")

    # An acknowledgement may be lost with the server, so a message may come twice; never out of order, never missing.
    assert list(dict.fromkeys(recorder.payloads)) == payloads(300)
    await until(lambda: consumer.is_connected and publisher.is_connected, what="connected again", within_s=2)


async def test_server_away_for_five_seconds_is_told_and_survived(server: NatsServer, open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()
    await bus.publish(message(0))
    server.kill()
    publishing = asyncio.create_task(bus.publish(message(1)))
    await until(lambda: not bus.is_connected, what="not connected", within_s=2)
    beats = await _beats_during(5.0)
    assert bus.why_not_connected == "not connected to the bus"
    await asyncio.to_thread(server.start)
    back_at = time.monotonic()

    await asyncio.wait_for(publishing, DEADLINE_S)
    await until(lambda: "payload 1" in recorder.payloads, what="the message published meanwhile")

    assert beats > 50  # of 250 on an idle machine: the event loop was free all the time
    assert time.monotonic() - back_at < 10
    await until(lambda: bus.is_connected, what="connected again", within_s=2)


async def _beats_during(seconds: float) -> int:
    """Return how often a task that sleeps 20 ms ran."""
    n_beats = 0
    until_at = time.monotonic() + seconds
    while time.monotonic() < until_at:
        await asyncio.sleep(0.02)
        n_beats += 1
    return n_beats


async def test_id_is_still_known_after_the_server_was_killed(server: NatsServer, open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()
    await bus.publish(message(0))
    server.kill()
    await asyncio.to_thread(server.start)

    again = await bus.publish(message(0))

    assert again.is_duplicate


async def test_publish_to_a_frozen_server_is_stored_once(server: NatsServer, open_bus: OpenBus) -> None:
    bus = open_bus(replace(QUICK, publish_timeout_s=0.3, publish_budget_s=10))
    await bus.start()
    server.freeze()
    publishing = asyncio.create_task(bus.publish_many([message(0), message(1)]))
    await until(lambda: not bus.is_connected, what="the frozen server noticed", within_s=10)

    server.thaw()
    acks = await asyncio.wait_for(publishing, DEADLINE_S)

    assert [ack.stream_seq for ack in acks] == [1, 2]
    newest = await bus.last("bars.>")
    assert newest is not None and newest.stream_seq == 2
    await until(lambda: bus.is_connected, what="connected again")


async def test_publish_gives_up_after_its_budget(server: NatsServer, open_bus: OpenBus) -> None:
    bus = open_bus(replace(QUICK, publish_timeout_s=0.2, publish_budget_s=0.5))
    await bus.start()
    server.kill()
    await until(lambda: not bus.is_connected, what="not connected", within_s=2)

    with pytest.raises(Transient, match="bus_away"):
        await asyncio.wait_for(bus.publish(message(0)), 3)
    with pytest.raises(Transient, match="bus_away"):
        await asyncio.wait_for(bus.publish_many([message(0)]), 3)


async def test_handler_whose_publish_finds_the_server_away_is_retried(server: NatsServer, open_bus: OpenBus) -> None:
    bus = open_bus(replace(QUICK, publish_timeout_s=0.2, publish_budget_s=0.3))
    started = asyncio.Event()

    async def forward(delivery: Delivery) -> None:
        if not started.is_set():
            started.set()
            server.kill()
        await bus.publish(message(0, subject="features.ready", schema="features/1"))

    bus.subscribe(subscription(forward))
    await bus.start()
    await bus.publish(message(0))
    await started.wait()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(server.start)

    recorder = Recorder()
    reader = open_bus()
    reader.subscribe(subscription(recorder, subject="features.>", schema="features/1"))
    await reader.start()
    await until(lambda: len(recorder.deliveries) == 1, what="the forwarded message")
    await until(lambda: bus.is_connected, what="connected again", within_s=2)


async def test_deleted_durable_is_fatal_in_time(admin: JetStreamContext, open_bus: OpenBus) -> None:
    bus = open_bus(replace(QUICK, watch_interval_s=2.0))
    bus.subscribe(subscription(Recorder()))
    await bus.start()

    await admin.delete_consumer("BARS", "reader")

    reason = await asyncio.wait_for(bus.wait_fatal(), 10)
    assert "durable reader of stream BARS is gone" in reason
    assert bus.why_not_connected == reason


@pytest.mark.parametrize("is_publisher", [True, False])
async def test_deleted_stream_is_fatal_in_time(admin: JetStreamContext, open_bus: OpenBus, is_publisher: bool) -> None:
    bus = open_bus()
    if not is_publisher:
        bus.subscribe(subscription(Recorder()))
    await bus.start()
    await bus.publish(message(0))

    await admin.delete_stream("BARS")

    assert "BARS is gone" in await asyncio.wait_for(bus.wait_fatal(), 10)


async def test_connection_closed_for_good_is_fatal_and_the_loop_stays_free(open_bus: OpenBus) -> None:
    bus = open_bus()
    bus.subscribe(subscription(Recorder()))
    await bus.start()

    await bus.broker.connection.close()

    assert "closed for good" in await asyncio.wait_for(bus.wait_fatal(), 2)
    assert await _beats_during(0.4) > 3


async def test_start_waits_for_the_server(server: NatsServer, open_bus: OpenBus) -> None:
    server.kill()
    bus = open_bus()
    starting = asyncio.create_task(bus.start())
    await asyncio.sleep(0.3)
    assert not starting.done() and not bus.is_connected

    await asyncio.to_thread(server.start)

    await asyncio.wait_for(starting, DEADLINE_S)
    assert bus.is_connected


async def test_start_gives_up_in_time(server: NatsServer, open_bus: OpenBus) -> None:
    server.kill()

    with pytest.raises(Transient, match="no JetStream"):
        await asyncio.wait_for(open_bus(replace(QUICK, connect_timeout_s=0.4)).start(), 3)


async def test_message_too_large_for_the_stream_is_our_bug(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()

    with pytest.raises(PublishRejected, match="exceeds maximum"):
        await bus.publish(replace(message(0), data=bytes(MESSAGE_BYTES_MAX)))


async def test_messages_fetched_and_not_handled_come_back_at_once(open_bus: OpenBus) -> None:
    """Ack wait is 30 s here: what a draining process holds must be handed back, not waited for."""
    settings = replace(QUICK, ack_wait_s=30, batch_size=10)
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(delivery: Delivery) -> None:
        started.set()
        await finish.wait()

    first, recorder = open_bus(settings), Recorder()
    first.subscribe(subscription(slow))
    await first.start()
    await first.publish_many([message(number) for number in range(10)])
    await started.wait()
    draining = asyncio.create_task(first.drain())
    await asyncio.sleep(0.05)
    finish.set()
    await draining

    second = open_bus(settings)
    second.subscribe(subscription(recorder))
    await second.start()

    await until(lambda: len(recorder.deliveries) >= 9, what="the other nine", within_s=5)
    assert recorder.payloads == payloads(10)[1:]


async def test_batches_keep_the_order_under_transient_failures(open_bus: OpenBus) -> None:
    n_calls = 0

    def fail_every_third(_: Delivery) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls % 3 == 0:
            raise Transient("database_away")

    recorder = Recorder(fail_every_third)
    bus = open_bus(replace(QUICK, batch_size=16))
    bus.subscribe(subscription(recorder))
    await bus.start()

    await bus.publish_many([message(number) for number in range(100)])
    await until(lambda: len(recorder.deliveries) == 100, what="a hundred messages")

    assert recorder.payloads == payloads(100)


async def test_more_messages_than_may_be_in_flight_are_published_in_order(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()

    acks = await bus.publish_many([message(number) for number in range(600)])

    assert [ack.stream_seq for ack in acks] == list(range(1, 601))


async def test_more_bytes_than_the_client_buffers_are_published_in_order(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()

    acks = await bus.publish_many([replace(message(number), data=bytes(100_000)) for number in range(100)])

    assert [ack.stream_seq for ack in acks] == list(range(1, 101))
