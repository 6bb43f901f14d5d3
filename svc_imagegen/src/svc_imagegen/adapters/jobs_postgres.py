"""The JobStore on PostgreSQL: every change goes through one group commit, reads have connections of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.group_commit import GroupCommit
from svc_imagegen.adapters.jobs_batch import Acceptance, JobBatch, Move, Result, Work, find_joinable
from svc_imagegen.adapters.jobs_rows import attempt_of, job_of
from svc_imagegen.adapters.jobs_steps import JobSteps
from svc_imagegen.adapters.postgres_errors import as_transient
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.domain.joining import find_joined
from svc_imagegen.domain.transitions import Change, Step
from svc_imagegen.ports import Accepted


class PostgresJobStore(JobSteps):
    """
    The JobStore port. Close it before its database.

    stored: called after each commit with the ids of the jobs that changed, and whether the outbox has new messages.
    """

    def __init__(self, database: Database, *, stored: Callable[[Sequence[str], bool], None]) -> None:
        self._database = database
        self._commits: GroupCommit[Work, Result] = GroupCommit(JobBatch(database, stored=stored).run)

    async def close(self) -> None:
        """Wait for the changes in progress."""
        await self._commits.close()

    async def accept(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Accepted:
        """Store a new job with its imagejob.created, or return the one that this call belongs to; see the port."""
        result = await self._commits.submit(
            Acceptance(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
        )
        assert isinstance(result, Accepted)
        return result

    async def find_join(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Job | None:
        """Return the job that `accept` would join now."""
        call = Acceptance(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
        with as_transient():
            async with self._database.read.acquire() as connection:
                known = await find_joinable(connection, [call])
        return find_joined(job, known, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)

    async def get(self, job_id: str) -> Job | None:
        """Return one job."""
        with as_transient():
            row = await self._database.read.fetchrow(jobs_sql.GET, job_id)
        return job_of(row) if row else None

    async def list_jobs(self, account_id: str, *, limit: int, before: str | None) -> Sequence[Job]:
        """Return an account's jobs, newest first, from before a job on."""
        return [job_of(row) for row in await self._fetch(jobs_sql.LIST, account_id, limit, before)]

    async def list_all(self, *, account_id: str | None, state: JobState | None, limit: int) -> Sequence[Job]:
        """Return jobs of all accounts, or of one, newest first; for the operator."""
        rows = await self._fetch(jobs_sql.LIST_ALL, account_id, state.value if state else None, limit)
        return [job_of(row) for row in rows]

    async def place_in_queue(self, job: Job) -> int:
        """Return the place among the provider's pending jobs, from 1; 0 when not pending."""
        if job.state is not JobState.PENDING:
            return 0
        rows = await self._fetch(jobs_sql.PLACE, job.provider, job.created_at, job.job_id)
        return int(rows[0][0])

    async def audit(self, job_id: str) -> Sequence[tuple[datetime, str, str]]:
        """Return the audit record, oldest first."""
        return [(row["at"], row["finding"], row["detail"]) for row in await self._fetch(jobs_sql.AUDIT, job_id)]

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """Return the attempts, oldest first."""
        return [attempt_of(row) for row in await self._fetch(jobs_sql.ATTEMPTS, job_id)]

    async def due(self, *, now: datetime, limit: int) -> Sequence[Job]:
        """Return jobs that the sweeper has to look at."""
        return [job_of(row) for row in await self._fetch(jobs_sql.DUE, now, limit)]

    async def which_exist(self, job_ids: Sequence[str]) -> frozenset[str]:
        """Return those ids that are jobs."""
        return frozenset(row["job_id"] for row in await self._fetch(jobs_sql.WHICH_EXIST, list(job_ids)))

    async def _apply(self, job_id: str, step: Step) -> Change | None:
        result = await self._commits.submit(Move(job_id, step))
        assert not isinstance(result, Accepted)
        return result

    async def _fetch(self, statement: str, *values: Any) -> Sequence[asyncpg.Record]:
        with as_transient():
            return await self._database.read.fetch(statement, *values)
