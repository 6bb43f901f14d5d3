"""The own job API: accept at once, look as often as you like, hear of changes, cancel before it begins."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final, cast

import msgspec

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from svc_imagegen.api.http import Answer, Call, ClientGone, Stream
from svc_imagegen.api.images import not_charged
from svc_imagegen.api.intake import Intake
from svc_imagegen.api.job_views import JobPage, JobView, accepted_view, summary_of, view_of
from svc_imagegen.api.pictures import job_headers
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.ports import Accepted, AssetStore, JobChanges, JobStore
from svc_imagegen.usecases.accept import AcceptCall

N_JOBS: Final = 20
N_JOBS_MAX: Final = 100
_ID: Final = re.compile(r"[0-9a-zA-Z_-]{1,64}")
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,2}")
_RETRY_AFTER: Final = (b"retry-after", b"2")
_NO_STORE: Final = (b"cache-control", b"no-store")
_KEEPALIVE: Final = b": keepalive\n\n"

Confirm = Callable[[Job], Awaitable[object]]


@dataclass(slots=True)
class JobCalls:
    """The handlers. confirm: finishes what a cancellation began; without it the sweeper does, some seconds later."""

    terms: GatewayTerms
    intake: Intake
    accept: AcceptCall
    jobs: JobStore
    assets: AssetStore
    changes: JobChanges
    clock: Clock
    confirm: Confirm | None = None
    _n_event_clients: int = field(default=0, init=False)

    async def create(self, call: Call) -> Answer:
        """`POST /api/jobs`."""
        accepted = await not_charged(self._accept(call))
        job = accepted.job
        location = (b"location", f"/api/jobs/{job.job_id}".encode())
        body = msgspec.json.encode(accepted_view(job, is_new=accepted.is_new))
        return Answer(202, body, (location, _RETRY_AFTER, _NO_STORE, *job_headers(job)))

    async def list(self, call: Call) -> Answer:
        """`GET /api/jobs`."""
        query = call.query()
        limit = _limit(query.get("limit"))
        before = query.get("before")
        if before is not None and not _ID.fullmatch(before):
            raise CallRefused(Kind.INVALID, "invalid_value", "Expected before to be a job's id.", param="before")
        found = await self.jobs.list_jobs(call.key.account_id, limit=limit + 1, before=before)
        rows, now = found[:limit], self.clock.now()
        page = JobPage(
            data=tuple(summary_of(it, now=now) for it in rows),
            next_before=rows[-1].job_id if len(found) > limit else None,
        )
        return Answer(200, msgspec.json.encode(page), (_NO_STORE,))

    async def show(self, call: Call) -> Answer:
        """`GET /api/jobs/{id}`. The ETag stands for everything but the elapsed time."""
        job = await self._owned(call)
        place = await self.jobs.place_in_queue(job)
        etag = f'"{job.version}-{place}"'.encode()
        headers = [(b"etag", etag), _NO_STORE, *job_headers(job)]
        if not job.is_final:
            headers.append(_RETRY_AFTER)
        if etag in call.headers.get(b"if-none-match", b"").replace(b"W/", b"").replace(b" ", b"").split(b","):
            return Answer(304, b"", tuple(headers))
        return Answer(200, msgspec.json.encode(await self._view(job, place)), tuple(headers))

    async def cancel(self, call: Call) -> Answer:
        """`DELETE /api/jobs/{id}` and `POST /api/jobs/{id}/cancel`: only a job that has not begun."""
        job = await self._owned(call)
        canceled = await self.jobs.cancel(job.job_id, now=self.clock.now())
        if canceled is not None and self.confirm is not None:
            # Canceled it is already; where the ledger is away, the sweeper gives the credits back.
            with suppress(Transient):
                await self.confirm(canceled)
        now = await self.jobs.get(job.job_id) or job
        if canceled is None and now.cause != "canceled":
            message = f"The job is {now.state.value} and can no longer be canceled."
            raise CallRefused(Kind.CONFLICT, "job_has_begun", message)
        return Answer(200, msgspec.json.encode(await self._view(now, 0)), (_NO_STORE, *job_headers(now)))

    async def events(self, call: Call) -> Answer | None:
        """`GET /api/jobs/{id}/events`: the job after every change until it ends; Last-Event-ID skips what was seen."""
        job = await self._owned(call)
        seen = call.header(b"last-event-id")
        if job.is_final and seen == str(job.version):
            return Answer(204)  # tells an EventSource to stay away
        if self._n_event_clients >= self.terms.n_event_clients_max:
            message = "Every event stream is taken; poll the job instead."
            raise CallRefused(Kind.BUSY, "too_many_clients", message, retry_after_s=5)
        self._n_event_clients += 1
        try:
            headers = (_NO_STORE, (b"x-accel-buffering", b"no"), *job_headers(job))
            await call.stream(Stream(200, self._events(call, job, seen), headers))
        finally:
            self._n_event_clients -= 1
        return None

    async def _accept(self, call: Call) -> Accepted:
        return await self.accept(await self.intake.job(call))

    async def _owned(self, call: Call) -> Job:
        """Return the job if it is the caller's; another account's is as unknown as one that never was."""
        job_id = call.params["job_id"]
        job = await self.jobs.get(job_id) if _ID.fullmatch(job_id) else None
        if job is None or job.account_id != call.key.account_id:
            raise CallRefused(Kind.MISSING, "job_not_found", "There is no such job.")
        return job

    async def _view(self, job: Job, place: int) -> JobView:
        attempts = await self.jobs.attempts(job.job_id)
        assets = await self.assets.of_job(job.job_id) if job.state is JobState.SUCCEEDED else ()
        return view_of(job, attempts=attempts, assets=assets, place_in_queue=place, now=self.clock.now())

    async def _events(self, call: Call, job: Job, seen: str) -> AsyncGenerator[bytes]:
        yield b"retry: 2000\n\n"
        gone = asyncio.create_task(call.until_left())
        changes = cast("AsyncGenerator[None]", self.changes.watch(job.job_id))
        try:
            async with aclosing(changes):
                async for _ in changes:
                    if gone.done():
                        raise ClientGone
                    job = await self.jobs.get(job.job_id) or job
                    if seen == str(job.version):
                        yield _KEEPALIVE
                        continue
                    seen = str(job.version)
                    data = msgspec.json.encode(await self._view(job, await self.jobs.place_in_queue(job)))
                    yield b"id: %s\nevent: job.updated\ndata: %s\n\n" % (seen.encode(), data)
                    if job.is_final:
                        return
        finally:
            gone.cancel()


def _limit(text: str | None) -> int:
    if text is None:
        return N_JOBS
    if not _LIMIT.fullmatch(text) or int(text) > N_JOBS_MAX:
        message = f"Expected limit to be a whole number from 1 to {N_JOBS_MAX}."
        raise CallRefused(Kind.INVALID, "invalid_value", message, param="limit")
    return int(text)
