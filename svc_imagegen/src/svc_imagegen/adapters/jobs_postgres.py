"""The JobStore on PostgreSQL: changes go through group commits, reads of one moment through one query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import asyncpg

from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.group_commit import GroupCommit
from svc_imagegen.adapters.jobs_accept import Acceptance, AcceptBatch, find_joinable
from svc_imagegen.adapters.jobs_moves import Known, KnownJobs, Move, MoveBatch, NotKnown
from svc_imagegen.adapters.jobs_rows import Row, attempt_of, job_of
from svc_imagegen.adapters.jobs_steps import JobSteps
from svc_imagegen.adapters.teller import Published
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.domain.joining import find_joined
from svc_imagegen.domain.transitions import Change, Step
from svc_imagegen.ports import Accepted

# How long batches gather under load. Steps belong to jobs that take seconds; whoever posts a job waits for its answer.
_ACCEPT_LINGER_S: Final = 0.002
_STEP_LINGER_S: Final = 0.008
_READ_LINGER_S: Final = 0.004


class PostgresJobStore(JobSteps):
    """
    The JobStore port. Close it before its database.

    stored: called after each commit with its changes, those of new jobs aside, and the new rows of the outbox.
    published: messages whose rows may go.
    """

    def __init__(
        self,
        database: Database,
        *,
        stored: Callable[[Sequence[Change], Sequence[Row]], None] = lambda _changes, _rows: None,
        published: Published | None = None,
    ) -> None:
        self._database = database
        published = published or Published()
        accept = AcceptBatch(database.kept(), stored=lambda rows: stored((), rows), published=published)
        self._known = KnownJobs()
        moves = MoveBatch(
            self._known, known=database.kept(), locked=database.kept(), stored=stored, published=published
        )
        self._accepts: GroupCommit[Acceptance, Accepted] = GroupCommit(accept.run, linger_s=_ACCEPT_LINGER_S)
        self._known_moves: GroupCommit[Move, Change | None] = GroupCommit(moves.run_known, linger_s=_STEP_LINGER_S)
        self._locked_moves: GroupCommit[Move, Change | None] = GroupCommit(moves.run_locked)
        self._gets: GroupCommit[str, Job | None] = GroupCommit(self._get_many, linger_s=_READ_LINGER_S)

    async def close(self) -> None:
        """Wait for the changes in progress."""
        for commits in (self._accepts, self._known_moves, self._locked_moves, self._gets):
            await commits.close()

    async def accept(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Accepted:
        """Store a new job with its imagejob.created, or return the one that this call belongs to; see the port."""
        return await self._accepts.submit(
            Acceptance(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
        )

    async def find_join(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Job | None:
        """Return the job that `accept` would join now."""
        call = Acceptance(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
        with as_transient():
            async with self._database.read.acquire() as connection:
                known = await find_joinable(connection, [call])
        return find_joined(job, known, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)

    async def get(self, job_id: str) -> Job | None:
        """Return one job."""
        return await self._gets.submit(job_id)

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
        move = Move(job_id, step)
        if job_id in self._known:
            with suppress(NotKnown):
                return await self._known_moves.submit(move)
        return await self._locked_moves.submit(move)

    async def _get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        rows = await self._database.read.fetch(jobs_sql.GET, list(set(job_ids)))
        found = {row["job_id"]: job_of(row) for row in rows}
        for row in rows:
            job = found[row["job_id"]]
            if job.state is JobState.PENDING and not job.n_attempts and job.job_id not in self._known:
                # Who looks at a job that has not begun is nearly always who begins it.
                self._known.keep(Known(job, None, row["revision"]))
        return [found.get(it) for it in job_ids]

    async def _fetch(self, statement: str, *values: Any) -> Sequence[asyncpg.Record]:
        with as_transient():
            return await self._database.read.fetch(statement, *values)
