"""Waiting for the end of a job on an open call: bounded in number and time, over as soon as the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final, cast

from svc_imagegen.api.errors import uncharged
from svc_imagegen.api.http import Call, ClientGone
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.job import Job
from svc_imagegen.ports import Accepted, JobChanges, JobStore

_RETRY_AFTER_S: Final = 5


class Waiting:
    """The calls that wait, at most so many at once."""

    def __init__(self, jobs: JobStore, changes: JobChanges, *, n_max: int) -> None:
        self._jobs = jobs
        self._changes = changes
        self._n_max = n_max
        self._n = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """
        Hold a place for the block. Taken before anything is made, so that nothing made is turned away.

        Raises:
            CallRefused: if every place is taken.
        """
        if self._n >= self._n_max:
            message = "Too many calls are waiting for their pictures; send the same call again, or use POST /api/jobs."
            raise uncharged(CallRefused(Kind.BUSY, "server_is_overloaded", message, retry_after_s=_RETRY_AFTER_S))
        self._n += 1
        try:
            yield
        finally:
            self._n -= 1

    async def for_end(self, accepted: Accepted, call: Call, *, window_s: float) -> Job:
        """
        Return the job when it is over, or as it is when the window is.

        Raises:
            ClientGone: when the client leaves; the job goes on.
        """
        job = accepted.job
        if job.is_over:
            return job
        async with self.following(accepted, call) as (ended, gone):
            await asyncio.wait({ended, gone}, timeout=window_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return await ended
            if gone.done():
                raise ClientGone
        return await self._jobs.get(job.job_id) or job

    @asynccontextmanager
    async def following(
        self, accepted: Accepted, call: Call
    ) -> AsyncIterator[tuple[asyncio.Task[Job], asyncio.Task[None]]]:
        """Give two tasks for the block: one ends with the job, one when the client has left."""
        ended = asyncio.create_task(self._until_over(accepted))
        gone = asyncio.create_task(call.until_left())
        try:
            yield ended, gone
        finally:
            for task in (ended, gone):
                task.cancel()
            await asyncio.wait({ended, gone})

    async def _until_over(self, accepted: Accepted) -> Job:
        job_id = accepted.job.job_id
        # Only a job that was there before may have ended long ago, when nobody listened.
        watched = self._changes.watch_end(job_id) if accepted.is_new else self._changes.watch(job_id)
        # Closed at once: a generator left to the collector would keep its place among the watchers.
        changes = cast("AsyncGenerator[None]", watched)
        async with aclosing(changes):
            async for _ in changes:
                found = await self._jobs.get(job_id)
                if found is not None and found.is_over:
                    return found
        return accepted.job
