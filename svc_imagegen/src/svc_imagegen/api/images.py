"""The three image calls of OpenAI's interface: a real status at the end, never 202, never an error under 200."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from qraft_contracts.outcomes import Transient
from svc_imagegen.api.errors import away_answer, job_answer, refusal_answer, uncharged
from svc_imagegen.api.fields import invalid
from svc_imagegen.api.http import Answer, Call, ClientGone, Stream
from svc_imagegen.api.intake import Intake
from svc_imagegen.api.pictures import Rendering, job_headers
from svc_imagegen.api.terms import GatewayTerms, base_url_of
from svc_imagegen.api.waiting import Waiting
from svc_imagegen.domain.failures import CallRefused
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.domain.validate import FieldInvalid, GenerationFields, VariationFields, check_response_format
from svc_imagegen.ports import Accepted
from svc_imagegen.usecases.accept import AcceptCall, NewCall

ResultT = TypeVar("ResultT")

_KEEPALIVE: Final = b": keepalive\n\n"
_STREAM_HEADERS: Final = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
# As Stripe names it: the answer is that of an earlier call.
_REPLAYED: Final = (b"idempotent-replayed", b"true")


@dataclass(frozen=True, slots=True)
class ImageCalls:
    """The handlers."""

    terms: GatewayTerms
    intake: Intake
    accept: AcceptCall
    waiting: Waiting
    rendering: Rendering

    async def generate(self, call: Call) -> Answer | None:
        """`POST /v1/images/generations`."""
        fields, new_call = await not_charged(self.intake.generation(call))
        return await self._serve(call, fields, new_call)

    async def edit(self, call: Call) -> Answer | None:
        """`POST /v1/images/edits`."""
        fields, new_call = await not_charged(self.intake.edit(call))
        return await self._serve(call, fields, new_call)

    async def vary(self, call: Call) -> Answer:
        """`POST /v1/images/variations`."""
        fields, new_call = await not_charged(self.intake.variation(call))
        return await self._answer(call, fields, new_call)

    async def _serve(self, call: Call, fields: GenerationFields, new_call: NewCall) -> Answer | None:
        if not fields.stream:
            return await self._answer(call, fields, new_call)
        with self.waiting.place():
            accepted = await not_charged(self._accept(call, fields, new_call))
            headers = (*_STREAM_HEADERS, *_headers_of(accepted))
            await call.stream(Stream(200, self._events(call, accepted), headers))
        return None

    async def _answer(self, call: Call, fields: GenerationFields | VariationFields, new_call: NewCall) -> Answer:
        with self.waiting.place():
            accepted = await not_charged(self._accept(call, fields, new_call))
            job = await self.waiting.for_end(accepted, call, window_s=self.terms.sync_window_s)
            if job.state is JobState.SUCCEEDED:
                base_url = base_url_of(call, self.terms) if fields.response_format == "url" else None
                answer = await self.rendering.response(job, base_url=base_url)
            else:
                answer = job_answer(job)
        return replace(answer, headers=(*answer.headers, *_headers_of(accepted)))

    async def _accept(self, call: Call, fields: GenerationFields | VariationFields, new_call: NewCall) -> Accepted:
        route = self.accept.route(new_call.request.model)
        try:
            check_response_format(fields.response_format, model=route.model)
        except FieldInvalid as error:
            raise invalid(error) from error
        accepted = await self.accept(new_call)
        call.release()
        return accepted

    async def _events(self, call: Call, accepted: Accepted) -> AsyncGenerator[bytes]:
        """Yield comments while the job runs, which keep proxies and read timeouts quiet; then pictures or the error."""
        yield _KEEPALIVE
        job = accepted.job
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.terms.stream_window_s
        async with self.waiting.following(accepted, call) as (ended, gone):
            while not job.is_over and loop.time() < deadline_s:
                await asyncio.wait({ended, gone}, timeout=self.terms.keepalive_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise ClientGone
                if not ended.done():
                    yield _KEEPALIVE
                elif (error := ended.exception()) is None:
                    job = ended.result()
                elif isinstance(error, Transient):
                    yield _error_event(away_answer(error))
                    return
                else:
                    raise error
        for event in await self._last_events(job):
            yield event

    async def _last_events(self, job: Job) -> Sequence[bytes]:
        if job.state is not JobState.SUCCEEDED:
            return [_error_event(job_answer(job))]
        try:
            return await self.rendering.events(job)
        except CallRefused as refusal:
            return [_error_event(refusal_answer(refusal))]
        except Transient as error:
            return [_error_event(away_answer(error))]


async def not_charged(reading: Awaitable[ResultT]) -> ResultT:
    """Return what was awaited; a refusal says its money effect."""
    try:
        return await reading
    except CallRefused as refusal:
        raise uncharged(refusal) from refusal


def _headers_of(accepted: Accepted) -> tuple[tuple[bytes, bytes], ...]:
    headers = job_headers(accepted.job)
    return headers if accepted.is_new else (*headers, _REPLAYED)


def _error_event(answer: Answer) -> bytes:
    # Without an event name: client libraries take any name they do not know for a partial picture.
    return b"data: " + answer.body + b"\n\n"
