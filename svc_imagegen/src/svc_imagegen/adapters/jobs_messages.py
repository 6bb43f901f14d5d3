"""What the outbox tells of a change: the job's transition, and what a finished provider call took."""

from __future__ import annotations

from typing import Final

from qraft_contracts import imagejobs, usage
from qraft_contracts.codec import encode
from qraft_contracts.imagejobs import ImageJobEvent, job_created_subject, job_subject
from qraft_contracts.origin import Origin
from qraft_contracts.usage import ComputeUsage
from svc_imagegen.adapters.jobs_rows import Row
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.transitions import Change

_STOP_CONDITION: Final = "one call, ended by the job's deadline at the latest"


def outbox_rows(change: Change) -> list[Row]:
    """Return the rows of imagegen.outbox for one change, in the order of imagegen.outbox_row."""
    rows = []
    if change.told is not None:
        rows.append(_transition_row(change.job, change.told))
    if change.is_call_over:
        rows.append(_usage_row(change))
    return rows


def _transition_row(job: Job, transition: str) -> Row:
    at = job.updated_at or job.created_at
    event = ImageJobEvent(
        job_id=job.job_id,
        account_id=job.account_id,
        provider=job.provider,
        model=job.request.model,
        operation=job.request.operation.value,
        transition=transition,
        state=job.state.value,
        money=job.money.value,
        held_microcredits=job.held_microcredits,
        charged_microcredits=job.charged_microcredits,
        attempt=job.n_attempts,
        at=at,
        origin=_origin(job),
        cause=job.cause,
        asset_ids=job.asset_ids,
    )
    is_created = transition == imagejobs.CREATED
    subject = job_created_subject(job.provider) if is_created else job_subject(transition)
    message_id = f"imagejob/{job.job_id}/{transition}/{job.n_told if is_created else job.version}"
    return (message_id, subject, ImageJobEvent.SCHEMA, encode(event), at, event.origin.value, f"job/{job.job_id}")


def _usage_row(change: Change) -> Row:
    job, attempt = change.job, change.attempt
    assert attempt is not None and attempt.submitted_at is not None and attempt.ended_at is not None
    told = ComputeUsage(
        usage_id=f"svc_imagegen/{attempt.attempt_id}",
        column=usage.DEMO if job.is_simulated else usage.PROVIDER,
        service="svc_imagegen",
        purpose=f"{job.request.operation.value} by {job.provider}/{job.request.model}: {attempt.outcome}",
        stop_condition=_STOP_CONDITION,
        started_at=attempt.submitted_at,
        ended_at=max(attempt.ended_at, attempt.submitted_at),
        cpu_ms=0,  # the work is the provider's; ours is a rounding error beside it
        gpu_ms=0,
        n_bytes=change.n_bytes,
        origin=_origin(job),
        provider_cost_microusd=attempt.cost_microusd,
        account_id=job.account_id,
        job_id=job.job_id,
    )
    message_id = f"usage/{told.usage_id}"
    lineage = f"job/{job.job_id}"
    return (
        message_id, usage.USAGE_COMPUTE, ComputeUsage.SCHEMA, encode(told), told.ended_at, told.origin.value, lineage,
    )  # fmt: skip


def _origin(job: Job) -> Origin:
    return Origin.SIMULATED if job.is_simulated else Origin.REAL
