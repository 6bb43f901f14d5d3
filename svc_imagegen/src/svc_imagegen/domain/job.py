"""The state machine of a job: what the picture's state and the money's state may be, and which steps lead where."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from svc_imagegen.domain.request import ImageRequest


class JobState(StrEnum):
    """What the client sees of the picture."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    REFUND_FAILED = "refund_failed"
    CANCELED = "canceled"


class Money(StrEnum):
    """Where the credits of a job are. settling, voiding, disputing: decided and stored, not yet confirmed."""

    HELD = "held"
    SETTLING = "settling"
    SETTLED = "settled"
    VOIDING = "voiding"
    VOIDED = "voided"
    DISPUTING = "disputing"
    DISPUTED = "disputed"
    REFUND_FAILED = "refund_failed"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})

_NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELED, JobState.FAILED, JobState.REFUND_FAILED}),
    JobState.RUNNING: frozenset(
        {JobState.PENDING, JobState.SUCCEEDED, JobState.FAILED, JobState.UNCERTAIN, JobState.REFUND_FAILED}
    ),
    JobState.UNCERTAIN: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.REFUND_FAILED}),
    JobState.REFUND_FAILED: frozenset({JobState.FAILED, JobState.CANCELED, JobState.SUCCEEDED}),
    JobState.SUCCEEDED: frozenset(),
    # A picture that turned up after the job was given up: delivered, not charged.
    JobState.FAILED: frozenset({JobState.SUCCEEDED}),
    JobState.CANCELED: frozenset(),
}


def may_become(now: JobState, then: JobState) -> bool:
    """Return whether a job may go from one state to the other. RUNNING → PENDING: no provider was reached."""
    return then in _NEXT[now]


class Job(msgspec.Struct, frozen=True):
    """
    One job as stored. hold_id is `job/<job_id>`; amounts are micro-credits.

    cause: code of a failure or uncertainty, detail: what the owner may read of it. fingerprint: SHA-256 of account,
    operation and content, by which a client's own retry finds its job. is_simulated: the provider is the simulated one.
    next_check_at: when the sweeper looks at the job next, None when nothing is open; retry_at: a pending job's next
    attempt is not before it; n_checks: look-ups or refunds tried since the last step; n_told: how often its
    imagejob.created was told; loss_microcredits: what a late picture would have cost, until it is booked as our loss.
    """

    job_id: str
    account_id: str
    key_id: str
    provider: str
    request: ImageRequest
    state: JobState
    money: Money
    held_microcredits: int
    charged_microcredits: int
    price_version: int
    per_image_microcredits: int
    references_microcredits: int
    created_at: datetime
    deadline_at: datetime
    is_simulated: bool
    n_attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime | None = None
    next_check_at: datetime | None = None
    cause: str = ""
    detail: str = ""
    fingerprint: str = ""
    idempotency_key: str | None = None
    asset_ids: tuple[str, ...] = ()
    version: int = 0  # counts every stored change; the ETag
    retry_count: int = 0  # the client's, of the call that made the job
    retry_at: datetime | None = None
    provider_request_id: str | None = None
    n_checks: int = 0
    n_told: int = 0
    loss_microcredits: int = 0

    @property
    def is_final(self) -> bool:
        """Return whether neither the picture nor the money has a step left."""
        return self.state in FINAL_STATES and self.money in (Money.SETTLED, Money.VOIDED) and not self.loss_microcredits

    @property
    def is_over(self) -> bool:
        """Return whether who waits for the job gets an answer: the end, or an outcome that is not known."""
        return self.state not in _STILL_OPEN


_STILL_OPEN = frozenset({JobState.PENDING, JobState.RUNNING})


def hold_id_of(job_id: str) -> str:
    """Return the id of a job's hold; also its purpose in the ledger."""
    return f"job/{job_id}"
