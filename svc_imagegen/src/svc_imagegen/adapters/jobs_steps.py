"""The steps of the JobStore port, the same for every store: each names its transition, the store applies it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from svc_imagegen.domain import transitions
from svc_imagegen.domain.asset import Asset, Attempt
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.outcome import ProviderAnswer
from svc_imagegen.domain.transitions import Change, Step


class JobSteps(ABC):
    """What PostgreSQL and its twin share of the port. They add reading, accepting and `_apply`."""

    @abstractmethod
    async def _apply(self, job_id: str, step: Step) -> Change | None:
        """Run a step on the stored job, alone, and store what it returns; None for an unknown job."""

    async def claim(self, job_id: str, *, worker_id: str, now: datetime, lease_s: float) -> Attempt | None:
        """PENDING → RUNNING with a new attempt, whose provider is called from now on."""
        change = await self._apply(job_id, partial(transitions.claim, worker_id=worker_id, now=now, lease_s=lease_s))
        return change.attempt if change else None

    async def extend_lease(self, attempt: Attempt, *, until: datetime) -> bool:
        """Let the attempt go on."""
        step = partial(transitions.extend_lease, attempt=attempt, until=until)
        return await self._apply(attempt.job_id, step) is not None

    async def release(
        self, attempt: Attempt, *, now: datetime, outcome: str, cause: str, retry_at: datetime
    ) -> Job | None:
        """RUNNING → PENDING."""
        step = partial(transitions.release, attempt=attempt, now=now, outcome=outcome, cause=cause, retry_at=retry_at)
        return _job_of(await self._apply(attempt.job_id, step))

    async def record_success(
        self,
        attempt: Attempt,
        *,
        assets: Sequence[Asset],
        charge_microcredits: int,
        answer: ProviderAnswer,
        now: datetime,
    ) -> Job | None:
        """Store the assets; money → SETTLING."""
        step = partial(
            transitions.record_success, attempt=attempt, assets=assets, charge_microcredits=charge_microcredits,
            provider_request_id=answer.provider_request_id, cost_microusd=answer.cost_microusd, now=now,
        )  # fmt: skip
        return _job_of(await self._apply(attempt.job_id, step))

    async def record_failure(
        self, attempt: Attempt | None, job_id: str, *, cause: str, detail: str, now: datetime, outcome: str = "rejected"
    ) -> Job | None:
        """Store the cause; money → VOIDING."""
        step = partial(
            transitions.record_failure, attempt=attempt, cause=cause, detail=detail, now=now, outcome=outcome
        )
        return _job_of(await self._apply(job_id, step))

    async def record_uncertain(
        self,
        job_id: str,
        *,
        cause: str,
        detail: str,
        provider_request_id: str | None,
        now: datetime,
        next_check_at: datetime,
    ) -> Job | None:
        """State → UNCERTAIN, money → DISPUTING."""
        step = partial(
            transitions.record_uncertain, cause=cause, detail=detail, provider_request_id=provider_request_id,
            now=now, next_check_at=next_check_at,
        )  # fmt: skip
        return _job_of(await self._apply(job_id, step))

    async def finish(
        self, job_id: str, *, state: JobState, money: Money, now: datetime, charged_microcredits: int = 0,
        next_check_at: datetime | None = None,
    ) -> Job | None:  # fmt: skip
        """Store what billing confirmed."""
        step = partial(
            transitions.finish, state=state, money=money, now=now, charged_microcredits=charged_microcredits,
            next_check_at=next_check_at,
        )  # fmt: skip
        return _job_of(await self._apply(job_id, step))

    async def record_check(
        self, job_id: str, *, finding: str, detail: str, now: datetime, next_check_at: datetime | None
    ) -> None:
        """Append to the audit record."""
        await self._apply(
            job_id,
            partial(transitions.record_check, finding=finding, detail=detail, now=now, next_check_at=next_check_at),
        )

    async def requeue(self, job_id: str, *, now: datetime) -> None:
        """Tell imagejob.created once more."""
        await self._apply(job_id, partial(transitions.requeue, now=now))

    async def cancel(self, job_id: str, *, now: datetime) -> Job | None:
        """PENDING → VOIDING money."""
        return _job_of(await self._apply(job_id, partial(transitions.cancel, now=now)))


def _job_of(change: Change | None) -> Job | None:
    return change.job if change else None
