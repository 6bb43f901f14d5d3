"""What happens to work queues and to questions when the server or a worker's process is killed, away or frozen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace

import nats
import pytest
from tests.kit.servers import NatsServer, nats_server
from tests.libs.bus.harness import (
    DEADLINE_S,
    QUICK,
    Gate,
    Recorder,
    answerer,
    ask,
    fatal,
    job,
    payloads,
    until,
    until_lag,
    work,
)

from qraft_bus.nats import NatsBus
from qraft_bus.port import Delivery
from qraft_bus.settings import BusSettings
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


async def test_killed_server_loses_no_work_and_workers_go_on(server: NatsServer, open_bus: OpenBus) -> None:
    done: list[str] = []

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.005)
        done.append(delivery.data.decode())

    bus, publisher = open_bus(), open_bus()
    bus.work(work(handle))
    await bus.start()
    await publisher.start()

    async def publish() -> None:
        for number in range(300):
            await publisher.publish(job(number))
            await asyncio.sleep(0.002)

    publishing = asyncio.create_task(publish())
    for n_before in (50, 150):
        await until(lambda n=n_before: len(done) >= n, what=f"{n_before} messages")  # type: ignore[misc]
        server.kill()
        await asyncio.to_thread(server.start)
    await asyncio.wait_for(publishing, DEADLINE_S)
    await until_lag(bus, 0)

    # An acknowledgement may be lost with the server, so a message may come twice; never missing.
    assert set(done) == set(payloads(300))
    assert bus.is_connected


async def test_handlers_finish_while_the_server_is_away_and_the_queue_goes_on_when_it_is_back(
    server: NatsServer, open_bus: OpenBus
) -> None:
    gate = Gate()
    bus = open_bus()
    bus.work(work(gate, ack_wait_s=30))
    await bus.start()
    await bus.publish_many([job(0), job(1)])
    await until(lambda: gate.n_inside == 2, what="two handlers")
    server.kill()
    await until(lambda: not bus.is_connected, what="not connected")

    gate.opened.set()
    await until(lambda: len(gate.left) == 2, what="both done")
    await asyncio.to_thread(server.start)

    await until_lag(bus, 0)
    await bus.publish(job(2))
    await until(lambda: "payload 2" in gate.left, what="the next message")
    await until_lag(bus, 0)
    # The server may have forgotten the delivery with the last 100 ms before it was killed; then it comes twice.
    assert set(gate.left) == set(payloads(3))


async def test_idle_worker_of_a_frozen_server_works_again_when_it_thaws(server: NatsServer, open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.work(work(recorder))
    await bus.start()
    server.freeze()
    await until(lambda: not bus.is_connected, what="the frozen server noticed", within_s=10)

    server.thaw()
    publishing = asyncio.create_task(bus.publish(job(0)))

    await until(lambda: recorder.payloads == ["payload 0"], what="the message", within_s=10)
    await publishing
    await until(lambda: bus.is_connected, what="connected again", within_s=5)


async def test_deleted_work_queue_is_fatal_in_time(server: NatsServer, open_bus: OpenBus) -> None:
    bus = open_bus()
    bus.work(work(Recorder()))
    await bus.start()
    admin = await nats.connect(server.url)

    await admin.jetstream().delete_consumer("IMAGEJOBS", "imagegen-openai")

    assert "durable imagegen-openai of stream IMAGEJOBS is gone" in await fatal(bus)
    await admin.close()


async def test_message_that_looks_like_a_status_of_the_server_is_work_all_the_same(
    server: NatsServer, open_bus: OpenBus
) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.work(work(recorder))
    await bus.start()
    await bus.publish(job(0))
    sample = await bus.last("imagejob.>")
    assert sample is not None
    stranger = await nats.connect(server.url)

    await stranger.jetstream().publish(
        "imagejob.created.openai", b"", headers={**sample.headers, "Nats-Msg-Id": "other", "Status": "409"}
    )

    await until_lag(bus, 0)
    assert sorted(recorder.payloads) == ["", "payload 0"]
    await stranger.close()


WORKER = """
    import asyncio, sys
    from qraft_bus.nats import NatsBus
    from qraft_bus.port import WorkSubscription
    from qraft_bus.settings import BusSettings

    async def handle(delivery):
        print(delivery.data.decode(), flush=True)
        await asyncio.Event().wait()

    async def main():
        bus = NatsBus(sys.argv[1], name="worker", settings=BusSettings())
        bus.work(
            WorkSubscription(
                "imagejob.created.openai", "imagegen-openai", handle, ("imagejob/1",), n_concurrent=2, ack_wait_s=0.6
            )
        )
        await bus.start()
        await bus.wait_fatal()

    asyncio.run(main())
"""


@contextlib.contextmanager
def worker_process(url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(WORKER), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def test_work_of_a_killed_process_comes_again_after_the_ack_wait_and_not_before(
    server: NatsServer, open_bus: OpenBus
) -> None:
    publisher, recorder = open_bus(), Recorder()
    await publisher.start()
    await publisher.publish_many([job(0), job(1)])
    with worker_process(server.url) as process:
        assert process.stdout is not None
        taken = {await asyncio.to_thread(process.stdout.readline) for _ in range(2)}
        assert taken == {"payload 0\n", "payload 1\n"}
        second = open_bus()
        second.work(work(recorder, n_concurrent=2))
        await second.start()
        await asyncio.sleep(0.9)  # more than the ack wait: its heartbeats keep the work
        assert recorder.deliveries == []

        process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await until(lambda: len(recorder.deliveries) == 2, what="both messages again")

    assert time.monotonic() - killed_at < 5
    assert sorted(recorder.payloads) == payloads(2)
    assert {delivery.n_delivered for delivery in recorder.deliveries} == {2}


async def test_questions_fail_at_once_when_the_server_is_killed_and_work_again_when_it_is_back(
    server: NatsServer, open_bus: OpenBus
) -> None:
    hang = asyncio.Event()

    async def handle(data: bytes, _: Mapping[str, str]) -> bytes:
        if data == b"hang":
            await hang.wait()
        return data

    bus, caller = open_bus(), open_bus()
    bus.answer(answerer(handle))
    await bus.start()
    await caller.start()
    asking = [asyncio.create_task(ask(caller, b"hang", timeout_s=30)) for _ in range(50)]
    assert await ask(caller, b"1") == b"1"  # so the fifty are there
    server.kill()
    killed_at = time.monotonic()

    outcomes = await asyncio.gather(*asking, return_exceptions=True)

    assert time.monotonic() - killed_at < 5
    assert all(isinstance(outcome, Transient) and outcome.reason == "bus_away" for outcome in outcomes)
    with pytest.raises(Transient, match="bus_away"):
        await ask(caller, b"2", timeout_s=30)
    hang.set()
    await asyncio.to_thread(server.start)
    await until(lambda: bus.is_connected and caller.is_connected, what="connected again")
    assert await _ask_until_answered(caller) == b"again"


async def _ask_until_answered(caller: NatsBus) -> bytes:
    """The answerer may be back a moment after the caller."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await ask(caller, b"again", timeout_s=1)
            except Transient:
                await asyncio.sleep(0.05)


async def test_questions_to_a_frozen_server_end_in_time_and_none_hangs(server: NatsServer, open_bus: OpenBus) -> None:
    async def echo(data: bytes, _: Mapping[str, str]) -> bytes:
        return data

    bus, caller = open_bus(), open_bus(replace(QUICK, drain_timeout_s=1))
    bus.answer(answerer(echo))
    await bus.start()
    await caller.start()
    server.freeze()
    began = time.monotonic()

    # 8 MB: more than the sockets take, so some wait in the client's own buffer.
    big = bytes(8_000)
    outcomes = await asyncio.gather(*(ask(caller, big, timeout_s=0.5) for _ in range(1_000)), return_exceptions=True)

    assert time.monotonic() - began < 4
    assert all(isinstance(outcome, Transient) for outcome in outcomes)
    server.thaw()
    await until(lambda: bus.is_connected and caller.is_connected, what="connected again", within_s=10)
    assert await _ask_until_answered(caller) == b"again"


async def test_answer_too_large_for_the_server_is_our_bug(open_bus: OpenBus) -> None:
    async def too_much(_: bytes, __: Mapping[str, str]) -> bytes:
        return bytes(9 << 20)

    bus, caller = open_bus(), open_bus()
    bus.answer(answerer(too_much))
    await bus.start()
    await caller.start()

    with pytest.raises(Transient, match="request_timeout"):
        await ask(caller, b"?", timeout_s=0.3)
    with pytest.raises(ValueError, match="a question of at most"):
        await ask(caller, bytes(9 << 20))

    assert "billing.reserve" in await fatal(bus)
