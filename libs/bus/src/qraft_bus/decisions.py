"""What follows from one delivery and from the way its handler ended. Pure: no clock, no I/O, no state."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from qraft_bus.port import Delivery, RetryLater
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.outcomes import Malformed, Outcome, Refused, Transient
from qraft_contracts.subjects import DEAD_LETTER_PREFIX

_DOUBLINGS_MAX = 16  # keeps 2**n small; the largest pause is reached long before


@dataclass(frozen=True, slots=True)
class Settle:
    """Acknowledge. outcome: ok or refused; reason: the rule's code for a refusal."""

    outcome: str = "ok"
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Bury:
    """Move the message to the dead letters, then acknowledge."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Run the handler again after a pause, keeping the message and so the order."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave the message unacknowledged and stop the process: it is delivered again after the restart."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Hand the message back; it comes again after a pause, others may come before it."""

    delay_s: float
    reason: str


Verdict = Settle | Bury | Retry | Stop
WorkVerdict = Settle | Bury | Later


def judge_delivery(delivery: Delivery, *, schemas: Sequence[str], settings: BusSettings) -> Bury | None:
    """Return why a delivery must not reach its handler, or None when it may."""
    if (unreadable := judge_headers(delivery, schemas=schemas)) is not None:
        return unreadable
    if delivery.n_delivered > settings.max_deliveries and not _is_dead_letter(delivery):
        return Bury(
            "poison",
            f"delivered {delivery.n_delivered} times, allowed {settings.max_deliveries}: every earlier handling "
            "ended without acknowledgement (crash, bug or kill)",
        )
    return None


def judge_headers(delivery: Delivery, *, schemas: Sequence[str]) -> Bury | None:
    """Return why nobody could read a delivery, by its headers, or None."""
    if _is_dead_letter(delivery):
        return None  # dead letters carry whatever their message carried; their readers take them as they are
    missing = [name for name in headers.REQUIRED if not delivery.headers.get(name)]
    if missing:
        return Bury("missing_header", f"expected the headers {list(headers.REQUIRED)}, missing {missing}")
    schema = delivery.headers[headers.SCHEMA]
    if schema not in schemas:
        return Bury("unknown_schema", f"expected a schema out of {list(schemas)}, received {schema!r}")
    return None


def _is_dead_letter(delivery: Delivery) -> bool:
    return delivery.subject.startswith(f"{DEAD_LETTER_PREFIX}.")


def judge_outcome(
    error: BaseException | None, *, key: str, n_attempts: int, elapsed_s: float, settings: BusSettings
) -> Verdict:
    """
    Return what follows from the end of one attempt.

    Args:
        error: what the handler raised, or None.
        key: names the message; spreads the pauses of different messages.
        n_attempts: attempts so far, this one included.
        elapsed_s: since the first attempt began.
        settings: the bounds.
    """
    match error:
        case None:
            return Settle()
        case Malformed():
            return Bury(error.reason, error.detail)
        case Refused():
            return Settle(outcome="refused", reason=error.reason, detail=error.detail)
        case Transient():
            delay_s = backoff_s(n_attempts, key=key, settings=settings)
            if elapsed_s + delay_s <= settings.transient_budget_s:
                return Retry(delay_s, reason=str(error))
            return Stop(f"still failing after {n_attempts} attempts in {elapsed_s:.1f} s: {error}")
        case _:
            return Stop(f"bug in the handler: {type(error).__name__}: {error}")


def judge_work(
    outcome: Outcome | RetryLater | None, *, key: str, n_delivered: int, settings: BusSettings
) -> WorkVerdict:
    """
    Return what follows from the named end of one piece of work.

    Args:
        outcome: what the handler raised, or None.
        key: names the message; spreads the pauses of different messages.
        n_delivered: deliveries so far, this one included.
        settings: the bounds.
    """
    match outcome:
        case None:
            return Settle()
        case RetryLater():
            return Later(outcome.delay_s, reason=outcome.reason)
        case Malformed():
            return Bury(outcome.reason, outcome.detail)
        case Refused():
            return Settle(outcome="refused", reason=outcome.reason, detail=outcome.detail)
        case _:
            return Later(backoff_s(n_delivered, key=key, settings=settings), reason=str(outcome))


def backoff_s(n_attempts: int, *, key: str, settings: BusSettings) -> float:
    """
    Return the pause after a failed attempt: doubling up to a ceiling, the upper half of it by the hash of the key.

    The same key and attempt always give the same pause; different keys are spread ("equal jitter").
    """
    doublings = min(n_attempts - 1, _DOUBLINGS_MAX)
    ceiling = min(settings.backoff_max_s, settings.backoff_first_s * 2.0**doublings)
    spread_frac = zlib.crc32(f"{key}/{n_attempts}".encode()) / 2**32
    return ceiling * (0.5 + 0.5 * spread_frac)
