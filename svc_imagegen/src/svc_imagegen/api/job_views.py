"""What the owner of a job sees of it: words and amounts, never a percentage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from svc_imagegen.api.pictures import content_path
from svc_imagegen.domain.failures import credits_text, job_text
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import Asset, Attempt

State = Literal["pending", "running", "succeeded", "failed", "uncertain", "refund_failed", "canceled"]


class AssetView(msgspec.Struct, frozen=True):
    """One picture. is_simulated: drawn as a placeholder, it counts for nothing."""

    id: str
    job_id: str
    index: int
    media_type: str
    width: int
    height: int
    n_bytes: int
    sha256: str
    is_simulated: bool
    provider: str
    model: str
    created_at: datetime
    n_downloads: int
    content_url: str
    revised_prompt: str | None = None


class AttemptView(msgspec.Struct, frozen=True):
    """One submission to the provider. submitted_at null: the provider was not called."""

    attempt: int
    submitted_at: datetime | None
    ended_at: datetime | None
    outcome: str
    cause: str


class MoneyView(msgspec.Struct, frozen=True):
    """Where the credits are. Amounts are decimal numbers of credits, as text so that nothing is rounded."""

    state: str
    held_credits: str
    charged_credits: str
    price_version: int


class RequestView(msgspec.Struct, frozen=True):
    """What was asked for."""

    operation: str
    model: str
    prompt: str
    text_material: str
    n: int
    size: str
    quality: str
    background: str
    output_format: str
    n_references: int
    has_mask: bool


class JobView(msgspec.Struct, frozen=True):
    """
    One job. message: cause and money effect in words; place_in_queue: from 1, null unless pending.

    elapsed_s: whole seconds since it was made, until it ended. next_check_at: when an uncertain outcome is asked after.
    """

    id: str
    object: Literal["image.job"]
    state: State
    message: str
    cause: str
    detail: str
    provider: str
    is_simulated: bool
    request: RequestView
    money: MoneyView
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    next_check_at: datetime | None
    elapsed_s: int
    place_in_queue: int | None
    attempts: tuple[AttemptView, ...]
    assets: tuple[AssetView, ...]
    version: int


class JobSummary(msgspec.Struct, frozen=True):
    """One line of a list."""

    id: str
    object: Literal["image.job"]
    state: State
    message: str
    model: str
    operation: str
    provider: str
    is_simulated: bool
    money: MoneyView
    created_at: datetime
    finished_at: datetime | None
    elapsed_s: int
    asset_ids: tuple[str, ...]


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, newest first. next_before: hand it back as `before` for the next page, null at the end."""

    data: tuple[JobSummary, ...]
    next_before: str | None


class JobAccepted(msgspec.Struct, frozen=True):
    """The answer to a new job. is_new false: the call belonged to a job that was there."""

    id: str
    object: Literal["image.job"]
    state: State
    message: str
    is_new: bool
    is_simulated: bool
    money: MoneyView
    url: str
    created_at: datetime


def accepted_view(job: Job, *, is_new: bool) -> JobAccepted:
    """Return what a new job's maker is told."""
    return JobAccepted(
        id=job.job_id,
        object="image.job",
        state=job.state.value,
        message=_message(job),
        is_new=is_new,
        is_simulated=job.is_simulated,
        money=_money(job),
        url=f"/api/jobs/{job.job_id}",
        created_at=job.created_at,
    )


def summary_of(job: Job, *, now: datetime) -> JobSummary:
    """Return a job as a line of a list."""
    return JobSummary(
        id=job.job_id,
        object="image.job",
        state=job.state.value,
        message=_message(job),
        model=job.request.model,
        operation=job.request.operation.value,
        provider=job.provider,
        is_simulated=job.is_simulated,
        money=_money(job),
        created_at=job.created_at,
        finished_at=job.finished_at,
        elapsed_s=_elapsed_s(job, now),
        asset_ids=job.asset_ids,
    )


def view_of(
    job: Job, *, attempts: Sequence[Attempt], assets: Sequence[Asset], place_in_queue: int, now: datetime
) -> JobView:
    """Return a job whole."""
    return JobView(
        id=job.job_id,
        object="image.job",
        state=job.state.value,
        message=_message(job),
        cause=job.cause,
        detail=job.detail,
        provider=job.provider,
        is_simulated=job.is_simulated,
        request=_request(job.request),
        money=_money(job),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        next_check_at=job.next_check_at if job.state is JobState.UNCERTAIN else None,
        elapsed_s=_elapsed_s(job, now),
        place_in_queue=place_in_queue or None,
        attempts=tuple(AttemptView(it.attempt, it.submitted_at, it.ended_at, it.outcome, it.cause) for it in attempts),
        # Pictures are shown once they are paid for or given away; before that they are not delivered.
        assets=tuple(asset_view(it) for it in assets) if job.state is JobState.SUCCEEDED else (),
        version=job.version,
    )


def asset_view(asset: Asset) -> AssetView:
    """Return a picture's record."""
    return AssetView(
        id=asset.asset_id,
        job_id=asset.job_id,
        index=asset.index,
        media_type=asset.media_type,
        width=asset.width,
        height=asset.height,
        n_bytes=asset.n_bytes,
        sha256=asset.sha256,
        is_simulated=asset.is_simulated,
        provider=asset.provider,
        model=asset.model,
        created_at=asset.created_at,
        n_downloads=asset.n_downloads,
        content_url=content_path(asset.asset_id),
        revised_prompt=asset.revised_prompt,
    )


def _message(job: Job) -> str:
    return job_text(
        job.state,
        cause=job.cause,
        money=job.money,
        held_microcredits=job.held_microcredits,
        charged_microcredits=job.charged_microcredits,
    )


def _money(job: Job) -> MoneyView:
    is_held = job.money not in (Money.SETTLED, Money.VOIDED)
    return MoneyView(
        state=job.money.value,
        held_credits=credits_text(job.held_microcredits if is_held else 0),
        charged_credits=credits_text(job.charged_microcredits if job.money is Money.SETTLED else 0),
        price_version=job.price_version,
    )


def _request(request: ImageRequest) -> RequestView:
    return RequestView(
        operation=request.operation.value,
        model=request.model,
        prompt=request.prompt,
        text_material=request.text_material,
        n=request.n,
        size=request.size,
        quality=request.quality,
        background=request.background,
        output_format=request.output_format,
        n_references=len(request.pictures),
        has_mask=request.mask is not None,
    )


def _elapsed_s(job: Job, now: datetime) -> int:
    return max(0, int(((job.finished_at or now) - job.created_at).total_seconds()))
