"""Questions and answers in memory: the twin of `calls.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from qraft_bus.answers import Answering, raise_outcome
from qraft_bus.fatal import Fatal
from qraft_bus.port import Answerer
from qraft_bus.streams import subject_matches
from qraft_contracts import headers as names
from qraft_contracts.outcomes import Transient
from qraft_telemetry.tracing import child_traceparent

_Answer = tuple[bytes, Mapping[str, str] | None]
_Waiting = asyncio.Future[_Answer]
MemoryAnswering = Answering[_Waiting]

ANSWERERS_MAX: Final = 1_000  # of one broker; a test that passes it forgets to drain


class MemoryCalls:
    """Who answers what, of all buses on one broker. Members of a queue group take turns."""

    def __init__(self) -> None:
        self._answering: list[MemoryAnswering] = []

    def open(self, answerer: Answerer, *, fatal: Fatal) -> MemoryAnswering:
        """Begin to answer."""
        assert len(self._answering) < ANSWERERS_MAX, f"expected at most {ANSWERERS_MAX} answerers on one broker"
        answering: MemoryAnswering = Answering(answerer, fatal=fatal, send=_send)
        self._answering.append(answering)
        return answering

    async def close(self, answering: MemoryAnswering, *, timeout_s: float) -> None:
        """Take no more questions and finish those in progress (bounded)."""
        self._answering.remove(answering)
        await answering.finish(timeout_s)

    async def request(
        self, subject: str, data: bytes, *, schema: str, timeout_s: float, cause: Mapping[str, str]
    ) -> bytes:
        """Ask and return the answer; see `qraft_bus.port.Bus.request`."""
        await asyncio.sleep(0)  # others get to run, as they do during the real bus's round trip
        found = [it for it in self._answering if subject_matches(it.answerer.subject, subject)]
        if not found:
            raise Transient("no_responders", f"nobody answers {subject}")
        self._answering.remove(found[0])
        self._answering.append(found[0])
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        headers = {names.SCHEMA: schema, names.TRACEPARENT: child_traceparent(cause.get(names.TRACEPARENT))}
        try:
            async with asyncio.timeout(timeout_s):
                await _take(found[0], data, headers, waiting)
                answer, answer_headers = await waiting
        except TimeoutError as error:
            raise Transient("request_timeout", f"{subject}: no answer within {timeout_s} s") from error
        raise_outcome(answer_headers)
        return answer


async def _take(answering: MemoryAnswering, data: bytes, headers: Mapping[str, str], waiting: _Waiting) -> None:
    """Hand over the question apart from the caller, who must not see the answerer's bugs."""

    async def take() -> None:
        answering.take(data, headers, waiting)

    task = asyncio.create_task(take())
    await asyncio.wait({task})
    if (error := task.exception()) is not None:
        answering.bug(error)


def _send(to: _Waiting, data: bytes, headers: Mapping[str, str] | None) -> None:
    if not to.done():
        to.set_result((data, headers))
