"""
What people read when a call or a job did not go well: one sentence of cause, one of money. English, without secrets.

A cause is a snake_case code that never changes its meaning; who is to blame decides the HTTP status at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qraft_contracts.billing import MICROCREDITS_PER_CREDIT
from svc_imagegen.domain.job import JobState, Money

NOT_CHARGED: Final = "Not charged."


class Kind(StrEnum):
    """What sort of no it is."""

    INVALID = "invalid"  # the request has to change
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    METHOD = "method"
    RANGE = "range"
    CONFLICT = "conflict"
    IDEMPOTENCY = "idempotency"
    TOO_LARGE = "too_large"
    CREDITS = "credits"
    POLICY = "policy"
    PROVIDER = "provider"  # the provider failed, or we with it; the request may be fine
    BUSY = "busy"  # come back later
    SLOW = "slow"  # the body did not arrive in time
    UNCERTAIN = "uncertain"
    WINDOW = "window"  # the call is over, the job goes on
    INTERNAL = "internal"


class CallRefused(Exception):
    """
    A call that led to no job. message: a sentence; the money effect is added where it is told.

    retry_after_s: None = final, do not send the same call again.
    """

    def __init__(
        self, kind: Kind, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of a failed or uncertain job."""

    kind: Kind
    sentence: str


_UNLISTED: Final = Cause(Kind.PROVIDER, "The provider could not make the picture.")

CAUSES: Final[dict[str, Cause]] = {
    # The provider said no.
    "content_policy": Cause(Kind.POLICY, "The provider refused the content by its policy."),
    "bad_request": Cause(Kind.INVALID, "The provider refused the request as invalid."),
    "provider_failed": Cause(Kind.PROVIDER, "The provider says that it could not make the picture."),
    "model_unknown": Cause(Kind.PROVIDER, "The provider does not know the model it is configured for."),
    "unauthorized": Cause(Kind.PROVIDER, "The provider did not accept this service's key."),
    "provider_quota": Cause(Kind.PROVIDER, "This service's own credit at the provider is used up."),
    "unsupported": Cause(Kind.INVALID, "The provider does not support what was asked for."),
    # Nothing reached the provider.
    "not_connected": Cause(Kind.PROVIDER, "The provider could not be reached, and nothing was sent."),
    "worker_stalled": Cause(Kind.BUSY, "The worker stood still before its call, and nothing was sent."),
    "throttled": Cause(Kind.BUSY, "The provider was too busy for longer than the job may wait."),
    "timed_out_waiting": Cause(Kind.BUSY, "The job waited longer than its time limit, and nothing was sent."),
    "reference_missing": Cause(Kind.PROVIDER, "A reference picture could not be read any more, and nothing was sent."),
    "provider_unknown": Cause(Kind.PROVIDER, "The provider of this job is not configured any more."),
    # What came back was no picture.
    "bad_picture": Cause(Kind.PROVIDER, "The provider's answer was no picture that could be verified."),
    "no_pictures": Cause(Kind.PROVIDER, "The provider's answer held no picture."),
    "unsupported_type": Cause(Kind.PROVIDER, "The provider's answer was no PNG, JPEG, WebP or GIF."),
    "corrupt": Cause(Kind.PROVIDER, "The picture that the provider sent is damaged."),
    "truncated": Cause(Kind.PROVIDER, "The picture that the provider sent is cut off."),
    "wrong_size": Cause(Kind.PROVIDER, "The provider sent a picture of another size than was asked for."),
    "trailing_data": Cause(Kind.PROVIDER, "The picture that the provider sent has other data behind it."),
    "empty": Cause(Kind.PROVIDER, "The picture that the provider sent is empty."),
    "too_large": Cause(Kind.PROVIDER, "The picture that the provider sent has too many bytes."),
    "too_many_pixels": Cause(Kind.PROVIDER, "The picture that the provider sent has too many pixels."),
    "too_many_frames": Cause(Kind.PROVIDER, "The picture that the provider sent has too many frames."),
    "too_slow": Cause(Kind.PROVIDER, "The picture that the provider sent took too long to decode."),
    "decoder_failed": Cause(Kind.PROVIDER, "The picture that the provider sent could not be decoded."),
    # Nobody knows yet.
    "provider_pending": Cause(Kind.UNCERTAIN, "The provider is still working on it."),
    "timeout": Cause(Kind.UNCERTAIN, "The provider did not answer in time, so the outcome is not known."),
    "connection_lost": Cause(Kind.UNCERTAIN, "The connection to the provider broke, so the outcome is not known."),
    "provider_error": Cause(Kind.UNCERTAIN, "The provider failed after it had the request; the outcome is not known."),
    "worker_lost": Cause(Kind.UNCERTAIN, "The worker stopped during the call, so the outcome is not known."),
    "never_resolved": Cause(Kind.PROVIDER, "The outcome could not be found out in time and counts as failed."),
    # People.
    "canceled": Cause(Kind.CONFLICT, "The job was canceled before it began."),
}


def cause_of(code: str) -> Cause:
    """Return a cause by its code; one that is not listed blames the provider and claims nothing else."""
    return CAUSES.get(code, _UNLISTED)


def credits_text(microcredits: int) -> str:
    """Return an amount as a decimal string of credits, exact and without trailing zeros: 40, 0.04, 1.5."""
    whole, rest = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    sign = "-" if microcredits < 0 else ""
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def money_text(money: Money, *, held_microcredits: int, charged_microcredits: int) -> str:
    """Return where a job's credits are, as one sentence."""
    held, charged = credits_text(held_microcredits), credits_text(charged_microcredits)
    match money:
        case Money.HELD:
            return f"{_counted(held)} held."
        case Money.SETTLING:
            return f"{_counted(held)} held, being charged."
        case Money.SETTLED:
            return f"Charged {_counted(charged)}."
        case Money.VOIDING:
            return f"Not charged; {_counted(held)} being returned."
        case Money.VOIDED:
            return NOT_CHARGED
        case Money.DISPUTING | Money.DISPUTED:
            return f"{_counted(held)} held, checking."
        case Money.REFUND_FAILED:
            return f"Not charged; returning {_counted(held)} has failed so far and is tried again."


def job_text(state: JobState, *, cause: str, money: Money, held_microcredits: int, charged_microcredits: int) -> str:
    """Return what to tell about a job: its cause, if it has one that matters in this state, and the money effect."""
    effect = money_text(money, held_microcredits=held_microcredits, charged_microcredits=charged_microcredits)
    is_fine = state is JobState.SUCCEEDED or money in (Money.HELD, Money.SETTLING, Money.SETTLED)
    return effect if is_fine or not cause else f"{cause_of(cause).sentence} {effect}"


def _counted(text: str) -> str:
    return f"{text} credit" if text == "1" else f"{text} credits"
