"""
Every step of a job, as a pure function from what is stored to what will be. None: the step does not apply, nothing is
stored. The stores (PostgreSQL and its twin) run these under their lock; they decide nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts import imagejobs
from svc_imagegen.domain.asset import Asset, Attempt, AuditLine
from svc_imagegen.domain.job import Job, JobState, Money, may_become

# A pending job is told of again after this long, then at doubling intervals: its message may be lost, or only waiting.
LOST_AFTER_S: Final = 60.0
LOST_AFTER_MAX_S: Final = 600.0
# The worker confirms money at once; the sweeper only where the worker did not get to it.
CONFIRM_AFTER_S: Final = 10.0
CANCELED_CAUSE: Final = "canceled"

_GIVEN_BACK: Final = frozenset({Money.VOIDING, Money.VOIDED, Money.REFUND_FAILED})
_DISPUTE: Final = frozenset({Money.DISPUTING, Money.DISPUTED})
_NOT_CHARGED: Final = frozenset({JobState.FAILED, JobState.CANCELED})
# What billing may confirm, and what the job then is. Settling → voided: the hold had run out, the picture is free.
_CONFIRMED: Final[dict[tuple[Money, Money], frozenset[JobState]]] = {
    (Money.SETTLING, Money.SETTLED): frozenset({JobState.SUCCEEDED}),
    (Money.SETTLING, Money.VOIDED): frozenset({JobState.SUCCEEDED}),
    (Money.VOIDING, Money.VOIDED): _NOT_CHARGED,
    (Money.VOIDING, Money.REFUND_FAILED): frozenset({JobState.REFUND_FAILED}),
    (Money.DISPUTING, Money.DISPUTED): frozenset({JobState.UNCERTAIN}),
    (Money.REFUND_FAILED, Money.VOIDED): _NOT_CHARGED,
}


@dataclass(frozen=True, slots=True)
class Change:
    """
    What one step stores. attempt, assets, audit: new or changed rows. told: the transition to publish, or None.

    is_quiet: nobody waits for it (a longer lease, a note), so the job's version stays. is_call_over: the attempt's paid
    call is over, and its usage is to be booked.
    """

    job: Job
    attempt: Attempt | None = None
    assets: tuple[Asset, ...] = ()
    audit: tuple[AuditLine, ...] = ()
    told: str | None = None
    is_quiet: bool = False
    is_call_over: bool = False
    n_bytes: int = 0


Step = Callable[[Job, Attempt | None], Change | None]


def accept(job: Job, *, retry_count: int) -> Change:
    """Return the new job as it is first stored, with its imagejob.created."""
    first_look_at = min(_after(job.created_at, LOST_AFTER_S), job.deadline_at)
    new = _step(job, job.created_at, n_told=1, retry_count=retry_count, next_check_at=first_look_at)
    return Change(new, told=imagejobs.CREATED)


def claim(job: Job, _current: Attempt | None, *, worker_id: str, now: datetime, lease_s: float) -> Change | None:
    """PENDING → RUNNING with a new attempt, whose provider is called from now on."""
    if job.state is not JobState.PENDING or job.money is not Money.HELD:
        return None
    if job.retry_at is not None and job.retry_at > now:
        return None
    until = _after(now, lease_s)
    n = job.n_attempts + 1
    running = _step(
        job, now, state=JobState.RUNNING, n_attempts=n, started_at=job.started_at or now, next_check_at=until
    )
    attempt = Attempt(job_id=job.job_id, attempt=n, worker_id=worker_id, lease_until=until, submitted_at=now)
    return Change(running, attempt, told=imagejobs.STARTED if n == 1 else None)


def extend_lease(job: Job, current: Attempt | None, *, attempt: Attempt, until: datetime) -> Change | None:
    """Let the attempt's worker go on until an instant."""
    if not _is_running(job, current, attempt) or current is None:
        return None
    return Change(msgspec.structs.replace(job, next_check_at=until), replace(current, lease_until=until), is_quiet=True)


def release(
    job: Job, current: Attempt | None, *, attempt: Attempt, now: datetime, outcome: str, cause: str, retry_at: datetime
) -> Change | None:
    """RUNNING → PENDING after an attempt that certainly made nothing."""
    if not _is_running(job, current, attempt) or current is None:
        return None
    look_at = min(_after(retry_at, LOST_AFTER_S), max(job.deadline_at, now))
    pending = _step(job, now, state=JobState.PENDING, retry_at=retry_at, next_check_at=look_at)
    return Change(pending, _ended(current, now, outcome, cause))


def record_success(
    job: Job,
    current: Attempt | None,
    *,
    attempt: Attempt,
    assets: Sequence[Asset],
    charge_microcredits: int,
    provider_request_id: str | None,
    cost_microusd: int | None,
    now: datetime,
) -> Change | None:
    """
    Store the pictures; money → SETTLING.

    Where the hold was given up already, the picture is delivered all the same and its price noted as our loss.
    """
    if current is None or not current.is_same(attempt) or current.submitted_at is None or job.asset_ids:
        return None
    assert assets, "a success has a verified picture"
    was_over = current.ended_at is not None
    ended = replace(
        _ended(current, now, "succeeded", ""), provider_request_id=provider_request_id, cost_microusd=cost_microusd
    )
    ids = tuple(it.asset_id for it in assets)
    look_at = _after(now, CONFIRM_AFTER_S)
    audit: tuple[AuditLine, ...] = ()
    if job.money in _GIVEN_BACK:
        new = _step(job, now, asset_ids=ids, loss_microcredits=charge_microcredits, next_check_at=look_at, n_checks=0)
        audit = (_line(job, now, "late_success", "the picture came after the credits were given back: not charged"),)
    elif job.money in _DISPUTE or _is_running(job, current, attempt):
        new = _step(
            job, now, asset_ids=ids, money=Money.SETTLING, charged_microcredits=charge_microcredits,
            next_check_at=look_at, n_checks=0,
        )  # fmt: skip
        if job.state is JobState.UNCERTAIN:
            audit = (_line(job, now, "resolved_succeeded", "the picture was found after all: charged"),)
    else:
        return None
    n_bytes = sum(it.n_bytes for it in assets)
    return Change(new, ended, tuple(assets), audit, is_call_over=not was_over, n_bytes=n_bytes)


def record_failure(
    job: Job, current: Attempt | None, *, attempt: Attempt | None, cause: str, detail: str, now: datetime, outcome: str
) -> Change | None:
    """Store the cause; money → VOIDING. Of a running attempt, a pending job, or an uncertain one that is resolved."""
    if job.money is not Money.HELD and job.money not in _DISPUTE:
        return None
    if job.state is JobState.RUNNING and (attempt is None or current is None or not current.is_same(attempt)):
        return None
    ended = None
    is_call_over = False
    if current is not None and attempt is not None and current.is_same(attempt):
        is_call_over = current.submitted_at is not None and current.ended_at is None
        ended = _ended(current, now, outcome, cause)
    audit = (_line(job, now, "resolved_failed", detail or cause),) if job.state is JobState.UNCERTAIN else ()
    new = _step(
        job, now, money=Money.VOIDING, cause=cause, detail=detail, n_checks=0,
        next_check_at=_after(now, CONFIRM_AFTER_S),
    )  # fmt: skip
    return Change(new, ended, audit=audit, is_call_over=is_call_over)


def record_uncertain(
    job: Job,
    current: Attempt | None,
    *,
    cause: str,
    detail: str,
    provider_request_id: str | None,
    now: datetime,
    next_check_at: datetime,
) -> Change | None:
    """RUNNING → UNCERTAIN, money → DISPUTING, with an audit record."""
    if job.state is not JobState.RUNNING or job.money is not Money.HELD or current is None:
        return None
    ended = replace(_ended(current, now, "uncertain", cause), provider_request_id=provider_request_id)
    new = _step(
        job, now, state=JobState.UNCERTAIN, money=Money.DISPUTING, cause=cause, detail=detail, n_checks=0,
        provider_request_id=provider_request_id, next_check_at=next_check_at,
    )  # fmt: skip
    audit = (_line(job, now, "uncertain", f"{cause}: {detail}" if detail else cause),)
    return Change(new, ended, audit=audit, told=imagejobs.UNCERTAIN, is_call_over=current.submitted_at is not None)


def finish(
    job: Job,
    _current: Attempt | None,
    *,
    state: JobState,
    money: Money,
    now: datetime,
    charged_microcredits: int,
    next_check_at: datetime | None,
) -> Change | None:
    """Store what billing confirmed and tell the transition."""
    is_free = state is JobState.SUCCEEDED and money is Money.VOIDED
    is_loss_booked = job.loss_microcredits > 0 and is_free and job.money in _GIVEN_BACK
    if not is_loss_booked and state not in _CONFIRMED.get((job.money, money), frozenset()):
        return None
    if state is not job.state and not may_become(job.state, state):
        return None
    is_over = money in (Money.SETTLED, Money.VOIDED)
    loss = 0 if is_loss_booked else job.loss_microcredits
    look_at = _after(now, CONFIRM_AFTER_S) if loss else None if is_over else next_check_at
    new = _step(
        job, now, state=state, money=money, charged_microcredits=charged_microcredits, n_checks=0,
        loss_microcredits=loss, finished_at=now if is_over else None, next_check_at=look_at,
    )  # fmt: skip
    was_open = job.state in (JobState.UNCERTAIN, JobState.REFUND_FAILED) or is_loss_booked
    audit = (_line(job, now, f"money_{money.value}", f"{state.value}, charged {charged_microcredits} micro-credits"),)
    told = _told_of(state, was_open=was_open)
    return Change(new, audit=audit if was_open or not is_over else (), told=told if is_over or told else None)


def record_check(
    job: Job, _current: Attempt | None, *, finding: str, detail: str, now: datetime, next_check_at: datetime | None
) -> Change:
    """Append to the audit record and set when to look again."""
    noted = msgspec.structs.replace(job, n_checks=job.n_checks + 1, next_check_at=next_check_at)
    return Change(noted, audit=(_line(job, now, finding, detail),), is_quiet=True)


def requeue(job: Job, _current: Attempt | None, *, now: datetime) -> Change | None:
    """Tell imagejob.created of a pending job once more, under a new message id."""
    if job.state is not JobState.PENDING or job.money is not Money.HELD:
        return None
    pause_s = min(LOST_AFTER_MAX_S, LOST_AFTER_S * 2.0**job.n_told)
    look_at = min(_after(now, pause_s), max(job.deadline_at, _after(now, CONFIRM_AFTER_S)))
    told = msgspec.structs.replace(job, n_told=job.n_told + 1, next_check_at=look_at)
    return Change(told, told=imagejobs.CREATED, is_quiet=True)


def cancel(job: Job, _current: Attempt | None, *, now: datetime) -> Change | None:
    """PENDING → VOIDING money, to become CANCELED."""
    if job.state is not JobState.PENDING or job.money is not Money.HELD:
        return None
    look_at = _after(now, CONFIRM_AFTER_S)
    return Change(_step(job, now, money=Money.VOIDING, cause=CANCELED_CAUSE, next_check_at=look_at, n_checks=0))


def _is_running(job: Job, current: Attempt | None, attempt: Attempt) -> bool:
    return (
        job.state is JobState.RUNNING
        and job.money is Money.HELD
        and current is not None
        and current.is_same(attempt)
        and current.ended_at is None
    )


def _told_of(state: JobState, *, was_open: bool) -> str | None:
    if state is JobState.UNCERTAIN:
        return None  # told when it became uncertain
    if was_open and state is not JobState.REFUND_FAILED:
        return imagejobs.RESOLVED
    return imagejobs.SUCCEEDED if state is JobState.SUCCEEDED else imagejobs.FAILED


def _ended(attempt: Attempt, now: datetime, outcome: str, cause: str) -> Attempt:
    return replace(attempt, ended_at=attempt.ended_at or now, outcome=outcome, cause=cause)


def _line(job: Job, at: datetime, finding: str, detail: str) -> AuditLine:
    return AuditLine(job_id=job.job_id, at=at, finding=finding, detail=detail)


def _step(job: Job, now: datetime, **changed: object) -> Job:
    return msgspec.structs.replace(job, version=job.version + 1, updated_at=now, **changed)


def _after(at: datetime, seconds: float) -> datetime:
    return at + timedelta(seconds=seconds)
