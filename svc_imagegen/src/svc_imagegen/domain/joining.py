"""Which calls are one job: by the client's idempotency key, or by being the client's own retry."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from svc_imagegen.domain.job import Job

# Afterwards a key may be used for something else, as Stripe does it.
IDEMPOTENCY_KEPT_S: Final = 86_400.0


class IdempotencyMismatch(Exception):
    """The Idempotency-Key was used before with other content."""


def find_joined(
    job: Job, known: Iterable[Job], *, retry_count: int, received_at: datetime, join_window_s: float
) -> Job | None:
    """
    Return the job that a call belongs to, out of those that are known, or None for a new one.

    With a key: the account's job of that key. Without: a retry (retry_count > 0) belongs to the newest job of its
    fingerprint within the window; a first attempt to one that its own retry, overtaking it, made since received_at.

    Raises:
        IdempotencyMismatch: the key belongs to a job with another fingerprint.
    """
    if job.idempotency_key is not None:
        since = job.created_at - timedelta(seconds=IDEMPOTENCY_KEPT_S)
        found = _newest(
            it
            for it in known
            if (it.account_id, it.idempotency_key) == (job.account_id, job.idempotency_key) and it.created_at >= since
        )
        if found is not None and found.fingerprint != job.fingerprint:
            raise IdempotencyMismatch(f"expected the content of job {found.job_id}, which this Idempotency-Key made")
        return found
    since = join_since(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
    return _newest(
        it
        for it in known
        if it.fingerprint == job.fingerprint
        and it.idempotency_key is None
        and it.created_at >= since
        and (retry_count > 0 or it.retry_count > 0)
    )


def join_since(job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> datetime:
    """Return the instant since which a job of the same fingerprint may be the same call."""
    return job.created_at - timedelta(seconds=join_window_s) if retry_count > 0 else received_at


def _newest(jobs: Iterable[Job]) -> Job | None:
    return max(jobs, key=lambda it: (it.created_at, it.job_id), default=None)
