"""The one error envelope, OpenAI's, and which status a kind of no has. Final answers say that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from qraft_contracts.outcomes import Transient
from svc_imagegen.api.http import Answer
from svc_imagegen.domain.failures import NOT_CHARGED, CallRefused, Cause, Kind, cause_of, job_text
from svc_imagegen.domain.job import Job, JobState

_AWAY_RETRY_AFTER_S: Final = 2


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong. message: the cause and, where money is concerned, its effect."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every answer that is no success. qraft_job_id: the job that the call led to, if any."""

    error: ErrorBody
    qraft_job_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Face:
    status: int
    type: str


_FACES: Final[dict[Kind, _Face]] = {
    Kind.INVALID: _Face(400, "invalid_request_error"),
    Kind.UNAUTHENTICATED: _Face(401, "invalid_request_error"),
    Kind.FORBIDDEN: _Face(403, "permission_error"),
    Kind.MISSING: _Face(404, "invalid_request_error"),
    Kind.METHOD: _Face(405, "invalid_request_error"),
    Kind.RANGE: _Face(416, "invalid_request_error"),
    Kind.CONFLICT: _Face(409, "conflict_error"),
    Kind.IDEMPOTENCY: _Face(400, "idempotency_error"),
    Kind.TOO_LARGE: _Face(413, "invalid_request_error"),
    Kind.SLOW: _Face(408, "invalid_request_error"),
    Kind.CREDITS: _Face(429, "insufficient_quota"),
    Kind.POLICY: _Face(400, "image_generation_user_error"),
    Kind.PROVIDER: _Face(502, "provider_error"),
    Kind.BUSY: _Face(503, "service_unavailable_error"),
    Kind.UNCERTAIN: _Face(502, "outcome_uncertain"),
    Kind.WINDOW: _Face(504, "timeout_error"),
    Kind.INTERNAL: _Face(500, "server_error"),
}
_HINTS: Final[dict[Kind, tuple[tuple[bytes, bytes], ...]]] = {
    Kind.UNAUTHENTICATED: ((b"www-authenticate", b"Bearer"),),
    # The rest of the body is not read.
    Kind.TOO_LARGE: ((b"connection", b"close"),),
    Kind.SLOW: ((b"connection", b"close"),),
}


def refusal_answer(refusal: CallRefused) -> Answer:
    """Return the answer to a call that led to no job."""
    face = _FACES[refusal.kind]
    body = ErrorBody(refusal.message, face.type, refusal.param, refusal.code)
    hints = _HINTS.get(refusal.kind, ())
    is_final = refusal.retry_after_s is None and refusal.kind is not Kind.SLOW
    return _answer(face.status, ErrorEnvelope(body), retry_after_s=refusal.retry_after_s, is_final=is_final, more=hints)


def away_answer(error: Transient) -> Answer:
    """Return the answer when a part of the system is briefly away: the same call may be sent again."""
    message = "A part of the service is briefly away; send the same call again, nothing is made or charged twice."
    body = ErrorBody(message, _FACES[Kind.BUSY].type, None, error.reason)
    return _answer(503, ErrorEnvelope(body), retry_after_s=_AWAY_RETRY_AFTER_S, is_final=False)


def job_error(job: Job) -> tuple[int, ErrorBody]:
    """Return status and body for a job that did not succeed, or not in time."""
    kind, code = _kind_of(job)
    face = _FACES[kind]
    text = job_text(
        job.state,
        cause=job.cause,
        money=job.money,
        held_microcredits=job.held_microcredits,
        charged_microcredits=job.charged_microcredits,
    )
    if kind is Kind.WINDOW:
        text = f"The picture is not ready within this call; the job goes on: GET /api/jobs/{job.job_id}. {text}"
    return face.status, ErrorBody(text, face.type, None, code)


def job_answer(job: Job) -> Answer:
    """Return the final answer for a job without pictures: clients do not send the call again by themselves."""
    status, body = job_error(job)
    return _answer(status, ErrorEnvelope(body, qraft_job_id=job.job_id), is_final=True)


def uncharged(refusal: CallRefused) -> CallRefused:
    """Return the refusal with its money effect said."""
    message = f"{refusal.message} {NOT_CHARGED}"
    return CallRefused(refusal.kind, refusal.code, message, param=refusal.param, retry_after_s=refusal.retry_after_s)


def _kind_of(job: Job) -> tuple[Kind, str]:
    cause: Cause = cause_of(job.cause)
    match job.state:
        case JobState.FAILED if cause.kind is Kind.POLICY:
            return Kind.POLICY, "moderation_blocked"
        case JobState.FAILED:
            return cause.kind if cause.kind is not Kind.UNCERTAIN else Kind.PROVIDER, job.cause or "provider_failed"
        case JobState.CANCELED:
            return Kind.CONFLICT, "job_canceled"
        case JobState.UNCERTAIN:
            return Kind.UNCERTAIN, "outcome_uncertain"
        case JobState.REFUND_FAILED:
            return Kind.PROVIDER, "refund_failed"
        case JobState.PENDING | JobState.RUNNING | JobState.SUCCEEDED:
            return Kind.WINDOW, "job_still_running"


def _answer(
    status: int,
    envelope: ErrorEnvelope,
    *,
    is_final: bool,
    retry_after_s: int | None = None,
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    headers = list(more)
    if is_final:
        headers.append((b"x-should-retry", b"false"))
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    return Answer(status, msgspec.json.encode(envelope), tuple(headers))
