"""Steps made from what a process remembers of a job: right whoever else had a hand in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.svc_imagegen.jobs.kit import ANSWER, accept, at, make_asset, make_job

from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.domain.job import Job, JobState, Money

pytestmark = pytest.mark.postgres


@pytest.fixture
async def processes(postgres_dsn: str) -> AsyncIterator[tuple[PostgresJobStore, PostgresJobStore]]:
    """Two processes on one database, each with a memory of its own."""
    databases = [Database(postgres_dsn) for _ in range(2)]
    for it in databases:
        await it.open()
    ours, theirs = (PostgresJobStore(it) for it in databases)
    yield ours, theirs
    for store in (ours, theirs):
        await store.close()
    for it in databases:
        await it.close()


async def pending(store: PostgresJobStore) -> Job:
    """Accept a job and look at it, as its worker does."""
    job = await accept(store, make_job())
    found = await store.get(job.job_id)
    assert found is not None
    return found


async def test_the_steps_of_a_remembered_job_lead_to_the_same_rows(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    ours, theirs = processes
    job = await pending(ours)

    attempt = await ours.claim(job.job_id, worker_id="w", now=at(1), lease_s=30)
    assert attempt is not None
    assert await ours.extend_lease(attempt, until=at(60))
    assert job.job_id in ours._known
    await ours.record_success(
        attempt, assets=[make_asset(job)], charge_microcredits=9, answer=ANSWER, now=at(5)
    )  # fmt: skip
    done = await ours.finish(
        job.job_id, state=JobState.SUCCEEDED, money=Money.SETTLED, now=at(6), charged_microcredits=9
    )

    assert done is not None and done == await theirs.get(job.job_id)
    (ended,) = await theirs.attempts(job.job_id)
    assert (ended.outcome, ended.lease_until, ended.ended_at) == ("succeeded", at(60), at(5))
    assert job.job_id not in ours._known, "what has ended is forgotten"


async def test_a_step_of_another_process_in_between_is_seen(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    ours, theirs = processes
    job = await pending(ours)
    attempt = await ours.claim(job.job_id, worker_id="w", now=at(1), lease_s=30)
    assert attempt is not None

    # As the sweeper does with a worker that gave no sign of life.
    await theirs.record_uncertain(
        job.job_id, cause="worker_lost", detail="", provider_request_id=None, now=at(40), next_check_at=at(41)
    )
    assert not await ours.extend_lease(attempt, until=at(90))
    late = await ours.record_success(
        attempt, assets=[make_asset(job)], charge_microcredits=9, answer=ANSWER, now=at(42)
    )

    assert late is not None and (late.state, late.money) == (JobState.UNCERTAIN, Money.SETTLING)
    assert [finding for _, finding, _ in await ours.audit(job.job_id)] == ["uncertain", "resolved_succeeded"]


async def test_a_remembered_pending_job_that_another_has_canceled_is_not_claimed(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    ours, theirs = processes
    job = await pending(ours)

    assert await theirs.cancel(job.job_id, now=at(1)) is not None

    assert await ours.claim(job.job_id, worker_id="w", now=at(2), lease_s=30) is None
    assert await ours.attempts(job.job_id) == []


async def test_of_two_processes_that_remember_the_same_pending_jobs_each_is_claimed_by_one(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    jobs = [await pending(processes[0]) for _ in range(30)]
    for job in jobs:
        await processes[1].get(job.job_id)

    claims = await asyncio.gather(
        *(
            store.claim(job.job_id, worker_id=f"w{n}", now=at(1), lease_s=30)
            for job in jobs
            for n, store in enumerate(processes)
        )
    )

    assert [sum(it is not None for it in claims[2 * n : 2 * n + 2]) for n in range(30)] == [1] * 30
    assert [len(await processes[0].attempts(it.job_id)) for it in jobs] == [1] * 30


async def test_a_step_beside_others_that_came_too_late_is_stored(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    """In one batch some jobs are as they are remembered and some are not: each step has its own fate."""
    ours, theirs = processes
    jobs = [await pending(ours) for _ in range(10)]
    for job in jobs[::2]:
        await theirs.cancel(job.job_id, now=at(1))

    claims = await asyncio.gather(
        *(ours.claim(it.job_id, worker_id="w", now=at(2), lease_s=30) for it in jobs), ours.claim("x", worker_id="w",
        now=at(2), lease_s=30)
    )  # fmt: skip

    assert [it is not None for it in claims] == [False, True] * 5 + [False]
    told = await ours._fetch("SELECT count(*) FROM imagegen.outbox WHERE subject = 'imagejob.started'")
    assert told[0][0] == 5


async def test_a_database_that_went_away_in_the_middle_leaves_nothing_remembered(
    processes: tuple[PostgresJobStore, PostgresJobStore],
) -> None:
    ours, _ = processes
    job = await pending(ours)

    await ours._fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'svc_imagegen write' AND datname = current_database()"
    )
    for _ in range(3):
        try:
            attempt = await ours.claim(job.job_id, worker_id="w", now=at(1), lease_s=30)
        except Transient:  # whether it was stored is not known; here it was not
            continue
        break

    assert attempt is not None
    assert [it.worker_id for it in await ours.attempts(job.job_id)] == ["w"]
