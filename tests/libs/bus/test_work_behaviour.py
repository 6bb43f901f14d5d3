"""Work queues: one behaviour suite for the real bus and its twin."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.libs.bus.harness import (
    DEADLINE_S,
    QUICK,
    Gate,
    OpenBus,
    Recorder,
    dead_letters,
    fatal,
    job,
    message,
    payloads,
    subscription,
    until,
    until_lag,
    work,
)

from qraft_bus import dead_letter as dead
from qraft_bus.port import RETRY_LATER_S_MAX, Delivery, RetryLater
from qraft_contracts.outcomes import Malformed, Refused, Transient


async def test_every_message_is_handled_once_with_its_bytes_and_headers(open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.work(work(recorder))
    await bus.start()

    await bus.publish_many([job(number) for number in range(200)])
    await until_lag(bus, 0)

    assert sorted(recorder.payloads) == sorted(payloads(200))
    first = recorder.deliveries[0]
    assert (first.subject, first.stream, first.n_delivered) == ("imagejob.created.openai", "IMAGEJOBS", 1)
    assert first.headers["Qraft-Schema"] == "imagejob/1"


async def test_only_messages_of_its_subject_are_handled(open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.work(work(recorder))
    await bus.start()

    await bus.publish(job(0, provider="gemini"))
    await bus.publish(message(1, subject="imagejob.succeeded", schema="imagejob/1"))
    await bus.publish(job(2))

    await until_lag(bus, 0)
    assert recorder.payloads == ["payload 2"]


async def test_as_many_as_allowed_are_handled_at_once_and_no_more(open_bus: OpenBus) -> None:
    gate = Gate()
    bus = open_bus()
    bus.work(work(gate, n_concurrent=4))
    await bus.start()
    await bus.publish_many([job(number) for number in range(10)])
    await until(lambda: gate.n_inside == 4, what="four handlers at once")
    await asyncio.sleep(0.1)
    assert gate.n_inside == 4

    gate.opened.set()
    await until_lag(bus, 0)

    assert gate.n_inside_max == 4
    assert sorted(gate.left) == sorted(payloads(10))


async def test_two_workers_share_one_cap(open_bus: OpenBus) -> None:
    gate = Gate()
    for name in ("first", "second"):
        bus = open_bus(name)
        bus.work(work(gate, n_concurrent=4))
        await bus.start()
    await bus.publish_many([job(number) for number in range(30)])
    await until(lambda: gate.n_inside == 4, what="four handlers at once")
    await asyncio.sleep(0.3)
    assert gate.n_inside == 4

    gate.opened.set()
    await until_lag(bus, 0)

    assert gate.n_inside_max == 4
    assert sorted(gate.left) == sorted(payloads(30))


async def test_waiting_worker_gets_a_new_message_within_milliseconds(open_bus: OpenBus) -> None:
    arrived_at: list[float] = []

    async def note(_: Delivery) -> None:
        arrived_at.append(time.monotonic())

    bus = open_bus()
    bus.work(work(note))
    await bus.start()
    waits_s = []
    for number in range(20):
        await asyncio.sleep(0.02)
        sent_at = time.monotonic()
        await bus.publish(job(number))
        await until(lambda n=number: len(arrived_at) > n, what="the message")  # type: ignore[misc]
        waits_s.append(arrived_at[-1] - sent_at)

    # Polled each QUICK.idle_fetch_s it would be 0.15 s.
    assert sorted(waits_s)[10] < 0.05


async def test_slow_message_does_not_hold_up_the_others(open_bus: OpenBus) -> None:
    release, done = asyncio.Event(), []

    async def handle(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            await release.wait()
        done.append(delivery.data.decode())

    bus = open_bus()
    bus.work(work(handle, n_concurrent=2))
    await bus.start()
    await bus.publish_many([job(number) for number in range(20)])

    await until(lambda: len(done) == 19, what="all others")
    release.set()
    await until_lag(bus, 0)

    assert done == [*payloads(20)[1:], "payload 0"]


async def test_handler_longer_than_the_ack_wait_runs_once(open_bus: OpenBus) -> None:
    calls: list[tuple[bytes, int]] = []

    async def slow(delivery: Delivery) -> None:
        calls.append((delivery.data, delivery.n_delivered))
        await asyncio.sleep(0.8)

    for name in ("first", "second"):
        bus = open_bus(name)
        bus.work(work(slow, ack_wait_s=0.2))
        await bus.start()

    await bus.publish_many([job(0), job(1)])
    await until_lag(bus, 0)

    assert sorted(calls) == [(b"payload 0", 1), (b"payload 1", 1)]


async def test_transient_failure_comes_again_after_a_pause_and_frees_its_slot(open_bus: OpenBus) -> None:
    begun_at: list[float] = []
    done: list[str] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            begun_at.append(time.monotonic())
            if delivery.n_delivered < 3:
                raise Transient("database_away")
        done.append(delivery.data.decode())

    settings = replace(QUICK, backoff_first_s=0.2, backoff_max_s=0.2)
    bus = open_bus(settings=settings)
    bus.work(work(handle, n_concurrent=2))
    await bus.start()
    await bus.publish_many([job(number) for number in range(10)])
    await until_lag(bus, 0)

    assert done == [*payloads(10)[1:], "payload 0"]
    pauses_s = [later - before for before, later in pairwise(begun_at)]
    assert len(pauses_s) == 2 and all(0.09 < pause_s < 2 for pause_s in pauses_s)


async def test_retry_later_comes_again_when_it_asked_to(open_bus: OpenBus) -> None:
    begun_at: list[float] = []

    async def handle(delivery: Delivery) -> None:
        begun_at.append(time.monotonic())
        if delivery.n_delivered == 1:
            raise RetryLater(0.4, "the provider said so")

    bus = open_bus()
    bus.work(work(handle))
    await bus.start()
    await bus.publish(job(0))
    await until_lag(bus, 0)

    assert len(begun_at) == 2
    assert 0.35 < begun_at[1] - begun_at[0] < 2
    assert bus.is_connected


async def test_message_that_waits_for_its_retry_counts_to_the_cap(open_bus: OpenBus) -> None:
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        handled.append(delivery.data.decode())
        if delivery.n_delivered == 1:
            raise RetryLater(0.4)

    bus = open_bus()
    bus.work(work(handle, n_concurrent=1))
    await bus.start()
    await bus.publish_many([job(0), job(1)])
    await until_lag(bus, 0)

    assert handled == ["payload 0", "payload 0", "payload 1", "payload 1"]


async def test_message_comes_again_without_end(open_bus: OpenBus) -> None:
    n_delivered: list[int] = []

    async def handle(delivery: Delivery) -> None:
        n_delivered.append(delivery.n_delivered)
        if delivery.n_delivered <= 3 * QUICK.max_deliveries:
            raise RetryLater(0)

    bus = open_bus()
    bus.work(work(handle))
    await bus.start()
    await bus.publish(job(0))
    await until(lambda: len(n_delivered) == 3 * QUICK.max_deliveries + 1, what="the last delivery")
    await until_lag(bus, 0)

    assert n_delivered == list(range(1, 3 * QUICK.max_deliveries + 2))
    assert await bus.last("deadletter.>") is None


async def test_malformed_goes_to_the_dead_letters_whole(open_bus: OpenBus) -> None:
    def refuse_first(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            raise Malformed("undecodable", "expected JSON")

    recorder = Recorder(refuse_first)
    bus = open_bus()
    bus.work(work(recorder))
    await bus.start()
    await bus.publish_many([job(0), job(1), job(2, schema="imagejob/2")])
    await until_lag(bus, 0)

    letters = await dead_letters(open_bus, 2)

    assert recorder.payloads == ["payload 1"]
    assert {(it.subject, it.data, it.headers[dead.REASON], it.headers[dead.DURABLE]) for it in letters} == {
        ("deadletter.imagejobs", b"payload 0", "undecodable", "imagegen-openai"),
        ("deadletter.imagejobs", b"payload 2", "unknown_schema", "imagegen-openai"),
    }


async def test_refused_is_done(open_bus: OpenBus) -> None:
    def refuse(_: Delivery) -> None:
        raise Refused("canceled")

    bus = open_bus()
    bus.work(work(Recorder(refuse)))
    await bus.start()
    await bus.publish(job(0))

    await until_lag(bus, 0)

    assert await bus.last("deadletter.>") is None
    assert bus.is_connected


async def test_bug_is_fatal_and_the_message_comes_again_for_the_next_process(open_bus: OpenBus) -> None:
    def crash(delivery: Delivery) -> None:
        if delivery.data == b"payload 1":
            raise KeyError("a bug")

    bus = open_bus()
    bus.work(work(Recorder(crash), ack_wait_s=0.3))
    await bus.start()
    await bus.publish_many([job(0), job(1)])

    reason = await fatal(bus)

    assert "KeyError" in reason and "IMAGEJOBS/2" in reason and "imagegen-openai" in reason
    await bus.drain()
    healed = Recorder()
    second = open_bus()
    second.work(work(healed, ack_wait_s=0.3))
    await second.start()
    await until(lambda: healed.payloads == ["payload 1"], what="the message again")
    assert healed.deliveries[0].n_delivered >= 2


async def test_mostly_dead_letters_stop_the_worker(open_bus: OpenBus) -> None:
    def malformed(_: Delivery) -> None:
        raise Malformed("undecodable")

    bus = open_bus(settings=replace(QUICK, dead_letter_min=5))
    bus.work(work(Recorder(malformed), n_concurrent=1))
    await bus.start()
    await bus.publish_many([job(number) for number in range(10)])

    assert "dead letters" in await fatal(bus)
    newest = await bus.last("deadletter.imagejobs")
    assert newest is not None and newest.data == b"payload 3"


async def test_drain_waits_for_handlers_in_progress_and_hands_the_rest_to_others(open_bus: OpenBus) -> None:
    gate, rest = Gate(), Recorder()
    bus = open_bus()
    bus.work(work(gate, n_concurrent=2, ack_wait_s=30))
    await bus.start()
    await bus.publish_many([job(number) for number in range(4)])
    await until(lambda: gate.n_inside == 2, what="two handlers")

    draining = asyncio.create_task(bus.drain())
    await asyncio.sleep(0.1)
    assert not draining.done()
    gate.opened.set()
    await asyncio.wait_for(draining, DEADLINE_S)

    assert sorted(gate.left) == payloads(2)
    second = open_bus()
    second.work(work(rest, n_concurrent=2, ack_wait_s=30))
    await second.start()
    await until_lag(second, 0)
    assert sorted(rest.payloads) == payloads(4)[2:]


async def test_drain_leaves_what_is_late_to_the_next_process(open_bus: OpenBus) -> None:
    gate, again = Gate(), Recorder()
    bus = open_bus(settings=replace(QUICK, drain_timeout_s=0.2))
    bus.work(work(gate, ack_wait_s=0.3))
    await bus.start()
    await bus.publish(job(0))
    await until(lambda: gate.n_inside == 1, what="the handler")

    await asyncio.wait_for(bus.drain(), 3)

    assert gate.left == []
    second = open_bus()
    second.work(work(again, ack_wait_s=0.3))
    await second.start()
    await until(lambda: len(again.deliveries) == 1, what="the message again")
    assert again.deliveries[0].n_delivered == 2


async def test_work_and_ordered_subscriptions_live_on_one_bus(open_bus: OpenBus) -> None:
    worked, read = Recorder(), Recorder()
    bus = open_bus()
    bus.work(work(worked))
    bus.work(work(worked, provider="gemini"))
    bus.subscribe(subscription(read, subject="ledger.>", durable="ledger-reader", schema="ledger/1"))
    await bus.start()

    await bus.publish_many(
        [job(0), job(1, provider="gemini"), message(2, subject="ledger.entries.a", schema="ledger/1")]
    )
    await until_lag(bus, 0)
    await until_lag(bus, 0, durable="imagegen-gemini")
    await until(lambda: read.payloads == ["payload 2"], what="the entry")

    assert sorted(worked.payloads) == payloads(2)
    assert [it.durable for it in bus.works] == ["imagegen-openai", "imagegen-gemini"]


def test_values_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="n_concurrent"):
        work(Recorder(), n_concurrent=0)
    with pytest.raises(ValueError, match="ack_wait_s"):
        work(Recorder(), ack_wait_s=0)
    with pytest.raises(ValueError, match="a delay of 0"):
        RetryLater(RETRY_LATER_S_MAX + 1)


async def test_work_is_registered_before_start_on_a_stream(open_bus: OpenBus) -> None:
    bus = open_bus()
    with pytest.raises(ValueError, match="expected a subject below"):
        bus.work(replace(work(Recorder()), subject="unknown.subject"))
    await bus.start()

    with pytest.raises(ValueError, match="before start"):
        bus.work(work(Recorder()))
