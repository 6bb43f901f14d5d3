"""A job from its message to its end, by every outcome that a provider may give it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from tests.svc_imagegen.jobs.kit import make_job, memory_stores
from tests.svc_imagegen.jobs.line import FUNDS, PER_IMAGE, Line, ScriptedProvider, answer, hang, png

from qraft_contracts.outcomes import Refused, Transient
from qraft_store.artefacts.memory import MemoryArtefactStore
from svc_imagegen.adapters.memory import MemoryAssetStore, MemoryJobStore
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import JobState, Money
from svc_imagegen.domain.outcome import (
    BadPicture,
    NotDelivered,
    ProviderAnswer,
    RawPicture,
    Rejected,
    Throttled,
    Uncertain,
)
from svc_imagegen.domain.request import ImageRequest, Operation, Reference
from svc_imagegen.usecases.run_job import RunTerms


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with memory_stores() as (jobs, assets):
        yield Line(jobs, assets)


async def test_a_job_ends_with_verified_pictures_and_one_charge(line: Line) -> None:
    job = await line.accept()

    again = await line.run(job)

    done = await line.job(job)
    assert again is None and done.is_final
    assert (done.state, done.charged_microcredits) == (JobState.SUCCEEDED, 2 * PER_IMAGE)
    assert await line.available() == FUNDS - 2 * PER_IMAGE
    for asset in await line.assets.of_job(job.job_id):
        assert await line.artefacts.get(asset.artefact_key, sha256=asset.sha256)
        assert asset.artefact_key == f"images/acme/2026-11-21/{job.job_id}-{asset.index}-{asset.sha256}.png"
        assert asset.is_simulated


async def test_a_message_that_comes_again_calls_no_provider_again(line: Line) -> None:
    job = await line.accept()

    for _ in range(5):
        await line.run(job, is_redelivered=True)
    await asyncio.gather(*(line.run(job) for _ in range(5)))

    assert line.provider.calls.total() == 1
    assert line.billing.n_resolutions == {f"job/{job.job_id}": 1}


async def test_many_messages_at_once_call_the_provider_once(line: Line) -> None:
    job = await line.accept()

    await asyncio.gather(*(line.run(job) for _ in range(20)))

    assert line.provider.calls.total() == 1
    assert (await line.job(job)).state is JobState.SUCCEEDED


async def test_fewer_pictures_than_asked_are_charged_each(line: Line) -> None:
    line.provider.script = [answer(1)]
    job = await line.accept()

    await line.run(job)

    assert (await line.job(job)).charged_microcredits == PER_IMAGE
    assert await line.available() == FUNDS - PER_IMAGE


async def test_a_bad_picture_among_good_ones_is_noted_and_not_charged(line: Line) -> None:
    line.provider.script = [ProviderAnswer(pictures=(RawPicture(b"<html>"), RawPicture(png())))]
    job = await line.accept()

    await line.run(job)

    assert (await line.job(job)).charged_microcredits == PER_IMAGE
    assert await line.findings(job) == ["picture_refused"]


@pytest.mark.parametrize(
    ("size", "cause"), [("1024x1024", "wrong_size"), ("1x40", "wrong_size"), ("16x16", ""), ("auto", "")]
)
async def test_a_picture_of_another_size_than_asked_is_not_charged(line: Line, size: str, cause: str) -> None:
    """What comes is 1 × 1; up to 15 pixels are a model's rounding."""
    request = ImageRequest(operation=Operation.GENERATION, model="simulated-1", prompt="a lighthouse", size=size)
    job = await line.accept(
        make_job(request=request, created_at=line.clock.now(), deadline_at=line.clock.now() + timedelta(seconds=660))
    )

    await line.run(job)

    done = await line.job(job)
    assert (done.cause, done.charged_microcredits) == (cause, 0 if cause else PER_IMAGE)
    assert await line.available() == FUNDS - done.charged_microcredits


async def test_more_pictures_than_asked_are_dropped_and_noted(line: Line) -> None:
    line.provider.script = [answer(1, 2, 3, 4)]
    job = await line.accept()

    await line.run(job)

    done = await line.job(job)
    assert len(done.asset_ids) == 2 and done.charged_microcredits == 2 * PER_IMAGE
    assert await line.findings(job) == ["surplus_dropped"]


@pytest.mark.parametrize(
    ("outcome", "cause", "ended_as"),
    [
        (Rejected("content_policy"), "content_policy", "rejected"),
        (BadPicture("bad_picture"), "bad_picture", "bad_picture"),
        (ProviderAnswer(pictures=()), "no_pictures", "bad_picture"),
        (ProviderAnswer(pictures=(RawPicture(b"GIF89a"),)), "bad_picture", "bad_picture"),
    ],
)
async def test_a_call_that_made_nothing_usable_fails_and_costs_nothing(
    line: Line, outcome: Exception, cause: str, ended_as: str
) -> None:
    line.provider.script = [outcome]
    job = await line.accept()

    await line.run(job)

    done = await line.job(job)
    assert (done.state, done.money, done.cause) == (JobState.FAILED, Money.VOIDED, cause)
    assert (await line.jobs.attempts(job.job_id))[0].outcome == ended_as
    assert await line.available() == FUNDS


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (Uncertain("provider_error", "502", provider_request_id="p-9"), "provider_error"),
        (KeyError("data"), "provider_error"),
        (RecursionError(), "provider_error"),
        (hang, "timeout"),
    ],
)
async def test_a_call_that_may_have_been_paid_is_uncertain_held_and_never_repeated(
    line: Line, outcome: Exception, cause: str
) -> None:
    line = Line(line.jobs, line.assets, terms=RunTerms(worker_id="w1", call_s_min=0.1))
    line.provider.script = [outcome]
    job = await line.accept(make_job(deadline_at=line.clock.now() + timedelta(seconds=0.2)))

    await line.run(job)
    await line.run(job, is_redelivered=True)

    found = await line.job(job)
    assert (found.state, found.money, found.cause) == (JobState.UNCERTAIN, Money.DISPUTED, cause)
    assert line.hold_state(job) == "disputed"
    assert line.provider.calls.total() == 1
    assert await line.findings(job) == ["uncertain", "money_disputed"]


async def test_a_throttled_call_waits_as_told_and_goes_on(line: Line) -> None:
    line.provider.script = [Throttled("rate_limit", retry_after_s=20), answer(1, 2)]
    job = await line.accept()

    wait_s = await line.run(job)
    too_early = await line.run(job, is_redelivered=True)
    line.clock.forward(20)
    await line.run(job, is_redelivered=True)

    assert (wait_s, too_early) == (20, 20)
    assert (await line.job(job)).state is JobState.SUCCEEDED
    assert [it.outcome for it in await line.jobs.attempts(job.job_id)] == ["throttled", "succeeded"]
    assert line.billing.n_resolutions == {f"job/{job.job_id}": 1}


async def test_a_provider_that_is_busy_past_the_deadline_costs_nothing(line: Line) -> None:
    line.provider.script = [Throttled("throttled", retry_after_s=600)]
    job = await line.accept()

    assert await line.run(job) is None

    done = await line.job(job)
    assert (done.state, done.cause) == (JobState.FAILED, "throttled")
    assert await line.available() == FUNDS


async def test_a_connection_that_was_never_made_is_tried_again_and_bounded(line: Line) -> None:
    line.provider.script = [NotDelivered("not_connected")]
    job = await line.accept()
    waits = []

    while (wait_s := await line.run(job, is_redelivered=True)) is not None:
        waits.append(wait_s)
        line.clock.forward(wait_s)

    done = await line.job(job)
    assert waits[:5] == [1, 2, 4, 8, 16] and len(waits) == 9
    assert (done.state, done.cause, done.n_attempts) == (JobState.FAILED, "not_connected", 10)
    assert await line.available() == FUNDS


async def test_a_job_that_waited_too_long_is_not_begun(line: Line) -> None:
    job = await line.accept()
    line.clock.forward(600)

    await line.run(job)

    assert (await line.job(job)).cause == "timed_out_waiting"
    assert line.provider.calls.total() == 0 and await line.available() == FUNDS


async def test_a_job_of_a_provider_that_is_gone_fails_and_costs_nothing(line: Line) -> None:
    line = Line(line.jobs, line.assets, provider=ScriptedProvider(provider_id="another"))
    job = await line.accept()

    await line.run(job)

    assert (await line.job(job)).cause == "provider_unknown"
    assert await line.available() == FUNDS


async def test_an_unknown_job_is_refused(line: Line) -> None:
    with pytest.raises(Refused):
        await line.run(make_job("nobody"))


async def test_a_reference_that_changed_or_is_gone_fails_the_job_before_any_call(line: Line) -> None:
    gone = Reference("images/references/gone.png", "0" * 64, "image/png", 1, 1, 3)
    request = ImageRequest(operation=Operation.EDIT, model="simulated-1", prompt="x", references=(gone,))
    job = await line.accept(make_job(request=request))

    await line.run(job)

    assert (await line.job(job)).cause == "reference_missing"
    assert line.provider.calls.total() == 0 and await line.available() == FUNDS


async def test_while_billing_is_away_the_outcome_is_kept_and_confirmed_later(line: Line) -> None:
    job = await line.accept()
    line.billing.is_away = True

    assert await line.run(job) is None
    kept = await line.job(job)
    line.billing.is_away = False
    line.clock.forward(15)
    await line.sweep.once()

    assert (kept.state, kept.money) == (JobState.RUNNING, Money.SETTLING)
    done = await line.job(job)
    assert (done.state, done.money) == (JobState.SUCCEEDED, Money.SETTLED)
    assert line.provider.calls.total() == 1


async def test_a_refund_that_billing_does_not_take_becomes_visible_and_is_tried_on(line: Line) -> None:
    line.provider.script = [Rejected("content_policy")]
    job = await line.accept()
    line.billing.is_away = True
    await line.run(job)
    seen = []

    for _ in range(8):
        line.clock.forward(60)
        await line.sweep.once()
        seen.append((await line.job(job)).state)
    line.billing.is_away = False
    line.clock.forward(600)
    await line.sweep.once()

    assert JobState.REFUND_FAILED in seen
    done = await line.job(job)
    assert (done.state, done.money) == (JobState.FAILED, Money.VOIDED)
    assert await line.available() == FUNDS
    assert "money_refund_failed" in await line.findings(job)


async def test_a_hold_that_ran_out_makes_the_picture_free_and_the_loss_ours(line: Line) -> None:
    job = await line.accept()
    line.billing.expire(f"job/{job.job_id}")

    await line.run(job)

    done = await line.job(job)
    assert (done.state, done.money, done.charged_microcredits) == (JobState.SUCCEEDED, Money.VOIDED, 0)
    assert line.billing.loss_microcredits == 2 * PER_IMAGE
    assert await line.available() == FUNDS


async def test_the_lease_is_renewed_while_the_provider_works(line: Line) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def work() -> ProviderAnswer:
        begun.set()
        await finish.wait()
        return answer(1, 2)

    line = Line(line.jobs, line.assets, terms=RunTerms(worker_id="w1", lease_s=0.06))
    line.provider.script = [work]
    job = await line.accept()
    running = asyncio.create_task(line.run(job))
    await begun.wait()
    first = (await line.jobs.attempts(job.job_id))[0].lease_until

    for _ in range(5):
        line.clock.forward(0.05)
        await asyncio.sleep(0.03)
    renewed = (await line.jobs.attempts(job.job_id))[0].lease_until
    duplicate = await line.run(job)
    again = await line.run(job, is_redelivered=True)
    finish.set()
    await running

    assert renewed > first
    assert duplicate is None and again is not None and again > 0
    assert (await line.job(job)).state is JobState.SUCCEEDED


async def test_a_worker_that_was_given_up_still_delivers_its_picture(line: Line) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def work() -> ProviderAnswer:
        begun.set()
        await finish.wait()
        return answer(1, 2)

    line.provider.script = [work]
    job = await line.accept()
    running = asyncio.create_task(line.run(job))
    await begun.wait()
    line.clock.forward(31)
    await line.sweep.once()
    given_up = await line.job(job)
    finish.set()
    await running

    assert (given_up.state, given_up.cause) == (JobState.UNCERTAIN, "worker_lost")
    done = await line.job(job)
    assert (done.state, done.money) == (JobState.SUCCEEDED, Money.SETTLED)
    assert line.provider.calls.total() == 1 and await line.available() == FUNDS - 2 * PER_IMAGE


async def test_transient_trouble_of_the_store_before_the_call_leaves_the_job_as_it_is(line: Line) -> None:
    line = Line(line.jobs, line.assets, artefacts=AwayArtefacts())
    reference = Reference("images/references/a.png", "0" * 64, "image/png", 1, 1, 3)
    request = ImageRequest(operation=Operation.EDIT, model="simulated-1", prompt="x", references=(reference,))
    job = await line.accept(make_job(request=request))

    with pytest.raises(Transient):
        await line.run(job)

    assert (await line.job(job)).state is JobState.PENDING
    assert line.provider.calls.total() == 0


class AwayArtefacts(MemoryArtefactStore):
    """An artefact store that does not answer reads."""

    async def get(self, key: str, *, sha256: str | None = None) -> bytes:
        raise Transient("artefacts_away")


async def test_a_claim_that_took_as_long_as_its_lease_is_handed_back_and_nothing_is_sent() -> None:
    class SlowStore(MemoryJobStore):
        async def claim(self, job_id: str, *, worker_id: str, now: datetime, lease_s: float) -> Attempt | None:
            claimed = await super().claim(job_id, worker_id=worker_id, now=now, lease_s=lease_s)
            line.clock.forward(lease_s)
            return claimed

    assets = MemoryAssetStore()
    line = Line(SlowStore(assets=assets), assets)
    job = await line.accept()

    wait_s = await line.run(job)

    found = await line.job(job)
    assert (found.state, found.money, wait_s) == (JobState.PENDING, Money.HELD, 1.0)
    assert [it.outcome for it in await line.jobs.attempts(job.job_id)] == ["not_delivered"]
    assert line.provider.calls.total() == 0
