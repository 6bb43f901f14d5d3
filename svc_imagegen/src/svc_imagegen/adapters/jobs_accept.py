"""Storing new jobs, many at once: one statement where no call joins another's job, which is nearly always."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qraft_store.postgres_pools import Kept
from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.jobs_messages import outbox_rows
from svc_imagegen.adapters.jobs_rows import Row, job_of, job_row
from svc_imagegen.adapters.teller import Published
from svc_imagegen.domain import transitions
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.joining import IdempotencyMismatch, find_joined, join_since
from svc_imagegen.domain.transitions import Change
from svc_imagegen.ports import Accepted

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A new job, or the one that it belongs to."""

    job: Job
    retry_count: int
    received_at: datetime
    join_window_s: float


class AcceptBatch:
    """
    Stores batches of new jobs.

    stored: called after each commit with the rows of the outbox. published: messages whose rows go with the next batch.
    """

    def __init__(self, connection: Kept, *, stored: Callable[[Sequence[Row]], None], published: Published) -> None:
        self._connection = connection
        self._stored = stored
        self._published = published

    async def run(self, works: Sequence[Acceptance]) -> Sequence[Accepted | Exception]:
        """Store a batch in one transaction and return what came of each call."""
        async with self._connection.use() as connection:
            fold = _Fold(works, ())
            rows = fold.rows()
            with self._published.taken() as published:
                joinable = await connection.fetch(jobs_sql.ACCEPT, *rows, published, *_criteria(works))
                if joinable:
                    await connection.execute(jobs_sql.FORGET_PUBLISHED, published)
            if joinable:
                fold = await _accept_by_hand(connection, works)
                rows = fold.rows()
        if rows[1]:
            self._stored(rows[1])
        return fold.results


class _Fold:
    """The new jobs of a batch, each call seeing those before it."""

    def __init__(self, works: Sequence[Acceptance], joinable: Iterable[Job]) -> None:
        self._joinable = list(joinable)
        self.changes: list[Change] = []
        self.results = [self._accept(it) for it in works]

    def rows(self) -> tuple[list[Row], list[Row]]:
        """Return the new rows of jobs and of the outbox."""
        return [job_row(it.job) for it in self.changes], [row for it in self.changes for row in outbox_rows(it)]

    def _accept(self, work: Acceptance) -> Accepted | Exception:
        try:
            joined = find_joined(
                work.job, self._joinable, retry_count=work.retry_count, received_at=work.received_at,
                join_window_s=work.join_window_s,
            )  # fmt: skip
        except IdempotencyMismatch as error:
            return error
        if joined is not None:
            return Accepted(joined, is_new=False)
        change = transitions.accept(work.job, retry_count=work.retry_count)
        self._joinable.append(change.job)
        self.changes.append(change)
        return Accepted(change.job, is_new=True)


async def _accept_by_hand(connection: Connection, works: Sequence[Acceptance]) -> _Fold:
    async with connection.transaction():
        await connection.execute(jobs_sql.LOCK_ACCEPT)
        fold = _Fold(works, await find_joinable(connection, works))
        jobs, told = fold.rows()
        keyed = [it.job for it in fold.changes if it.job.idempotency_key is not None]
        if keyed:
            await connection.execute(
                jobs_sql.FREE_KEYS, [it.account_id for it in keyed], [it.idempotency_key for it in keyed]
            )
        await connection.execute(jobs_sql.STORE_NEW, jobs, told)
    return fold


async def find_joinable(connection: Connection, works: Sequence[Acceptance]) -> list[Job]:
    """Return every stored job that one of the calls may belong to."""
    return [job_of(row) for row in await connection.fetch(jobs_sql.JOINABLE, *_criteria(works))]


def _criteria(works: Sequence[Acceptance]) -> tuple[list[Any], ...]:
    keyed = [it.job for it in works if it.job.idempotency_key is not None]
    loose = [it for it in works if it.job.idempotency_key is None]
    return (
        [it.account_id for it in keyed],
        [it.idempotency_key for it in keyed],
        [it.job.fingerprint for it in loose],
        [
            join_since(it.job, retry_count=it.retry_count, received_at=it.received_at, join_window_s=it.join_window_s)
            for it in loose
        ],
        [it.retry_count > 0 for it in loose],
    )
