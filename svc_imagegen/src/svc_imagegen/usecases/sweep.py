"""
Finish what was left open: by a crash, a lost message, an absent billing service or an uncertain outcome.

The rule for an outcome that nobody can tell: it is asked for at growing intervals until the deadline (a day), then the
credits are given back. A picture that still comes afterwards is delivered and not charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_runtime.failpoint import reach
from qraft_telemetry import logs
from svc_imagegen.domain import failpoints
from svc_imagegen.domain.asset import Attempt
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.outcome import Lookup, ProviderAnswer
from svc_imagegen.ports import Billing, JobStore, Provider, Turn
from svc_imagegen.usecases.confirm import ConfirmMoney
from svc_imagegen.usecases.keep_pictures import KeepPictures
from svc_imagegen.usecases.provider_call import call_provider

_N_JOBS_MAX: Final = 200  # of one pass; the next begins sweep_interval_s later
_N_CONCURRENT: Final = 8
_LOOK_UP_TIMEOUT_S: Final = 60.0
_CHECK_MAX_S: Final = 3_600.0
_HOLD_PREFIX: Final = "job/"
_ORPHAN: Final = "orphan"


@dataclass(frozen=True, slots=True)
class SweepTerms:
    """
    uncertain_deadline_s: from a job's creation until an uncertain outcome counts as failed. call_s_min: as in RunTerms.

    orphan_after_s: a hold this old without a job never gets one. check_first_s doubles from look-up to look-up.
    """

    interval_s: float = 5.0
    uncertain_deadline_s: float = 86_400.0
    call_s_min: float = 120.0
    orphan_after_s: float = 60.0
    check_first_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass did. is_ours False: another process has the turn."""

    is_ours: bool
    n_jobs: int = 0
    n_orphans: int = 0


class Sweep:
    """The use case; `run` for ever, or `once`."""

    def __init__(
        self,
        terms: SweepTerms,
        *,
        jobs: JobStore,
        billing: Billing,
        confirm: ConfirmMoney,
        keep: KeepPictures,
        providers: Mapping[str, Provider],
        turn: Turn,
        clock: Clock,
    ) -> None:
        self._terms = terms
        self._jobs = jobs
        self._billing = billing
        self._confirm = confirm
        self._keep = keep
        self._providers = providers
        self._turn = turn
        self._clock = clock

    async def run(self) -> None:
        """Sweep for ever; ends by cancel."""
        task = asyncio.current_task()
        while task is None or not task.cancelling():
            try:
                await self.once()
            except Transient as error:
                logs.get().warning("sweep.retried", reason=error.reason, detail=error.detail)
            await asyncio.sleep(self._terms.interval_s)
        raise asyncio.CancelledError

    async def once(self) -> Swept:
        """
        Look once at everything that is due.

        Raises:
            Transient: the database is away.
        """
        async with self._turn.take() as is_ours:
            if not is_ours:
                return Swept(is_ours=False)
            due = await self._jobs.due(now=self._clock.now(), limit=_N_JOBS_MAX)
            gate = asyncio.Semaphore(_N_CONCURRENT)
            await asyncio.gather(*(self._look_at(job, gate) for job in due))
            n_orphans = await self._void_orphans()
        if due or n_orphans:
            logs.get().info("sweep.done", n_jobs=len(due), n_orphans=n_orphans)
        return Swept(is_ours=True, n_jobs=len(due), n_orphans=n_orphans)

    async def _look_at(self, job: Job, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                await self._finish(job)
            except Transient as error:
                logs.get().warning("sweep.job_left", job_id=job.job_id, reason=error.reason)

    async def _finish(self, job: Job) -> None:
        now = self._clock.now()
        match job.state, job.money:
            case JobState.PENDING, Money.HELD:
                await self._hurry(job, now)
            case JobState.RUNNING, Money.HELD:
                await self._recover(job, now)
            case JobState.UNCERTAIN, Money.DISPUTED:
                await self._resolve(job, now)
            case _:
                await self._confirm.patiently(job)

    async def _hurry(self, job: Job, now: datetime) -> None:
        """Tell of a pending job again, or give it up when it can no longer be begun in time."""
        if (job.deadline_at - now).total_seconds() >= self._terms.call_s_min:
            await self._jobs.requeue(job.job_id, now=now)
            return
        voiding = await self._jobs.record_failure(None, job.job_id, cause="timed_out_waiting", detail="", now=now)
        reach(failpoints.AFTER_FAILURE)
        if voiding is not None:
            await self._confirm.patiently(voiding)

    async def _recover(self, job: Job, now: datetime) -> None:
        """Take over an attempt whose worker gave no sign of life: it may have been sent, so that it is uncertain."""
        attempt = (await self._jobs.attempts(job.job_id))[-1]
        if attempt.lease_until > now:
            return
        disputing = await self._jobs.record_uncertain(
            job.job_id,
            cause="worker_lost",
            detail=f"worker {attempt.worker_id} gave no sign of life",
            provider_request_id=None,
            now=now,
            next_check_at=now,
        )
        reach(failpoints.AFTER_UNCERTAIN)
        if disputing is not None:
            await self._confirm.patiently(disputing)

    async def _resolve(self, job: Job, now: datetime) -> None:
        attempt = (await self._jobs.attempts(job.job_id))[-1]
        found = await self._look_up(job, attempt)
        reach(failpoints.AFTER_LOOK_UP)
        if found.status == "succeeded" and found.answer is not None:
            await self._deliver(job, attempt, found.answer)
        elif found.status == "failed":
            await self._give_up(job, cause="provider_failed", detail=found.detail)
        elif now >= self._deadline_of(job):
            await self._give_up(job, cause="never_resolved", detail=f"last word of the provider: {found.status}")
        else:
            pause_s = min(_CHECK_MAX_S, self._terms.check_first_s * 2.0 ** min(job.n_checks, 20))
            again_at = min(now + timedelta(seconds=pause_s), self._deadline_of(job))
            await self._jobs.record_check(
                job.job_id, finding=f"look_up_{found.status}", detail=found.detail, now=now, next_check_at=again_at
            )

    async def _look_up(self, job: Job, attempt: Attempt) -> Lookup:
        """Ask by the provider's id, or by ours where it never told one."""
        provider = self._providers.get(job.provider)
        if provider is None:
            return Lookup("unknown", detail="the provider is not configured any more")
        reference = job.provider_request_id or attempt.attempt_id
        found = await call_provider(provider.look_up(reference), timeout_s=_LOOK_UP_TIMEOUT_S, provider=job.provider)
        return found if isinstance(found, Lookup) else Lookup("unknown", detail=str(found))

    async def _deliver(self, job: Job, attempt: Attempt, answer: ProviderAnswer) -> None:
        kept = await self._keep(job, attempt, answer)
        if not kept.assets:
            await self._give_up(job, cause="bad_picture", detail="; ".join(str(it) for it in kept.faults))
            return
        settling = await self._jobs.record_success(
            attempt,
            assets=kept.assets,
            charge_microcredits=job.per_image_microcredits * len(kept.assets) + job.references_microcredits,
            answer=answer,
            now=self._clock.now(),
        )
        reach(failpoints.AFTER_SUCCESS)
        if settling is not None:
            await self._confirm.patiently(settling)

    async def _give_up(self, job: Job, *, cause: str, detail: str) -> None:
        voiding = await self._jobs.record_failure(
            None, job.job_id, cause=cause, detail=detail, now=self._clock.now(), outcome="uncertain"
        )
        reach(failpoints.AFTER_FAILURE)
        if voiding is not None:
            await self._confirm.patiently(voiding)

    async def _void_orphans(self) -> int:
        """Give back credits that are held for a job that was never stored."""
        before = self._clock.now() - timedelta(seconds=self._terms.orphan_after_s)
        try:
            reply = await self._billing.open_holds(purpose_prefix=_HOLD_PREFIX, made_before=before)
            by_job = {it.purpose.removeprefix(_HOLD_PREFIX): it for it in reply.holds}
            known = await self._jobs.which_exist(list(by_job))
            orphans: Sequence[str] = sorted(by_job.keys() - known)
            for job_id in orphans:
                await self._billing.void(job_id, account_id=by_job[job_id].account_id, reason=_ORPHAN)
        except Transient as error:
            logs.get().warning("sweep.orphans_left", reason=error.reason)
            return 0
        return len(orphans)

    def _deadline_of(self, job: Job) -> datetime:
        return job.created_at + timedelta(seconds=self._terms.uncertain_deadline_s)
