"""One transaction of the job store: lock and load what a batch is about, run its steps in order, store the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_messages import outbox_rows
from svc_imagegen.adapters.jobs_rows import asset_row, attempt_of, attempt_row, change_row, job_of, job_row, text
from svc_imagegen.domain import transitions
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.joining import IdempotencyMismatch, find_joined, join_since
from svc_imagegen.domain.transitions import Change, Step
from svc_imagegen.ports import Accepted

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

_IDS_PER_NOTICE: Final = 100  # a payload holds 8,000 bytes


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A new job, or the one that it belongs to."""

    job: Job
    retry_count: int
    received_at: datetime
    join_window_s: float


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a stored job."""

    job_id: str
    step: Step


Work = Acceptance | Move
Result = Accepted | Change | None


class JobBatch:
    """Stores batches. stored: called after each commit with the ids of changed jobs and whether there are messages."""

    def __init__(self, database: Database, *, stored: Callable[[Sequence[str], bool], None]) -> None:
        self._database = database
        self._stored = stored

    async def run(self, works: Sequence[Work]) -> Sequence[Result | Exception]:
        """Store a batch in one transaction and return what came of each work."""
        async with self._database.hot() as connection, connection.transaction():
            fold = await _load(connection, works)
            results = [fold.apply(it) for it in works]
            if fold.changes:
                await _store(connection, fold)
        if fold.changes:
            self._stored(fold.audible(), any(it.told or it.is_call_over for it in fold.changes))
        return results


class _Fold:
    """The rows that a batch is about, as its steps change them one after the other."""

    def __init__(self, jobs: Iterable[Job], attempts: Iterable[Attempt], joinable: Iterable[Job]) -> None:
        self.jobs = {it.job_id: it for it in jobs}
        self._current = {it.job_id: it for it in attempts}
        self._joinable = list(joinable)
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.accepted: set[str] = set()
        self.changes: list[Change] = []

    def apply(self, work: Work) -> Result | Exception:
        """Run one piece of work on what those before it left."""
        return self._accept(work) if isinstance(work, Acceptance) else self._move(work)

    def audible(self) -> list[str]:
        """Return the ids of jobs with changes that somebody may wait for."""
        return sorted({it.job.job_id for it in self.changes if not it.is_quiet})

    def _accept(self, work: Acceptance) -> Accepted | Exception:
        try:
            joined = find_joined(
                work.job, self._joinable, retry_count=work.retry_count, received_at=work.received_at,
                join_window_s=work.join_window_s,
            )  # fmt: skip
        except IdempotencyMismatch as error:
            return error
        if joined is not None:
            return Accepted(self.jobs.get(joined.job_id, joined), is_new=False)
        change = transitions.accept(work.job, retry_count=work.retry_count)
        self.accepted.add(change.job.job_id)
        self._joinable.append(change.job)
        self._keep(change)
        return Accepted(change.job, is_new=True)

    def _move(self, work: Move) -> Change | None:
        job = self.jobs.get(work.job_id)
        change = work.step(job, self._current.get(work.job_id)) if job is not None else None
        if change is not None:
            self._keep(change)
        return change

    def _keep(self, change: Change) -> None:
        self.jobs[change.job.job_id] = change.job
        if change.attempt is not None:
            self._current[change.job.job_id] = change.attempt
            self.attempts[(change.job.job_id, change.attempt.attempt)] = change.attempt
        self.changes.append(change)


async def _load(connection: Connection, works: Sequence[Work]) -> _Fold:
    acceptances = [it for it in works if isinstance(it, Acceptance)]
    joinable = await _joinable(connection, acceptances) if acceptances else []
    ids = sorted({it.job_id for it in works if isinstance(it, Move)})
    if not ids:
        return _Fold((), (), joinable)
    jobs = [job_of(row) for row in await connection.fetch(jobs_sql.LOCK_JOBS, ids)]
    begun = [it for it in jobs if it.n_attempts]
    if not begun:
        return _Fold(jobs, (), joinable)
    rows = await connection.fetch(
        jobs_sql.CURRENT_ATTEMPTS, [it.job_id for it in begun], [it.n_attempts for it in begun]
    )
    return _Fold(jobs, [attempt_of(row) for row in rows], joinable)


async def _joinable(connection: Connection, acceptances: Sequence[Acceptance]) -> list[Job]:
    # Before the rows of other steps are locked: who has the rows then never waits for who has this.
    await connection.execute(jobs_sql.LOCK_ACCEPT)
    return await find_joinable(connection, acceptances)


async def find_joinable(connection: Connection, acceptances: Sequence[Acceptance]) -> list[Job]:
    """Return every stored job that one of the calls may belong to."""
    keyed = [it.job for it in acceptances if it.job.idempotency_key is not None]
    loose = [it for it in acceptances if it.job.idempotency_key is None]
    rows = await connection.fetch(
        jobs_sql.JOINABLE,
        [it.account_id for it in keyed],
        [it.idempotency_key for it in keyed],
        [it.job.fingerprint for it in loose],
        [
            join_since(it.job, retry_count=it.retry_count, received_at=it.received_at, join_window_s=it.join_window_s)
            for it in loose
        ],
        [it.retry_count > 0 for it in loose],
    )
    return [job_of(row) for row in rows]


async def _store(connection: Connection, fold: _Fold) -> None:
    keyed = [fold.jobs[it] for it in fold.accepted if fold.jobs[it].idempotency_key is not None]
    if keyed:
        await connection.execute(
            jobs_sql.FREE_KEYS, [it.account_id for it in keyed], [it.idempotency_key for it in keyed]
        )
    changed = {it.job.job_id for it in fold.changes} - fold.accepted
    await connection.execute(
        jobs_sql.STORE,
        [job_row(fold.jobs[it]) for it in sorted(fold.accepted)],
        [change_row(fold.jobs[it]) for it in sorted(changed)],
        [attempt_row(fold.attempts[it]) for it in sorted(fold.attempts)],
        [asset_row(asset) for change in fold.changes for asset in change.assets],
        [(it.job_id, it.at, it.finding, text(it.detail)) for change in fold.changes for it in change.audit],
        [row for change in fold.changes for row in outbox_rows(change)],
        list(_notices(fold.audible())),
    )


def _notices(ids: Sequence[str]) -> Iterable[str]:
    rest = iter(ids)
    while some := list(islice(rest, _IDS_PER_NOTICE)):
        yield " ".join(some)
