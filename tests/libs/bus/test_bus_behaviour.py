"""One behaviour suite for the real bus and its twin."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.libs.bus.harness import (
    DEADLINE_S,
    QUICK,
    OpenBus,
    Recorder,
    dead_letters,
    fatal,
    message,
    payloads,
    subscription,
    until,
)

from qraft_bus import dead_letter as dead
from qraft_bus.port import Delivery
from qraft_contracts import headers
from qraft_contracts.outcomes import Malformed, Refused, Transient


async def test_messages_arrive_in_order_with_their_bytes_and_headers(open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()

    acks = await bus.publish_many([message(number) for number in range(50)])

    await until(lambda: len(recorder.deliveries) == 50, what="50 messages")
    assert recorder.payloads == payloads(50)
    assert [ack.stream_seq for ack in acks] == list(range(1, 51))
    first = recorder.deliveries[0]
    assert (first.stream, first.stream_seq, first.n_delivered, first.subject) == ("BARS", 1, 1, "bars.5m")
    assert {name: first.headers[name] for name in headers.REQUIRED[:5]} == {
        "Nats-Msg-Id": "bars.5m/0",
        "Qraft-Schema": "bars/1",
        "Qraft-As-Of": "2025-06-01T00:00:00Z",
        "Qraft-Origin": "simulated",
        "Qraft-Lineage": "test",
    }


async def test_trace_and_hops_are_carried_on_from_the_cause(open_bus: OpenBus) -> None:
    bus = open_bus("second")
    await bus.start()
    cause = {headers.TRACEPARENT: f"00-{'a' * 32}-{'b' * 16}-01", headers.HOPS: "first=1"}

    await bus.publish(replace(message(0), cause=cause))

    found = await bus.last("bars.5m")
    assert found is not None
    assert found.headers[headers.TRACEPARENT].startswith(f"00-{'a' * 32}-")
    assert found.headers[headers.TRACEPARENT] != cause[headers.TRACEPARENT]
    hops = headers.parse_hops(found.headers[headers.HOPS])
    assert [service for service, _ in hops] == ["first", "second"]


async def test_publishing_an_id_again_adds_nothing_and_is_a_success(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()

    first = await bus.publish(message(1))
    again = await bus.publish(message(2, message_id="bars.5m/1"))

    assert (first.is_duplicate, again.is_duplicate) == (False, True)
    assert again.stream_seq == first.stream_seq
    found = await bus.last("bars.>")
    assert found is not None and found.data == b"payload 1"


async def test_last_of_a_wildcard_is_the_newest_and_of_nothing_is_none(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()
    await bus.publish(message(1, subject="signals.1h"))
    await bus.publish(message(2, subject="signals.4h"))
    await bus.publish(message(3, subject="signals.1h"))

    newest, of_4h = await bus.last("signals.*"), await bus.last("signals.4h")

    assert newest is not None and newest.data == b"payload 3" and newest.stream_seq == 3
    assert of_4h is not None and of_4h.data == b"payload 2" and of_4h.subject == "signals.4h"
    assert await bus.last("signals.7d") is None


async def test_order_is_kept_while_a_message_is_retried(open_bus: OpenBus) -> None:
    fails_left = {"payload 3": 3, "payload 7": 1}

    def fail_sometimes(delivery: Delivery) -> None:
        text = delivery.data.decode()
        if fails_left.get(text, 0) > 0:
            fails_left[text] -= 1
            raise Transient("database_away")

    recorder = Recorder(fail_sometimes)
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()
    await bus.publish_many([message(number) for number in range(12)])

    await until(lambda: len(recorder.deliveries) == 12, what="12 messages")

    assert recorder.payloads == payloads(12)
    assert all(delivery.n_delivered == 1 for delivery in recorder.deliveries)


async def test_malformed_goes_to_the_dead_letters_whole_and_the_next_is_handled(open_bus: OpenBus) -> None:
    def refuse_first(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            raise Malformed("undecodable", "expected Arrow\nreceived é")

    recorder = Recorder(refuse_first)
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()
    await bus.publish_many([message(0), message(1)])
    await until(lambda: recorder.payloads == ["payload 1"], what="the next message")

    (letter,) = await dead_letters(open_bus, 1)

    assert (letter.subject, letter.data) == ("deadletter.bars", b"payload 0")
    assert letter.headers[dead.REASON] == "undecodable"
    assert letter.headers[dead.DETAIL] == r"expected Arrow\nreceived \xe9"
    assert letter.headers[dead.DURABLE] == "reader"
    assert letter.headers[dead.SUBJECT] == "bars.5m"
    assert letter.headers[dead.MESSAGE_ID] == "bars.5m/0"
    assert letter.headers[headers.MESSAGE_ID] == "deadletter/BARS/reader/1"
    assert letter.headers[headers.SCHEMA] == "bars/1"


async def test_unknown_schema_never_reaches_the_handler(open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()
    await bus.publish_many([message(0, schema="bars/2"), message(1)])
    await until(lambda: recorder.payloads == ["payload 1"], what="the known message")

    (letter,) = await dead_letters(open_bus, 1)

    assert letter.headers[dead.REASON] == "unknown_schema"


async def test_reader_of_dead_letters_that_fails_stops_instead_of_burying_them_again(open_bus: OpenBus) -> None:
    def malformed(_: Delivery) -> None:
        raise Malformed("undecodable")

    bus = open_bus()
    bus.subscribe(subscription(Recorder(malformed)))
    bus.subscribe(subscription(Recorder(malformed), subject="deadletter.>", durable="undertaker"))
    await bus.start()

    await bus.publish(message(0))

    assert "cannot be buried once more" in await fatal(bus)


async def test_refused_is_settled_and_not_buried(open_bus: OpenBus) -> None:
    def refuse(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            raise Refused("stale")

    recorder = Recorder(refuse)
    bus = open_bus()
    bus.subscribe(subscription(recorder))
    await bus.start()

    await bus.publish_many([message(0), message(1)])
    await until(lambda: recorder.payloads == ["payload 1"], what="the next message")
    await bus.drain()

    second = open_bus()
    await second.start()
    assert await second.last("deadletter.>") is None
    assert await second.lag("BARS", "reader") == 0


async def test_bug_in_a_handler_is_fatal_and_the_message_comes_again(open_bus: OpenBus) -> None:
    def crash(delivery: Delivery) -> None:
        if delivery.data == b"payload 1":
            raise KeyError("a bug")

    broken = Recorder(crash)
    bus = open_bus()
    bus.subscribe(subscription(broken))
    await bus.start()
    await bus.publish_many([message(number) for number in range(3)])

    reason = await fatal(bus)

    assert "KeyError" in reason and "BARS/2" in reason
    assert not bus.is_connected
    await bus.drain()
    assert broken.payloads == ["payload 0"]
    healed = Recorder()
    second = open_bus()
    second.subscribe(subscription(healed))
    await second.start()
    await until(lambda: len(healed.deliveries) == 2, what="the rest")
    assert healed.payloads == ["payload 1", "payload 2"]
    assert healed.deliveries[0].n_delivered == 2


async def test_transient_beyond_its_budget_is_fatal(open_bus: OpenBus) -> None:
    def away(_: Delivery) -> None:
        raise Transient("database_away")

    bus = open_bus(settings=replace(QUICK, transient_budget_s=0.2))
    bus.subscribe(subscription(Recorder(away)))
    await bus.start()
    await bus.publish(message(0))

    assert "database_away" in await fatal(bus)


async def test_crash_loop_on_one_message_ends_in_a_dead_letter(open_bus: OpenBus) -> None:
    def crash(delivery: Delivery) -> None:
        if delivery.data == b"payload 0":
            raise RuntimeError("crash")

    settings = replace(QUICK, ack_wait_s=0.2, max_deliveries=3)
    recorder = Recorder(crash)
    first = open_bus(settings=settings)
    await first.start()
    await first.publish_many([message(0), message(1)])
    for _ in range(3):
        bus = open_bus(settings=settings)
        bus.subscribe(subscription(recorder))
        await bus.start()
        await fatal(bus)
        await bus.drain()
    last = open_bus(settings=settings)
    last.subscribe(subscription(recorder))
    await last.start()

    await until(lambda: recorder.payloads == ["payload 1"], what="the message after the poison")

    (letter,) = await dead_letters(open_bus, 1)
    assert letter.headers[dead.REASON] == "poison"
    assert letter.headers[dead.DELIVERIES] == "4"


async def test_mostly_dead_letters_stop_the_consumer(open_bus: OpenBus) -> None:
    def malformed(_: Delivery) -> None:
        raise Malformed("undecodable")

    bus = open_bus(settings=replace(QUICK, dead_letter_min=5))
    bus.subscribe(subscription(Recorder(malformed)))
    await bus.start()
    await bus.publish_many([message(number) for number in range(10)])

    reason = await fatal(bus)

    assert "dead letters" in reason
    newest = await bus.last("deadletter.bars")
    assert newest is not None and newest.data == b"payload 3"


async def test_position_survives_a_new_bus(open_bus: OpenBus) -> None:
    first, second = Recorder(), Recorder()
    bus = open_bus()
    bus.subscribe(subscription(first))
    await bus.start()
    await bus.publish_many([message(number) for number in range(5)])
    await until(lambda: len(first.deliveries) == 5, what="five messages")
    await bus.drain()

    later = open_bus()
    later.subscribe(subscription(second))
    await later.start()
    await later.publish(message(5))
    await until(lambda: len(second.deliveries) == 1, what="the sixth message")

    assert second.payloads == ["payload 5"]


async def test_drain_lets_the_handler_in_progress_finish_and_takes_no_more(open_bus: OpenBus) -> None:
    started, finish, finished = asyncio.Event(), asyncio.Event(), []

    async def slow(delivery: Delivery) -> None:
        started.set()
        await finish.wait()
        finished.append(delivery.data)

    bus = open_bus()
    bus.subscribe(subscription(slow))
    await bus.start()
    await bus.publish_many([message(0), message(1)])
    await started.wait()

    draining = asyncio.create_task(bus.drain())
    await asyncio.sleep(0.05)
    assert not draining.done()
    finish.set()
    await asyncio.wait_for(draining, DEADLINE_S)

    assert finished == [b"payload 0"]
    second = open_bus()
    await second.start()
    assert await second.lag("BARS", "reader") == 1


async def test_drain_is_bounded_when_a_handler_hangs(open_bus: OpenBus) -> None:
    started = asyncio.Event()

    async def hang(_: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    bus = open_bus(settings=replace(QUICK, drain_timeout_s=0.2))
    bus.subscribe(subscription(hang))
    await bus.start()
    await bus.publish(message(0))
    await started.wait()

    await asyncio.wait_for(bus.drain(), 3)


async def test_handler_longer_than_the_ack_wait_runs_once(open_bus: OpenBus) -> None:
    calls: list[bytes] = []

    async def slow(delivery: Delivery) -> None:
        calls.append(delivery.data)
        await asyncio.sleep(0.5 if delivery.data == b"payload 0" else 0)

    settings = replace(QUICK, ack_wait_s=0.15)
    buses = [open_bus(settings=settings), open_bus(settings=settings)]
    for bus in buses:
        bus.subscribe(subscription(slow))
        await bus.start()

    await buses[0].publish_many([message(0), message(1)])
    await until(lambda: len(calls) == 2, what="both messages")

    assert calls == [b"payload 0", b"payload 1"]


async def test_lag_counts_what_a_durable_has_not_finished(open_bus: OpenBus) -> None:
    gate = asyncio.Event()

    async def wait(_: Delivery) -> None:
        await gate.wait()

    bus = open_bus()
    bus.subscribe(subscription(wait, durable="slow"))
    bus.subscribe(subscription(Recorder(), durable="quick"))
    await bus.start()
    await bus.publish_many([message(number) for number in range(4)])

    lags: dict[str, int] = {}
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while lags != {"slow": 4, "quick": 0} and asyncio.get_running_loop().time() < deadline:
        lags = {durable: await bus.lag("BARS", durable) for durable in ("slow", "quick")}

    assert lags == {"slow": 4, "quick": 0}
    assert await bus.slowest_lag("BARS") == 4
    assert await bus.slowest_lag("SIGNALS") == 0
    gate.set()


async def test_wildcard_subscription_sees_all_its_subjects_in_stream_order(open_bus: OpenBus) -> None:
    recorder = Recorder()
    bus = open_bus()
    bus.subscribe(subscription(recorder, subject="signals.*"))
    await bus.start()

    await bus.publish_many([message(number, subject=f"signals.{'1h' if number % 2 else '4h'}") for number in range(6)])
    await until(lambda: len(recorder.deliveries) == 6, what="six signals")

    assert recorder.payloads == payloads(6)


async def test_publishing_before_start_is_transient(open_bus: OpenBus) -> None:
    with pytest.raises(Transient, match="not started"):
        await open_bus().publish(message(0))


async def test_subject_without_a_stream_is_refused_at_once(open_bus: OpenBus) -> None:
    bus = open_bus()

    with pytest.raises(ValueError, match="expected a subject below"):
        bus.subscribe(subscription(Recorder(), subject="unknown.subject"))
