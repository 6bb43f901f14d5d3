"""
Run one job: claim it, call its provider at most once for sure, keep the pictures, bring the money to its end.

What is certain is stored before what follows from it, so that a crash between any two lines leaves something that the
sweeper can finish (domain/failpoints.py names the places). A call that may have been paid is never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from qraft_contracts.outcomes import Refused, Transient
from qraft_runtime.clock import Clock
from qraft_runtime.failpoint import reach
from qraft_store.artefacts.port import ArtefactStore
from qraft_telemetry import logs
from svc_imagegen.domain import failpoints
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.outcome import (
    BadPicture,
    NotDelivered,
    ProviderAnswer,
    ProviderOutcome,
    Rejected,
    Throttled,
    Uncertain,
)
from svc_imagegen.ports import JobStore, Provider, ReferenceBytes
from svc_imagegen.usecases.confirm import ConfirmMoney, Evidence
from svc_imagegen.usecases.keep_pictures import KeepPictures, Kept
from svc_imagegen.usecases.observe import Observe
from svc_imagegen.usecases.provider_call import call_provider

N_ATTEMPTS_MAX: Final = 10  # submissions that certainly made nothing; the deadline is usually over before
_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MAX_S: Final = 30.0
_THROTTLE_FIRST_S: Final = 1.0  # at least, when the provider says to come back at once
# What came of a paid call is tried this long to be stored; then the job is left to the sweeper as uncertain.
_KEEP_TRYING_S: Final = 120.0
_PAUSE_S: Final = 0.2
_PAUSE_MAX_S: Final = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunTerms:
    """
    worker_id: names this process in attempts. lease_s: how long an attempt is ours without a sign of life.

    call_s_min: a call is only begun with at least this long until the job's deadline. check_first_s: when an uncertain
    outcome is asked for first.
    """

    worker_id: str
    lease_s: float = 30.0
    call_s_min: float = 120.0
    check_first_s: float = 30.0


class RunJob:
    """The use case; one instance serves all jobs of a process."""

    def __init__(
        self,
        terms: RunTerms,
        *,
        jobs: JobStore,
        confirm: ConfirmMoney,
        keep: KeepPictures,
        observe: Observe,
        providers: Mapping[str, Provider],
        artefacts: ArtefactStore,
        clock: Clock,
    ) -> None:
        self._terms = terms
        self._jobs = jobs
        self._confirm = confirm
        self._keep = keep
        self._observe = observe
        self._providers = providers
        self._artefacts = artefacts
        self._clock = clock

    async def __call__(self, job_id: str, *, is_redelivered: bool) -> float | None:
        """
        Do what there is to do for a job; return after how many seconds it shall be handed over again, or None.

        Raises:
            Transient: before anything was sent, the database or the artefact store was away.
            Refused: there is no such job.
        """
        job = await self._jobs.get(job_id)
        if job is None:
            raise Refused("job_unknown", f"no job {job_id}")
        if job.state is JobState.RUNNING and job.money is Money.HELD:
            # Another worker has it. Only the message of a dead one comes again; a second message of a job does not.
            return self._seconds_until(job.next_check_at) if is_redelivered else None
        if job.state is not JobState.PENDING or job.money is not Money.HELD:
            return None
        if job.retry_at is not None and (wait_s := self._seconds_until(job.retry_at)) > 0:
            return wait_s
        return await self._begin(job)

    async def _begin(self, job: Job) -> float | None:
        provider = self._providers.get(job.provider)
        if provider is None:
            await self._fail(None, job, Rejected("provider_unknown", f"provider {job.provider} is not configured here"))
            return None
        if self._seconds_until(job.deadline_at) < self._terms.call_s_min:
            await self._fail(None, job, Rejected("timed_out_waiting"))
            return None
        try:
            references = await self._references(job)
        except (KeyError, ValueError) as error:
            await self._fail(None, job, Rejected("reference_missing", f"a reference cannot be read: {error}"))
            return None
        # Claimed and marked as sent in one: nothing that could fail lies between the two.
        attempt = await self._jobs.claim(
            job.job_id, worker_id=self._terms.worker_id, now=self._clock.now(), lease_s=self._terms.lease_s
        )
        if attempt is None:
            return None  # somebody was faster
        reach(failpoints.AFTER_CLAIM)
        if attempt.lease_until <= self._clock.now():
            # Storing it took so long that the sweeper may take it away at any moment: the call is not made.
            return await self._try_later(job, attempt, NotDelivered("worker_stalled"))
        async with self._lease(attempt):
            return await self._call(job, attempt, provider, references)

    async def _call(
        self, job: Job, attempt: Attempt, provider: Provider, references: list[ReferenceBytes]
    ) -> float | None:
        outcome = await call_provider(
            provider.generate(job.request, references, attempt_id=attempt.attempt_id),
            timeout_s=self._seconds_until(job.deadline_at),
            provider=job.provider,
        )
        reach(failpoints.AFTER_ANSWER)
        match outcome:
            case ProviderAnswer():
                await self._succeed(job, attempt, outcome)
            case Throttled() | NotDelivered():
                return await self._try_later(job, attempt, outcome)
            case Rejected() | BadPicture():
                await self._fail(attempt, job, outcome)
            case Uncertain():
                await self._dispute(job, outcome)
            case _:
                raise AssertionError(f"an outcome without a rule: {outcome!r}")
        return None

    async def _succeed(self, job: Job, attempt: Attempt, answer: ProviderAnswer) -> None:
        kept = await _until_stored(lambda: self._keep(job, attempt, answer))
        if not kept.assets:
            fault = kept.faults[0] if kept.faults else BadPicture("no_pictures", "the answer held no picture")
            await self._fail(attempt, job, fault)
            return
        reach(failpoints.AFTER_STORE)
        charge = job.per_image_microcredits * len(kept.assets) + job.references_microcredits
        settling = await _until_stored(
            lambda: self._jobs.record_success(
                attempt, assets=kept.assets, charge_microcredits=charge, answer=answer, now=self._clock.now()
            )
        )
        reach(failpoints.AFTER_SUCCESS)
        if settling is None:
            logs.get().warning("job.outcome_unwanted", job_id=job.job_id, attempt=attempt.attempt, outcome="succeeded")
            return
        await self._note(settling, kept)
        await self._confirm_now(settling, Evidence(tuple(it.sha256 for it in kept.assets), answer.cost_microusd))
        await self._observe(settling)

    async def _fail(self, attempt: Attempt | None, job: Job, outcome: ProviderOutcome) -> None:
        kind = "bad_picture" if isinstance(outcome, BadPicture) else _kind_of(outcome)
        voiding = await _until_stored(
            lambda: self._jobs.record_failure(
                attempt, job.job_id, cause=outcome.cause, detail=outcome.detail, now=self._clock.now(), outcome=kind
            )
        )
        reach(failpoints.AFTER_FAILURE)
        if voiding is not None:
            await self._confirm_now(voiding)

    async def _dispute(self, job: Job, outcome: Uncertain) -> None:
        now = self._clock.now()
        disputing = await _until_stored(
            lambda: self._jobs.record_uncertain(
                job.job_id,
                cause=outcome.cause,
                detail=outcome.detail,
                provider_request_id=outcome.provider_request_id,
                now=now,
                next_check_at=now + timedelta(seconds=self._terms.check_first_s),
            )
        )
        reach(failpoints.AFTER_UNCERTAIN)
        if disputing is not None:
            await self._confirm_now(disputing)

    async def _try_later(self, job: Job, attempt: Attempt, outcome: Throttled | NotDelivered) -> float | None:
        """Release the job until the provider may be asked again, or fail it if that would be too late."""
        if isinstance(outcome, Throttled):
            wait_s = max(_THROTTLE_FIRST_S, outcome.retry_after_s)
        else:
            wait_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** (attempt.attempt - 1))
        is_too_late = self._seconds_until(job.deadline_at) - wait_s < self._terms.call_s_min
        if is_too_late or attempt.attempt >= N_ATTEMPTS_MAX:
            await self._fail(attempt, job, outcome)
            return None
        now = self._clock.now()
        released = await _until_stored(
            lambda: self._jobs.release(
                attempt,
                now=now,
                outcome=_kind_of(outcome),
                cause=outcome.cause,
                retry_at=now + timedelta(seconds=wait_s),
            )
        )
        reach(failpoints.AFTER_RELEASE)
        return wait_s if released is not None else None

    async def _confirm_now(self, job: Job, evidence: Evidence | None = None) -> None:
        try:
            await self._confirm(job, evidence)
        except Transient as error:
            logs.get().warning("money.left_to_sweeper", job_id=job.job_id, money=job.money.value, reason=error.reason)

    async def _note(self, job: Job, kept: Kept) -> None:
        """Write into the audit record what the answer held beside the pictures."""
        notes = [("picture_refused", f"{fault.cause}: {fault.detail}") for fault in kept.faults]
        if kept.n_surplus:
            notes.append(("surplus_dropped", f"{kept.n_surplus} more than were asked for"))
        for finding, detail in notes:
            await _until_stored(
                lambda finding=finding, detail=detail: self._jobs.record_check(  # type: ignore[misc]
                    job.job_id, finding=finding, detail=detail, now=self._clock.now(), next_check_at=job.next_check_at
                )
            )

    async def _references(self, job: Job) -> list[ReferenceBytes]:
        found = []
        for reference in job.request.references:
            data = await self._artefacts.get(reference.artefact_key, sha256=reference.sha256)
            found.append(ReferenceBytes(reference, data))
        return found

    @asynccontextmanager
    async def _lease(self, attempt: Attempt) -> AsyncIterator[None]:
        """Keep the attempt ours while the block runs."""
        loop, renewals = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        # Most jobs end before their first renewal, and never have a task for it.
        timer = loop.call_later(
            self._terms.lease_s / 3, lambda: renewals.add(loop.create_task(self._renew(attempt)))
        )  # fmt: skip
        try:
            yield
        finally:
            timer.cancel()
            for renewal in renewals:
                while not renewal.done():
                    renewal.cancel()
                    await asyncio.wait({renewal}, timeout=0.1)
        for renewal in renewals:
            if not renewal.cancelled() and (error := renewal.exception()) is not None:
                raise error

    async def _renew(self, attempt: Attempt) -> None:
        while True:
            until = self._clock.now() + timedelta(seconds=self._terms.lease_s)
            try:
                if not await self._jobs.extend_lease(attempt, until=until):
                    return  # the outcome is being stored, or the sweeper has taken the attempt over
            except Transient as error:
                logs.get().warning("lease.not_renewed", job_id=attempt.job_id, reason=error.reason)
            await asyncio.sleep(self._terms.lease_s / 3)

    def _seconds_until(self, at: datetime | None) -> float:
        return max(0.0, (at - self._clock.now()).total_seconds()) if at is not None else 0.0


async def _until_stored(store: Callable[[], Awaitable[T]]) -> T:
    """
    Store what came of a call, again and again while the stores are away.

    Raises:
        Transient: after two minutes.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _KEEP_TRYING_S
    pause_s = _PAUSE_S
    while True:
        try:
            return await store()
        except Transient:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(_PAUSE_MAX_S, pause_s * 2)


def _kind_of(outcome: ProviderOutcome) -> str:
    match outcome:
        case Throttled():
            return "throttled"
        case NotDelivered():
            return "not_delivered"
        case _:
            return "rejected"
