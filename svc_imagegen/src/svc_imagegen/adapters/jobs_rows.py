"""Rows of schema `imagegen` as values of the domain, and back."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import msgspec

from svc_imagegen.domain.asset import Asset, Attempt
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.request import ImageRequest

Row = tuple[Any, ...]

_REQUESTS: Final = msgspec.json.Decoder(ImageRequest)
# Longer texts come from outside (a provider's error) and are cut; the start says what it was.
_TEXT_LENGTH_MAX: Final = 2_000


def job_of(row: asyncpg.Record) -> Job:
    """Return a row of imagegen.jobs as a job."""
    return Job(
        job_id=row["job_id"],
        account_id=row["account_id"],
        key_id=row["key_id"],
        provider=row["provider"],
        request=_REQUESTS.decode(row["request"]),
        state=JobState(row["state"]),
        money=Money(row["money"]),
        held_microcredits=row["held_microcredits"],
        charged_microcredits=row["charged_microcredits"],
        price_version=row["price_version"],
        per_image_microcredits=row["per_image_microcredits"],
        references_microcredits=row["references_microcredits"],
        created_at=row["created_at"],
        deadline_at=row["deadline_at"],
        is_simulated=row["is_simulated"],
        n_attempts=row["n_attempts"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
        next_check_at=row["next_check_at"],
        cause=row["cause"],
        detail=row["detail"],
        fingerprint=row["fingerprint"],
        idempotency_key=row["idempotency_key"],
        asset_ids=tuple(row["asset_ids"]),
        version=row["version"],
        retry_count=row["retry_count"],
        retry_at=row["retry_at"],
        provider_request_id=row["provider_request_id"],
        n_checks=row["n_checks"],
        n_told=row["n_told"],
        loss_microcredits=row["loss_microcredits"],
    )


def job_row(job: Job) -> Row:
    """Return a new job in the order of the columns of imagegen.jobs."""
    change = change_row(job)
    return (
        job.job_id,
        job.account_id,
        job.key_id,
        job.provider,
        job.request.model,
        job.request.operation.value,
        msgspec.json.encode(job.request),
        job.is_simulated,
        job.held_microcredits,
        job.price_version,
        job.per_image_microcredits,
        job.references_microcredits,
        job.created_at,
        job.deadline_at,
        job.fingerprint,
        job.retry_count,
        job.idempotency_key,
        *change[1:],
        0,  # revision
    )


def change_row(job: Job) -> Row:
    """Return what changes of a job in the order of imagegen.job_change, its last column aside."""
    return (
        job.job_id,
        job.state.value,
        job.money.value,
        job.charged_microcredits,
        job.loss_microcredits,
        job.n_attempts,
        job.n_checks,
        job.n_told,
        job.version,
        job.started_at,
        job.finished_at,
        job.updated_at,
        job.next_check_at,
        job.retry_at,
        text(job.cause),
        text(job.detail),
        None if job.provider_request_id is None else text(job.provider_request_id),
        list(job.asset_ids),
    )


def attempt_of(row: asyncpg.Record) -> Attempt:
    """Return a row of imagegen.attempts."""
    return Attempt(**dict(row))


def attempt_row(attempt: Attempt) -> Row:
    """Return an attempt in the order of the columns of imagegen.attempts."""
    return (
        attempt.job_id,
        attempt.attempt,
        attempt.worker_id,
        attempt.lease_until,
        attempt.submitted_at,
        attempt.ended_at,
        attempt.outcome,
        text(attempt.cause),
        None if attempt.provider_request_id is None else text(attempt.provider_request_id),
        attempt.cost_microusd,
    )


def asset_of(row: asyncpg.Record) -> Asset:
    """Return a row of imagegen.assets."""
    return Asset(**dict(row))


def asset_row(asset: Asset) -> Row:
    """Return an asset in the order of the columns of imagegen.assets."""
    return (
        asset.asset_id,
        asset.job_id,
        asset.account_id,
        asset.index,
        asset.artefact_key,
        asset.sha256,
        asset.media_type,
        asset.width,
        asset.height,
        asset.n_bytes,
        asset.is_simulated,
        asset.provider,
        asset.model,
        asset.created_at,
        None if asset.revised_prompt is None else text(asset.revised_prompt, length_max=32_000),
        asset.n_downloads,
    )


def text(value: str, *, length_max: int = _TEXT_LENGTH_MAX) -> str:
    """Return a text from outside as PostgreSQL can hold it: no U+0000, no lone surrogate, not too long."""
    return value[:length_max].replace("\x00", "").encode("utf-8", "replace").decode()
