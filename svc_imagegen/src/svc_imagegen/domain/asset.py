"""What a job leaves behind: its attempts, its pictures, and the lines of its audit record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission to a provider. submitted_at is stored before the call; ended_at after it."""

    job_id: str
    attempt: int
    worker_id: str
    lease_until: datetime
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""  # succeeded | not_delivered | throttled | rejected | uncertain | bad_picture
    cause: str = ""
    provider_request_id: str | None = None
    cost_microusd: int | None = None

    @property
    def attempt_id(self) -> str:
        """Return the id by which a provider may know this attempt."""
        return f"{self.job_id}-{self.attempt}"

    def is_same(self, other: Attempt) -> bool:
        """Return whether both are the same submission by the same worker, however far each has come."""
        return (self.job_id, self.attempt, self.worker_id) == (other.job_id, other.attempt, other.worker_id)


@dataclass(frozen=True, slots=True)
class Asset:
    """One verified picture. It is real only if price, key, provider and picture all are."""

    asset_id: str
    job_id: str
    account_id: str
    index: int
    artefact_key: str
    sha256: str
    media_type: str
    width: int
    height: int
    n_bytes: int
    is_simulated: bool
    provider: str
    model: str
    created_at: datetime
    revised_prompt: str | None = None
    n_downloads: int = 0


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of a job's audit record: what was found or decided, and why."""

    job_id: str
    at: datetime
    finding: str
    detail: str
