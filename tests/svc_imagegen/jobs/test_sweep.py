"""What the sweeper does about everything that was left open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.svc_imagegen.jobs.kit import make_job, memory_stores
from tests.svc_imagegen.jobs.line import FUNDS, PER_IMAGE, Line, answer

from qraft_contracts.billing import PricedItem
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.outcome import BadPicture, Lookup, ProviderAnswer, RawPicture, Uncertain


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with memory_stores() as (jobs, assets):
        yield Line(jobs, assets)


async def uncertain(line: Line, *, request_id: str | None = "p-9") -> Job:
    line.provider.script = [Uncertain("provider_error", "502", provider_request_id=request_id)]
    job = await line.accept()
    await line.run(job)
    return job


async def test_an_uncertain_job_is_asked_for_at_growing_intervals(line: Line) -> None:
    job = await uncertain(line)
    asked_at = []

    for _ in range(600):
        line.clock.forward(10)
        await line.sweep.once()
        if len(line.provider.looked_up) > len(asked_at):
            asked_at.append(line.clock.monotonic())

    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses[:4] == [30, 60, 120, 240]
    assert set(line.provider.looked_up) == {"p-9"}
    assert (await line.job(job)).state is JobState.UNCERTAIN


async def test_an_uncertain_job_without_an_id_is_asked_for_by_ours(line: Line) -> None:
    job = await uncertain(line, request_id=None)

    line.clock.forward(31)
    await line.sweep.once()

    assert line.provider.looked_up == [f"{job.job_id}-1"]


async def test_a_picture_that_is_found_is_delivered_and_charged_once(line: Line) -> None:
    job = await uncertain(line)
    line.provider.lookups = [Lookup("running"), Lookup("succeeded", answer(1, 2))]

    for _ in range(10):
        line.clock.forward(60)
        await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.money, done.charged_microcredits) == (JobState.SUCCEEDED, Money.SETTLED, 2 * PER_IMAGE)
    assert line.billing.n_resolutions == {f"job/{job.job_id}": 1}
    assert await line.findings(job) == [
        "uncertain", "money_disputed", "look_up_running", "resolved_succeeded", "money_settled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (Lookup("failed", detail="no capacity"), "provider_failed"),
        (Lookup("succeeded", ProviderAnswer(pictures=(RawPicture(b"<html>"),))), "bad_picture"),
    ],
)
async def test_a_call_that_is_found_to_have_made_nothing_gives_the_credits_back(
    line: Line, found: Lookup, cause: str
) -> None:
    job = await uncertain(line)
    line.provider.lookups = [found]

    line.clock.forward(31)
    await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.money, done.cause) == (JobState.FAILED, Money.VOIDED, cause)
    assert await line.available() == FUNDS


@pytest.mark.parametrize("trouble", [KeyError("x"), BadPicture("x"), Uncertain("timeout")])
async def test_a_look_up_that_fails_itself_tells_nothing(line: Line, trouble: Exception) -> None:
    job = await uncertain(line)
    line.provider.lookups = [trouble]

    line.clock.forward(31)
    await line.sweep.once()

    assert (await line.job(job)).state is JobState.UNCERTAIN
    assert (await line.findings(job))[-1] == "look_up_unknown"


async def test_an_outcome_that_nobody_can_tell_is_given_back_at_the_deadline(line: Line) -> None:
    job = await uncertain(line)

    while (await line.job(job)).state is JobState.UNCERTAIN:
        line.clock.forward(600)
        await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.money, done.cause) == (JobState.FAILED, Money.VOIDED, "never_resolved")
    assert done.finished_at == job.created_at + timedelta(days=1)
    assert len(line.provider.looked_up) < 40, "the intervals grow"
    assert await line.available() == FUNDS


async def test_a_picture_that_comes_after_the_rule_was_applied_is_free(line: Line) -> None:
    job = await uncertain(line)
    attempt = (await line.jobs.attempts(job.job_id))[0]
    line.clock.forward(86_400)
    await line.sweep.once()

    kept = await line.run_job._keep(job, attempt, answer(1, 2))
    await line.jobs.record_success(
        attempt, assets=kept.assets, charge_microcredits=20_000, answer=answer(1, 2), now=line.clock.now()
    )
    line.clock.forward(60)
    await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.money, done.charged_microcredits) == (JobState.SUCCEEDED, Money.VOIDED, 0)
    assert done.is_final and line.billing.loss_microcredits == 20_000
    assert await line.available() == FUNDS


async def test_an_attempt_is_its_workers_as_long_as_its_lease(line: Line) -> None:
    job = await line.accept()
    await line.jobs.claim(job.job_id, worker_id="dead", now=line.clock.now(), lease_s=30)

    line.clock.forward(29)
    await line.sweep.once()

    assert (await line.job(job)).state is JobState.RUNNING


async def test_an_attempt_that_was_sent_by_a_dead_worker_is_uncertain_and_not_sent_again(line: Line) -> None:
    job = await line.accept()
    await line.jobs.claim(job.job_id, worker_id="dead", now=line.clock.now(), lease_s=30)

    line.clock.forward(31)
    await line.sweep.once()
    await line.run(job, is_redelivered=True)

    found = await line.job(job)
    assert (found.state, found.money, found.cause) == (JobState.UNCERTAIN, Money.DISPUTED, "worker_lost")
    assert line.provider.calls.total() == 0


async def test_a_job_whose_message_is_lost_is_told_of_again_with_growing_pauses(line: Line) -> None:
    job = await line.accept()
    told = []

    for _ in range(52):
        line.clock.forward(10)
        await line.sweep.once()
        told.append((await line.job(job)).n_told)

    assert (told[4], told[5], told[17], told[18]) == (1, 2, 3, 3)
    assert max(told) <= 5
    await line.run(job)
    assert (await line.job(job)).state is JobState.SUCCEEDED


async def test_a_job_that_can_no_longer_be_begun_in_time_costs_nothing(line: Line) -> None:
    job = await line.accept()

    line.clock.forward(660)
    await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.cause) == (JobState.FAILED, "timed_out_waiting")
    assert await line.available() == FUNDS


async def test_a_canceled_job_ends_canceled_with_its_credits_back(line: Line) -> None:
    job = await line.accept()
    await line.jobs.cancel(job.job_id, now=line.clock.now())

    line.clock.forward(11)
    await line.sweep.once()

    done = await line.job(job)
    assert (done.state, done.money) == (JobState.CANCELED, Money.VOIDED)
    assert await line.available() == FUNDS


async def test_credits_held_for_a_job_that_was_never_stored_are_given_back(line: Line) -> None:
    item = PricedItem("simulated", "simulated-1", "generation", "auto", "auto", 2)
    await line.billing.reserve(account_id="acme", job_id="lost", item=item, lease_s=172_800)
    kept = await line.accept()

    line.clock.forward(59)
    early = await line.sweep.once()
    line.clock.forward(2)
    late = await line.sweep.once()

    assert (early.n_orphans, late.n_orphans) == (0, 1)
    assert line.hold_state(make_job("lost")) == "voided"
    assert line.hold_state(kept) == "held"


async def test_only_one_sweeper_works_at_a_time(line: Line) -> None:
    job = await line.accept()
    line.clock.forward(660)

    async with line.sweep._turn.take():
        swept = await line.sweep.once()

    assert not swept.is_ours
    assert (await line.job(job)).state is JobState.PENDING
