"""
Steps of stored jobs, many at once.

Who has begun a job nearly always makes its next step too. What this process stored last of a job is therefore kept in
mind, the step is made from it, and one statement stores it on the condition that the row is still of that revision.
Where it is not, and for jobs that are not in mind, the rows are locked and loaded first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from qraft_store.postgres_pools import Kept
from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.jobs_changes import notice_of
from svc_imagegen.adapters.jobs_messages import outbox_rows
from svc_imagegen.adapters.jobs_rows import Row, asset_row, attempt_of, attempt_row, change_row, job_of, text
from svc_imagegen.adapters.teller import Published
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.transitions import Change, Step

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

_IDS_PER_NOTICE: Final = 100  # a payload holds 8,000 bytes
# Jobs in progress of one process; who is forgotten is loaded again. With prompts of the largest size 128 MB.
_N_KNOWN_MAX: Final = 1_024

Stored = Callable[[Sequence[Change], Sequence[Row]], None]


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a stored job."""

    job_id: str
    step: Step


@dataclass(frozen=True, slots=True)
class Known:
    """A job as it is stored: its row, the row of its last attempt, and the revision of both."""

    job: Job
    attempt: Attempt | None
    revision: int


class NotKnown(Exception):
    """The step has to be made from the stored row; nothing was stored."""


class KnownJobs:
    """The jobs in mind, the oldest forgotten first."""

    def __init__(self) -> None:
        self._jobs: dict[str, Known] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> Known | None:
        """Return a job as this process knows it."""
        return self._jobs.get(job_id)

    def keep(self, known: Known) -> None:
        """Keep a job in mind until it has come to its end."""
        self._jobs.pop(known.job.job_id, None)
        if known.job.is_final:
            return
        if len(self._jobs) >= _N_KNOWN_MAX:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[known.job.job_id] = known

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that may be stored otherwise."""
        for job_id in job_ids:
            self._jobs.pop(job_id, None)


class MoveBatch:
    """
    Stores batches of steps.

    known, locked: connections for the two ways, so that neither waits for the other. stored: called after each commit
    with its changes and the rows of the outbox. published: messages whose rows go with the next batch.
    """

    def __init__(self, jobs: KnownJobs, *, known: Kept, locked: Kept, stored: Stored, published: Published) -> None:
        self._jobs = jobs
        self._known = known
        self._locked = locked
        self._stored = stored
        self._published = published

    async def run_known(self, works: Sequence[Move]) -> Sequence[Change | Exception | None]:
        """Store a batch of steps of jobs in mind in one statement; NotKnown for what has to be loaded after all."""
        ids = {it.job_id for it in works}
        fold = _Fold(known for it in ids if (known := self._jobs.get(it)) is not None)
        results = [fold.apply(it) for it in works]
        self._jobs.forget(ids)  # whatever goes wrong, it may be stored all the same
        stored: frozenset[str] = frozenset()
        if fold.changes:
            async with self._known.use() as connection:
                with self._published.taken() as published:
                    stored = await _store(connection, fold, published=published)
        self._conclude(fold, stored)
        return [
            result if result is not None and it.job_id in stored else NotKnown()
            for it, result in zip(works, results, strict=True)
        ]

    async def run_locked(self, works: Sequence[Move]) -> Sequence[Change | Exception | None]:
        """Lock and load the jobs, then store a batch of steps, in one transaction."""
        ids = sorted({it.job_id for it in works})
        async with self._locked.use() as connection, connection.transaction():
            fold = _Fold(await _load(connection, ids))
            results = [fold.apply(it) for it in works]
            stored = await _store(connection, fold, published=[]) if fold.changes else frozenset()
        assert stored == fold.changed(), "a locked row has the revision that was read"
        self._conclude(fold, stored)
        return results

    def _conclude(self, fold: _Fold, stored: frozenset[str]) -> None:
        """Keep in mind and tell what is stored now."""
        if not stored:
            return
        for it in fold.rows():
            if it.job.job_id in stored:
                self._jobs.keep(Known(it.job, it.attempt, it.revision + 1))
        changes = [it for it in fold.changes if it.job.job_id in stored]
        self._stored(changes, [row for it in changes for row in fold.told[id(it)]])


class _Fold:
    """The jobs that a batch is about, as its steps change them one after the other."""

    def __init__(self, jobs: Iterable[Known]) -> None:
        self._jobs = {it.job.job_id: it for it in jobs}
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.changes: list[Change] = []
        self.told: dict[int, list[Row]] = {}  # the outbox's rows of each change, by its identity

    def apply(self, work: Move) -> Change | None:
        """Run one step on what those before it left; None for a job that is not there."""
        known = self._jobs.get(work.job_id)
        change = work.step(known.job, known.attempt) if known is not None else None
        if change is None or known is None:
            return None
        attempt = change.attempt or known.attempt
        self._jobs[work.job_id] = Known(change.job, attempt, known.revision)
        if change.attempt is not None:
            self.attempts[(work.job_id, change.attempt.attempt)] = change.attempt
        self.changes.append(change)
        self.told[id(change)] = outbox_rows(change)
        return change

    def changed(self) -> frozenset[str]:
        """Return the ids of the jobs that were changed."""
        return frozenset(it.job.job_id for it in self.changes)

    def rows(self) -> Iterator[Known]:
        """Yield the changed jobs, in the order in which everybody locks them, of the revision that was read."""
        return (self._jobs[it] for it in sorted(self.changed()))


async def _load(connection: Connection, ids: Sequence[str]) -> list[Known]:
    jobs = [(job_of(row), int(row["revision"])) for row in await connection.fetch(jobs_sql.LOCK_JOBS, ids)]
    begun = [job for job, _ in jobs if job.n_attempts]
    attempts: dict[str, Attempt] = {}
    if begun:
        rows = await connection.fetch(
            jobs_sql.CURRENT_ATTEMPTS, [it.job_id for it in begun], [it.n_attempts for it in begun]
        )
        attempts = {row["job_id"]: attempt_of(row) for row in rows}
    return [Known(job, attempts.get(job.job_id), revision) for job, revision in jobs]


async def _store(connection: Connection, fold: _Fold, *, published: list[str]) -> frozenset[str]:
    """Store what the steps came to and return the ids of the jobs for which that was possible."""
    rows = await connection.fetch(
        jobs_sql.STORE,
        [(*change_row(it.job), it.revision) for it in fold.rows()],
        [attempt_row(fold.attempts[it]) for it in sorted(fold.attempts)],
        [asset_row(asset) for change in fold.changes for asset in change.assets],
        [(it.job_id, it.at, it.finding, text(it.detail)) for change in fold.changes for it in change.audit],
        [row for change in fold.changes for row in fold.told[id(change)]],
        list(_notices(fold.changes)),
        published,
    )
    return frozenset(row[0] for row in rows if row[0])


def _notices(changes: Iterable[Change]) -> Iterator[str]:
    """Yield payloads: the jobs that somebody may wait for."""
    audible = {it.job.job_id: it.job for it in changes if not it.is_quiet}
    rest = (notice_of(audible[it]) for it in sorted(audible))
    while some := list(islice(rest, _IDS_PER_NOTICE)):
        yield " ".join(some)
