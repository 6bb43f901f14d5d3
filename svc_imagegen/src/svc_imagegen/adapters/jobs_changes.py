"""
Hearing of changed jobs from every process: PostgreSQL tells on commit (jobs_sql.STORE) who listens.

A notice may be lost with the connection. Watchers look by themselves every few seconds, so that only costs time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from qraft_contracts.outcomes import Transient
from qraft_store.postgres_pools import as_transient
from qraft_telemetry import logs
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_sql import CHANGES_CHANNEL
from svc_imagegen.adapters.memory import N_WAITERS_MAX, MemoryJobChanges
from svc_imagegen.domain.job import Job

_RECONNECT_S: Final = 1.0
_OVER: Final = "!"  # stands in no id
_CHECK_S: Final = 5.0  # how often the connection is asked whether it is still there


class PostgresJobChanges:
    """The JobChanges port; `run` is its background loop."""

    def __init__(self, database: Database, *, n_waiters_max: int = N_WAITERS_MAX) -> None:
        self._database = database
        self._local = MemoryJobChanges(n_waiters_max=n_waiters_max)

    def watch(self, job_id: str) -> AsyncIterator[None]:
        """Yield at once, after every change, and every few seconds; see the port."""
        return self._local.watch(job_id)

    def watch_end(self, job_id: str) -> AsyncIterator[None]:
        """Yield after the end, and every few seconds; see the port."""
        return self._local.watch_end(job_id)

    def announce(self, jobs: Sequence[Job]) -> None:
        """Wake this process's watchers at once: it has stored these changes itself."""
        self._local.announce(jobs)

    async def run(self) -> None:
        """Listen for ever, reconnecting; ends by cancel."""
        task = asyncio.current_task()
        while task is None or not task.cancelling():
            try:
                await self._listen()
            except Transient as error:
                logs.get().warning("changes.reconnecting", reason=error.reason, detail=error.detail)
            await asyncio.sleep(_RECONNECT_S)
        raise asyncio.CancelledError

    async def _listen(self) -> None:
        with as_transient():
            async with self._database.write.acquire() as connection:
                await connection.add_listener(CHANGES_CHANNEL, self._on_notice)
                try:
                    while True:
                        await connection.execute("SELECT 1")
                        await asyncio.sleep(_CHECK_S)
                finally:
                    if not connection.is_closed():
                        await connection.remove_listener(CHANGES_CHANNEL, self._on_notice)

    def _on_notice(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for notice in str(payload).split():
            job_id = notice.rstrip(_OVER)
            self._local.announce_one(job_id, is_over=notice != job_id)


def notice_of(job: Job) -> str:
    """Return what is told of a changed job."""
    return job.job_id + _OVER if job.is_over else job.job_id
