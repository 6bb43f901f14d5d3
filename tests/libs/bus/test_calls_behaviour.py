"""Questions and answers: one behaviour suite for the real bus and its twin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.libs.bus.harness import DEADLINE_S, QUICK, OpenBus, answerer, ask, fatal, until

from qraft_bus.port import Bus
from qraft_contracts import headers as names
from qraft_contracts.outcomes import Malformed, Outcome, Refused, Transient


async def echo(data: bytes, _: Mapping[str, str]) -> bytes:
    return b"answer to " + data


async def test_answer_is_what_the_handler_returns_for_the_bytes_and_headers_it_got(open_bus: OpenBus) -> None:
    asked: list[tuple[bytes, Mapping[str, str]]] = []

    async def handle(data: bytes, headers: Mapping[str, str]) -> bytes:
        asked.append((data, headers))
        return bytes(range(256))

    bus, caller = open_bus("svc_billing"), open_bus("svc_imagegen")
    bus.answer(answerer(handle))
    await bus.start()
    await caller.start()
    cause = {names.TRACEPARENT: f"00-{'a' * 32}-{'b' * 16}-01"}

    answer = await caller.request("billing.reserve", b"\x00\xff", schema="billing.reserve/1", timeout_s=5, cause=cause)

    assert answer == bytes(range(256))
    ((data, headers),) = asked
    assert data == b"\x00\xff"
    assert headers[names.SCHEMA] == "billing.reserve/1"
    assert headers[names.TRACEPARENT].split("-")[1] == "a" * 32
    assert headers[names.TRACEPARENT] != cause[names.TRACEPARENT]


async def test_process_may_ask_itself(open_bus: OpenBus) -> None:
    bus = open_bus()
    bus.answer(answerer(echo))
    await bus.start()

    assert await ask(bus, b"1") == b"answer to 1"


async def test_each_of_a_thousand_questions_at_once_gets_its_own_answer_once(open_bus: OpenBus) -> None:
    n_asked = 0

    async def handle(data: bytes, _: Mapping[str, str]) -> bytes:
        nonlocal n_asked
        n_asked += 1
        await asyncio.sleep(0.001 * (data[-1] % 7))  # they overtake each other
        return data

    caller = open_bus()
    for name in ("first", "second"):
        bus = open_bus(name)
        bus.answer(answerer(handle))
        await bus.start()
    await caller.start()

    answers = await asyncio.gather(*(ask(caller, str(number).encode()) for number in range(1_000)))

    assert answers == [str(number).encode() for number in range(1_000)]
    assert n_asked == 1_000


async def test_members_of_a_queue_group_share_the_questions(open_bus: OpenBus) -> None:
    n_of: dict[str, int] = {"first": 0, "second": 0}
    for name in n_of:
        bus = open_bus(name)

        async def handle(data: bytes, _: Mapping[str, str], name: str = name) -> bytes:
            n_of[name] += 1
            return data

        bus.answer(answerer(handle))
        await bus.start()

    for number in range(60):
        await ask(bus, str(number).encode())

    assert sum(n_of.values()) == 60 and min(n_of.values()) > 5


async def test_handler_may_return_a_future_that_somebody_else_fulfills(open_bus: OpenBus) -> None:
    waiting: list[tuple[bytes, asyncio.Future[bytes]]] = []

    def queue_up(data: bytes, _: Mapping[str, str]) -> asyncio.Future[bytes]:
        place = asyncio.get_running_loop().create_future()
        waiting.append((data, place))
        return place

    bus = open_bus()
    bus.answer(answerer(queue_up))
    await bus.start()
    asking = [asyncio.create_task(ask(bus, str(number).encode())) for number in range(10)]
    await until(lambda: len(waiting) == 10, what="ten places in the queue")

    for data, place in waiting:
        place.set_result(b"done " + data)

    assert await asyncio.gather(*asking) == [f"done {number}".encode() for number in range(10)]


async def test_question_that_nobody_answers_fails_at_once(open_bus: OpenBus) -> None:
    bus = open_bus()
    await bus.start()
    began = time.monotonic()

    with pytest.raises(Transient, match="no_responders"):
        await ask(bus, b"?", timeout_s=10)

    assert time.monotonic() - began < 5


async def test_answer_that_is_late_is_transient_and_harms_no_later_question(open_bus: OpenBus) -> None:
    release = asyncio.Event()

    async def slow(data: bytes, _: Mapping[str, str]) -> bytes:
        if data == b"slow":
            await release.wait()
        return data

    bus = open_bus()
    bus.answer(answerer(slow))
    await bus.start()

    with pytest.raises(Transient, match="request_timeout"):
        await ask(bus, b"slow", timeout_s=0.1)
    release.set()

    assert await ask(bus, b"next") == b"next"


@pytest.mark.parametrize("outcome", [Malformed, Refused, Transient])
async def test_named_outcome_of_the_handler_is_raised_at_the_caller(open_bus: OpenBus, outcome: type[Outcome]) -> None:
    async def fail(_: bytes, __: Mapping[str, str]) -> bytes:
        raise outcome("database_away", "ask\r\nagain é")

    bus = open_bus()
    bus.answer(answerer(fail))
    await bus.start()

    with pytest.raises(outcome) as raised:
        await ask(bus, b"?")

    assert raised.value.reason == "database_away"
    assert raised.value.detail == r"ask\r\nagain \xe9"
    assert bus.is_connected


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_bug_in_a_handler_is_fatal_and_the_caller_hears_nothing(open_bus: OpenBus, is_at_once: bool) -> None:
    def crash_at_once(_: bytes, __: Mapping[str, str]) -> asyncio.Future[bytes]:
        raise KeyError("a bug")

    async def crash(_: bytes, __: Mapping[str, str]) -> bytes:
        raise KeyError("a bug")

    bus, caller = open_bus(), open_bus()
    bus.answer(answerer(crash_at_once if is_at_once else crash))
    await bus.start()
    await caller.start()

    with pytest.raises(Transient, match="request_timeout"):
        await ask(caller, b"?", timeout_s=0.3)

    reason = await fatal(bus)
    assert "billing.reserve" in reason and "KeyError" in reason
    assert not bus.is_connected and caller.is_connected


async def test_questions_beyond_the_bound_are_answered_as_overloaded_at_once(open_bus: OpenBus) -> None:
    release, n_begun = asyncio.Event(), 0

    async def wait(data: bytes, _: Mapping[str, str]) -> bytes:
        nonlocal n_begun
        n_begun += 1
        await release.wait()
        return data

    bus, caller = open_bus(), open_bus()
    bus.answer(replace(answerer(wait), n_concurrent_max=3))
    await bus.start()
    await caller.start()
    asking = [asyncio.create_task(ask(caller, b"ok")) for _ in range(10)]
    await until(lambda: sum(task.done() for task in asking) == 7, what="seven answers")

    release.set()
    answers = await asyncio.gather(*asking)

    assert sorted(answers) == [b"ok"] * 3 + [b"overloaded"] * 7
    assert n_begun == 3
    assert await ask(caller, b"ok") == b"ok"


async def test_drain_answers_what_it_has_taken_and_takes_no_more(open_bus: OpenBus) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def wait(data: bytes, _: Mapping[str, str]) -> bytes:
        begun.set()
        await release.wait()
        return data

    bus, caller = open_bus(), open_bus()
    bus.answer(answerer(wait))
    await bus.start()
    await caller.start()
    asking = asyncio.create_task(ask(caller, b"in progress"))
    await begun.wait()

    draining = asyncio.create_task(bus.drain())
    await _until_nobody_answers(caller)
    assert not draining.done()
    release.set()
    await asyncio.wait_for(draining, DEADLINE_S)

    assert await asking == b"in progress"


async def _until_nobody_answers(caller: Bus) -> None:
    for _ in range(100):
        try:
            await ask(caller, b"?", timeout_s=0.02)
        except Transient as error:
            if error.reason == "no_responders":
                return
    pytest.fail("questions are still taken")


async def test_drain_is_bounded_when_an_answer_never_comes(open_bus: OpenBus) -> None:
    begun = asyncio.Event()

    async def hang(_: bytes, __: Mapping[str, str]) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    bus, caller = open_bus(settings=replace(QUICK, drain_timeout_s=0.2)), open_bus()
    bus.answer(answerer(hang))
    await bus.start()
    await caller.start()
    asking = asyncio.create_task(ask(caller, b"?", timeout_s=1))
    await begun.wait()

    await asyncio.wait_for(bus.drain(), 1.5)

    with pytest.raises(Transient):
        await asking


async def test_nobody_can_be_asked_before_start_or_after_the_end(open_bus: OpenBus) -> None:
    bus = open_bus()
    with pytest.raises(Transient, match="bus_away"):
        await ask(bus, b"?")
    await bus.start()
    await bus.drain()

    with pytest.raises(Transient, match="bus_away"):
        await ask(bus, b"?")


async def test_answerers_are_registered_before_start_and_can_be_listed(open_bus: OpenBus) -> None:
    bus = open_bus()
    bus.answer(answerer(echo))
    await bus.start()

    assert [it.subject for it in bus.answerers] == ["billing.reserve"]
    with pytest.raises(ValueError, match="before start"):
        bus.answer(answerer(echo))
    with pytest.raises(ValueError, match="n_concurrent_max"):
        replace(answerer(echo), n_concurrent_max=0)
