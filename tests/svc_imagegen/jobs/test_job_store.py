"""One behaviour suite for the job store on PostgreSQL and its twin in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.svc_imagegen.jobs.kit import (
    ANSWER,
    T0,
    accept,
    at,
    make_asset,
    make_job,
    memory_stores,
    postgres_stores,
    submitted,
)

from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.ports import AssetStore, IdempotencyMismatch, JobStore

Stores = tuple[JobStore, AssetStore]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        async with memory_stores() as found:
            yield found
    else:
        async with postgres_stores(request.getfixturevalue("postgres_dsn")) as found:
            yield found


@pytest.fixture
def store(stores: Stores) -> JobStore:
    return stores[0]


async def test_an_accepted_job_is_read_back_as_it_was_stored(store: JobStore) -> None:
    stored = await accept(store, make_job(prompt="Nul \x00, Zürich, 灯塔 and 🗼"))

    assert await store.get(stored.job_id) == stored
    assert (stored.version, stored.n_told, stored.state) == (1, 1, JobState.PENDING)
    assert await store.which_exist([stored.job_id, "other"]) == {stored.job_id}


async def test_an_unknown_job_has_no_row_no_step_and_no_audit(store: JobStore) -> None:
    assert await store.get("nobody") is None
    assert await store.claim("nobody", worker_id="w", now=T0, lease_s=1) is None
    await store.requeue("nobody", now=T0)
    await store.record_check("nobody", finding="x", detail="", now=T0, next_check_at=None)
    assert await store.audit("nobody") == []


async def test_the_same_idempotency_key_joins_and_other_content_is_a_mismatch(store: JobStore) -> None:
    first = await accept(store, make_job(idempotency_key="k"))

    again = await store.accept(
        make_job(idempotency_key="k", created_at=at(5)), retry_count=0, received_at=at(5), join_window_s=900
    )

    assert not again.is_new and again.job == first
    with pytest.raises(IdempotencyMismatch):
        await accept(store, make_job(idempotency_key="k", fingerprint="0" * 64))
    with pytest.raises(IdempotencyMismatch):
        await store.find_join(
            make_job(idempotency_key="k", fingerprint="0" * 64), retry_count=0, received_at=T0, join_window_s=900
        )
    other_account = await accept(store, make_job(account_id="other", idempotency_key="k"))
    assert other_account.job_id != first.job_id


async def test_an_idempotency_key_is_free_again_after_a_day(store: JobStore) -> None:
    first = await accept(store, make_job(idempotency_key="k"))

    later = make_job(idempotency_key="k", created_at=at(86_401), deadline_at=at(87_000), fingerprint="0" * 64)

    assert (await accept(store, later)).job_id == later.job_id != first.job_id


async def test_a_first_call_never_joins_and_its_retry_does(store: JobStore) -> None:
    first = await accept(store, make_job())
    second = await accept(store, make_job(created_at=at(1)))

    retry = await accept(store, make_job(created_at=at(2)), retry_count=1)
    too_late = await accept(store, make_job(created_at=at(902), deadline_at=at(2000)), retry_count=1)
    other = await accept(store, make_job(created_at=at(2), fingerprint="0" * 64), retry_count=2)

    assert first.job_id != second.job_id
    assert retry == second
    assert too_late.job_id not in (first.job_id, second.job_id)
    assert other.job_id not in (first.job_id, second.job_id)


async def test_a_first_call_that_its_retry_overtook_joins_the_retry(store: JobStore) -> None:
    retry = await accept(store, make_job(created_at=at(10)), retry_count=1, received_at=at(10))

    first = await accept(store, make_job(created_at=at(11)), received_at=at(9))
    found = await store.find_join(make_job(created_at=at(12)), retry_count=0, received_at=at(9), join_window_s=900)
    unrelated = await accept(store, make_job(created_at=at(12)), received_at=at(10.5))

    assert first == retry == found
    assert unrelated.job_id != retry.job_id


async def test_a_hundred_equal_calls_at_once_make_one_job(store: JobStore) -> None:
    calls = [
        store.accept(make_job(idempotency_key="one"), retry_count=0, received_at=T0, join_window_s=900)
        for _ in range(100)
    ]

    done = await asyncio.gather(*calls)

    assert len({it.job.job_id for it in done}) == 1
    assert sum(it.is_new for it in done) == 1


async def test_a_job_is_claimed_by_one_of_many(store: JobStore) -> None:
    job = await accept(store, make_job())

    claims = await asyncio.gather(
        *(store.claim(job.job_id, worker_id=f"w{n}", now=at(1), lease_s=30) for n in range(20))
    )

    assert sum(it is not None for it in claims) == 1
    assert len(await store.attempts(job.job_id)) == 1
    running = await store.get(job.job_id)
    assert running is not None
    assert (running.state, running.n_attempts, running.started_at) == (JobState.RUNNING, 1, at(1))


async def test_a_claim_is_stored_as_sent_before_anything_is_sent(store: JobStore) -> None:
    job = await accept(store, make_job())

    attempt = await store.claim(job.job_id, worker_id="w1", now=at(1), lease_s=30)

    assert attempt is not None and attempt.submitted_at == at(1)
    assert await store.attempts(job.job_id) == [attempt]


async def test_a_longer_lease_moves_the_next_look_and_not_the_version(store: JobStore) -> None:
    job = make_job()
    attempt = await submitted(store, job)
    before = await store.get(job.job_id)

    assert await store.extend_lease(attempt, until=at(90))

    after = await store.get(job.job_id)
    assert before is not None and after is not None
    assert after.next_check_at == at(90) and after.version == before.version
    assert (await store.attempts(job.job_id))[0].lease_until == at(90)


async def test_a_released_job_waits_until_it_may_be_tried_again(store: JobStore) -> None:
    job = make_job()
    attempt = await submitted(store, job)

    released = await store.release(attempt, now=at(3), outcome="throttled", cause="rate", retry_at=at(20))

    assert released is not None and released.state is JobState.PENDING
    assert await store.claim(job.job_id, worker_id="w2", now=at(10), lease_s=30) is None
    second = await store.claim(job.job_id, worker_id="w2", now=at(20), lease_s=30)
    assert second is not None and second.attempt == 2
    assert not await store.extend_lease(attempt, until=at(99)), "the first worker has nothing to say any more"
    assert [it.outcome for it in await store.attempts(job.job_id)] == ["throttled", ""]


async def test_a_success_is_settled_before_it_is_shown(stores: Stores) -> None:
    store, assets = stores
    job = make_job()
    attempt = await submitted(store, job)
    pictures = [make_asset(job, 0), make_asset(job, 1)]

    settling = await store.record_success(
        attempt, assets=pictures, charge_microcredits=20_000, answer=ANSWER, now=at(5)
    )
    done = await store.finish(
        job.job_id, state=JobState.SUCCEEDED, money=Money.SETTLED, now=at(6), charged_microcredits=20_000
    )

    assert settling is not None and (settling.state, settling.money) == (JobState.RUNNING, Money.SETTLING)
    assert done is not None and done.is_final and done.next_check_at is None
    assert (done.charged_microcredits, done.finished_at) == (20_000, at(6))
    assert list(await assets.of_job(job.job_id)) == pictures
    assert await assets.get(done.asset_ids[1]) == pictures[1]
    ended = (await store.attempts(job.job_id))[0]
    assert (ended.outcome, ended.provider_request_id, ended.cost_microusd) == ("succeeded", "prov-1", 12)


async def test_a_second_outcome_of_a_job_changes_nothing(store: JobStore) -> None:
    job = make_job()
    attempt = await submitted(store, job)
    await store.record_success(attempt, assets=[make_asset(job)], charge_microcredits=1, answer=ANSWER, now=at(5))

    assert (
        await store.record_success(attempt, assets=[make_asset(job)], charge_microcredits=1, answer=ANSWER, now=at(6))
        is None
    )
    assert await store.record_failure(attempt, job.job_id, cause="x", detail="", now=at(6)) is None
    assert (
        await store.record_uncertain(
            job.job_id, cause="x", detail="", provider_request_id=None, now=at(6), next_check_at=at(7)
        )
        is None
    )
    assert await store.cancel(job.job_id, now=at(6)) is None
    assert await store.finish(job.job_id, state=JobState.FAILED, money=Money.VOIDED, now=at(6)) is None


async def test_a_failure_is_void_before_it_is_shown(store: JobStore) -> None:
    job = make_job()
    attempt = await submitted(store, job)

    voiding = await store.record_failure(
        attempt, job.job_id, cause="content_policy", detail="no\x00\ud800", now=at(5), outcome="rejected"
    )
    failed = await store.finish(job.job_id, state=JobState.FAILED, money=Money.VOIDED, now=at(6))

    assert voiding is not None and (voiding.state, voiding.money) == (JobState.RUNNING, Money.VOIDING)
    assert failed is not None and failed.is_final and failed.charged_microcredits == 0
    assert (await store.attempts(job.job_id))[0].outcome == "rejected"


async def uncertain(store: JobStore) -> Job:
    job = make_job()
    await submitted(store, job)
    await store.record_uncertain(
        job.job_id, cause="read_timeout", detail="", provider_request_id="p", now=at(5), next_check_at=at(60)
    )
    done = await store.finish(
        job.job_id, state=JobState.UNCERTAIN, money=Money.DISPUTED, now=at(6), next_check_at=at(60)
    )
    assert done is not None
    return done


async def test_an_uncertain_job_keeps_its_audit_record_and_is_resolved_by_what_is_found(store: JobStore) -> None:
    job = await uncertain(store)
    attempt = (await store.attempts(job.job_id))[0]
    await store.record_check(job.job_id, finding="unknown", detail="not told", now=at(60), next_check_at=at(180))
    checked = await store.get(job.job_id)

    found = await store.record_success(
        attempt, assets=[make_asset(job)], charge_microcredits=10_000, answer=ANSWER, now=at(200)
    )
    done = await store.finish(
        job.job_id, state=JobState.SUCCEEDED, money=Money.SETTLED, now=at(201), charged_microcredits=10_000
    )

    assert checked is not None and (checked.n_checks, checked.next_check_at) == (1, at(180))
    assert found is not None and (found.state, found.money) == (JobState.UNCERTAIN, Money.SETTLING)
    assert done is not None and done.is_final
    findings = [finding for _, finding, _ in await store.audit(job.job_id)]
    assert findings == ["uncertain", "money_disputed", "unknown", "resolved_succeeded", "money_settled"]


async def test_a_picture_that_comes_after_the_credits_were_given_back_is_free(store: JobStore) -> None:
    job = await uncertain(store)
    attempt = (await store.attempts(job.job_id))[0]
    await store.record_failure(None, job.job_id, cause="never_resolved", detail="", now=at(100))
    failed = await store.finish(job.job_id, state=JobState.FAILED, money=Money.VOIDED, now=at(101))

    late = await store.record_success(
        attempt, assets=[make_asset(job)], charge_microcredits=10_000, answer=ANSWER, now=at(200)
    )
    done = await store.finish(job.job_id, state=JobState.SUCCEEDED, money=Money.VOIDED, now=at(201))

    assert failed is not None and failed.state is JobState.FAILED
    assert late is not None and (late.state, late.loss_microcredits) == (JobState.FAILED, 10_000)
    assert not late.is_final, "the loss is still to be booked"
    assert done is not None and done.is_final
    assert (done.state, done.money, done.charged_microcredits) == (JobState.SUCCEEDED, Money.VOIDED, 0)


async def test_a_loss_that_is_noted_while_the_credits_go_back_is_not_forgotten(store: JobStore) -> None:
    job = await uncertain(store)
    attempt = (await store.attempts(job.job_id))[0]
    await store.record_failure(None, job.job_id, cause="never_resolved", detail="", now=at(100))
    await store.record_success(
        attempt, assets=[make_asset(job)], charge_microcredits=10_000, answer=ANSWER, now=at(101)
    )

    voided = await store.finish(job.job_id, state=JobState.FAILED, money=Money.VOIDED, now=at(102))

    assert voided is not None and voided.loss_microcredits == 10_000 and not voided.is_final
    assert [it.job_id for it in await store.due(now=at(200), limit=9)] == [job.job_id]


async def test_a_refund_that_fails_is_a_state_of_its_own_until_it_works(store: JobStore) -> None:
    job = make_job()
    attempt = await submitted(store, job)
    await store.record_failure(attempt, job.job_id, cause="bad_picture", detail="", now=at(5), outcome="bad_picture")

    visible = await store.finish(
        job.job_id, state=JobState.REFUND_FAILED, money=Money.REFUND_FAILED, now=at(60), next_check_at=at(120)
    )
    done = await store.finish(job.job_id, state=JobState.FAILED, money=Money.VOIDED, now=at(121))

    assert visible is not None and (visible.state, visible.next_check_at) == (JobState.REFUND_FAILED, at(120))
    assert done is not None and done.is_final
    assert [finding for _, finding, _ in await store.audit(job.job_id)] == ["money_refund_failed", "money_voided"]


async def test_a_pending_job_can_be_canceled_and_a_running_one_not(store: JobStore) -> None:
    pending = await accept(store, make_job())
    running = make_job()
    await submitted(store, running)

    canceling = await store.cancel(pending.job_id, now=at(2))

    assert canceling is not None and canceling.money is Money.VOIDING
    assert await store.claim(pending.job_id, worker_id="w", now=at(3), lease_s=30) is None
    done = await store.finish(pending.job_id, state=JobState.CANCELED, money=Money.VOIDED, now=at(3))
    assert done is not None and done.is_final
    assert await store.cancel(running.job_id, now=at(2)) is None


async def test_due_jobs_are_those_whose_time_has_come_earliest_first(store: JobStore) -> None:
    lost = await accept(store, make_job())
    running = make_job()
    await submitted(store, running, lease_s=30)
    await accept(store, make_job(created_at=at(100)))

    assert [it.job_id for it in await store.due(now=at(30), limit=10)] == []
    assert [it.job_id for it in await store.due(now=at(61), limit=10)] == [running.job_id, lost.job_id]
    assert [it.job_id for it in await store.due(now=at(61), limit=1)] == [running.job_id]
    await store.requeue(lost.job_id, now=at(61))
    told = await store.get(lost.job_id)
    assert told is not None and told.n_told == 2
    assert [it.job_id for it in await store.due(now=at(62), limit=10)] == [running.job_id]


async def test_jobs_are_listed_newest_first_in_pages_and_by_account(store: JobStore) -> None:
    jobs = [await accept(store, make_job(created_at=at(n))) for n in range(5)]
    await accept(store, make_job(account_id="other"))

    first = await store.list_jobs("acme", limit=2, before=None)
    second = await store.list_jobs("acme", limit=9, before=first[-1].job_id)

    assert [it.job_id for it in (*first, *second)] == [it.job_id for it in reversed(jobs)]
    assert await store.list_jobs("acme", limit=9, before="nobody") == []


async def test_the_place_in_the_queue_counts_earlier_jobs_of_the_same_provider(store: JobStore) -> None:
    first = await accept(store, make_job())
    await accept(store, make_job(provider="other"))
    second = await accept(store, make_job(created_at=at(1)))

    assert [await store.place_in_queue(it) for it in (first, second)] == [1, 2]
    await store.claim(first.job_id, worker_id="w", now=at(2), lease_s=30)
    running = await store.get(first.job_id)
    assert running is not None
    assert [await store.place_in_queue(it) for it in (running, second)] == [0, 1]


async def test_whole_downloads_are_counted_on_the_asset(stores: Stores) -> None:
    store, assets = stores
    job = make_job()
    attempt = await submitted(store, job)
    await store.record_success(attempt, assets=[make_asset(job)], charge_microcredits=1, answer=ANSWER, now=at(5))
    asset_id = f"{job.job_id}-0"

    await assets.count_download(asset_id, n_bytes=100, is_complete=True, at=at(6))
    await assets.count_download(asset_id, n_bytes=10, is_complete=False, at=at(7))
    await assets.count_download("nobody", n_bytes=10, is_complete=True, at=at(7))

    found = await assets.get(asset_id)
    assert found is not None and found.n_downloads == 1
