"""
Bring the money of a job to its end: what was decided and stored is done in the ledger, then stored as done.

Every command carries an id made from the job, so that doing it twice, by worker and sweeper or after a crash, is the
same as doing it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qraft_contracts import billing as ledger
from qraft_contracts.billing import BillingReply
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_runtime.failpoint import reach
from qraft_telemetry import logs
from svc_imagegen.domain import failpoints
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.transitions import CANCELED_CAUSE
from svc_imagegen.ports import AssetStore, Billing, JobStore

# A refund that did not work this often is shown as refund_failed; it goes on being tried. About a minute.
N_REFUNDS_BEFORE_SHOWN: Final = 4
_RETRY_FIRST_S: Final = 5.0
_RETRY_MAX_S: Final = 300.0

_GIVEN_BACK: Final = frozenset({ledger.ALREADY_VOIDED, ledger.ALREADY_EXPIRED})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a settlement rests on: the pictures' hashes, and what the provider said that they cost."""

    asset_sha256s: tuple[str, ...]
    cost_microusd: int | None


class ConfirmMoney:
    """The use case; worker and sweeper share it."""

    def __init__(self, *, jobs: JobStore, assets: AssetStore, billing: Billing, clock: Clock) -> None:
        self._jobs = jobs
        self._assets = assets
        self._billing = billing
        self._clock = clock

    async def __call__(self, job: Job, evidence: Evidence | None = None) -> Job | None:
        """
        Do in the ledger what the job's money says, and return the job as it is then; None: somebody else did it.

        evidence: as it was just stored; without it, it is read.

        Raises:
            Transient: billing or the database is away; the job is as it was, and doing this again is safe.
        """
        match job.money:
            case Money.SETTLING:
                return await self._settle(job, evidence or await self._evidence(job))
            case Money.VOIDING | Money.REFUND_FAILED:
                return await self._void(job)
            case Money.DISPUTING:
                return await self._dispute(job)
            case Money.VOIDED if job.loss_microcredits:
                return await self._book_loss(job)
            case _:
                return job

    async def patiently(self, job: Job) -> Job | None:
        """As above, for the sweeper: what billing does not answer is noted on the job and looked at again later."""
        try:
            return await self(job)
        except Transient as error:
            return await self._postpone(job, finding=f"{job.money.value}_retried", detail=str(error))

    async def _settle(self, job: Job, evidence: Evidence) -> Job | None:
        reply = await self._billing.settle(
            job.job_id,
            amount_microcredits=job.charged_microcredits,
            asset_sha256s=evidence.asset_sha256s,
            provider_cost_microusd=evidence.cost_microusd,
            is_simulated=job.is_simulated,
        )
        reach(failpoints.AFTER_SETTLE)
        if reply.outcome == ledger.OK or reply.code == ledger.ALREADY_SETTLED:
            return await self._finish(
                job, JobState.SUCCEEDED, Money.SETTLED, charged_microcredits=job.charged_microcredits
            )
        if reply.code in _GIVEN_BACK:
            # The hold ran out, or was voided as an orphan: the picture is free.
            return await self._late_success(job, job.charged_microcredits, evidence)
        return await self._postpone(job, finding="settle_refused", detail=_said(reply))

    async def _void(self, job: Job) -> Job | None:
        reply = await self._billing.void(job.job_id, account_id=job.account_id, reason=job.cause or "failed")
        reach(failpoints.AFTER_VOID)
        if reply.outcome != ledger.OK and reply.code not in _GIVEN_BACK:
            return await self._postpone(job, finding="void_refused", detail=_said(reply))
        if job.loss_microcredits:
            return await self._book_loss(job)
        state = JobState.CANCELED if job.cause == CANCELED_CAUSE else JobState.FAILED
        return await self._finish(job, state, Money.VOIDED)

    async def _dispute(self, job: Job) -> Job | None:
        reply = await self._billing.dispute(job.job_id, reason=job.cause)
        reach(failpoints.AFTER_DISPUTE)
        if reply.outcome != ledger.OK and reply.code not in _GIVEN_BACK:
            return await self._postpone(job, finding="dispute_refused", detail=_said(reply))
        return await self._finish(job, JobState.UNCERTAIN, Money.DISPUTED, next_check_at=job.next_check_at)

    async def _book_loss(self, job: Job) -> Job | None:
        return await self._late_success(job, job.loss_microcredits, await self._evidence(job))

    async def _late_success(self, job: Job, amount: int, evidence: Evidence) -> Job | None:
        reply = await self._billing.late_success(
            job.job_id,
            amount_microcredits=amount,
            asset_sha256s=evidence.asset_sha256s,
            provider_cost_microusd=evidence.cost_microusd,
        )
        reach(failpoints.AFTER_LATE_SUCCESS)
        if reply.outcome != ledger.OK:
            return await self._postpone(job, finding="late_success_refused", detail=_said(reply))
        return await self._finish(job, JobState.SUCCEEDED, Money.VOIDED)

    async def _evidence(self, job: Job) -> Evidence:
        assets = await self._assets.of_job(job.job_id)
        attempts = await self._jobs.attempts(job.job_id)
        return Evidence(tuple(it.sha256 for it in assets), attempts[-1].cost_microusd)

    async def _finish(
        self, job: Job, state: JobState, money: Money, *, charged_microcredits: int = 0,
        next_check_at: datetime | None = None,
    ) -> Job | None:  # fmt: skip
        done = await self._jobs.finish(
            job.job_id,
            state=state,
            money=money,
            now=self._clock.now(),
            charged_microcredits=charged_microcredits,
            next_check_at=next_check_at,
        )
        reach(failpoints.AFTER_FINISH)
        if done is not None:
            _log_end(done)
        return done

    async def _postpone(self, job: Job, *, finding: str, detail: str) -> Job | None:
        """Note that billing did not do it, and when to try again; a refund that keeps failing becomes visible."""
        now = self._clock.now()
        again_at = now + timedelta(seconds=min(_RETRY_MAX_S, _RETRY_FIRST_S * 2.0 ** min(job.n_checks, 10)))
        logs.get().warning("money.unconfirmed", job_id=job.job_id, money=job.money.value, finding=finding, why=detail)
        await self._jobs.record_check(job.job_id, finding=finding, detail=detail, now=now, next_check_at=again_at)
        n_tries = job.n_checks + 1
        if job.money is not Money.VOIDING or n_tries < N_REFUNDS_BEFORE_SHOWN:
            return None
        shown = await self._finish(job, JobState.REFUND_FAILED, Money.REFUND_FAILED, next_check_at=again_at)
        if shown is not None:
            await self._tell_refund_failed(job, n_tries, detail)
        return shown

    async def _tell_refund_failed(self, job: Job, n_attempts: int, reason: str) -> None:
        try:
            await self._billing.refund_failed(job.job_id, n_attempts=n_attempts, reason=reason)
        except Transient as error:
            # The job shows it and the refund is tried on; billing is told only so that its statement shows it too.
            logs.get().warning("refund_failed.untold", job_id=job.job_id, reason=error.reason)


def _said(reply: BillingReply) -> str:
    return f"{reply.code}: {reply.message}" if reply.message else reply.code


def _log_end(job: Job) -> None:
    seconds = ((job.finished_at or job.updated_at or job.created_at) - job.created_at).total_seconds()
    logs.get().info(
        "job.ended" if job.is_final else "job.unresolved",
        job_id=job.job_id,
        provider=job.provider,
        state=job.state.value,
        money=job.money.value,
        cause=job.cause or None,
        n_pictures=len(job.asset_ids),
        n_attempts=job.n_attempts,
        seconds=round(seconds, 3),
    )
