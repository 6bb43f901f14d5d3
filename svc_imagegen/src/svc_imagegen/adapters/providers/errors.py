"""What an answer that is no success means: told apart by status first, by the provider's own words second."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.upstream import Upstream, request_id_of
from svc_imagegen.domain.outcome import Rejected, Throttled, Uncertain

RETRY_AFTER_S_DEFAULT: Final = 5.0
RETRY_AFTER_S_MIN: Final = 1.0
RETRY_AFTER_S_MAX: Final = 300.0
_DETAIL_CHARS_MAX: Final = 300
_KEY_LIKE: Final = re.compile(r"\b(sk|pk|key|Bearer)[-_ ][A-Za-z0-9*_.-]{8,}")
# Client errors by number that proxies also use when the provider behind them was too slow: nobody knows what it did.
_UNCERTAIN_STATUSES: Final = frozenset({408, 499})

# Parts of codes, small letters and digits only, as they were met: OpenAI, Azure, Ark, MiniMax (1026, 1027), Alibaba.
_POLICY_CODES: Final = (
    "contentpolicy", "contentfilter", "moderation", "sensitive", "responsibleai", "policyviolation", "datainspection",
    "safetyviolation", "promptblocked",
)  # fmt: skip
_POLICY_NUMBERS: Final = frozenset({"1026", "1027"})
_POLICY_WORDS: Final = re.compile(
    r"content[ _](policy|filter)|safety system|content moderation|sensitive (content|word)"
)
_QUOTA_CODES: Final = (
    "insufficientquota", "insufficientbalance", "billinghardlimit", "creditbalanceexhausted", "spendlimitexceeded",
    "usagelimitexceeded", "insufficientcredit", "accountoverdue", "arrearage",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Complaint:
    """A provider's error in its own words, cleaned. codes: its code and type, small letters and digits only."""

    message: str
    codes: tuple[str, ...]
    param: str | None

    @property
    def is_policy(self) -> bool:
        """Return whether the content was refused."""
        return (
            any(part in code for code in self.codes for part in _POLICY_CODES)
            or not _POLICY_NUMBERS.isdisjoint(self.codes)
            or _POLICY_WORDS.search(self.message.lower()) is not None
        )

    @property
    def is_quota(self) -> bool:
        """Return whether our own account at the provider is empty: waiting changes nothing."""
        return any(part in code for code in self.codes for part in _QUOTA_CODES)


def raise_for_status(answer: Answer, upstream: Upstream, *, now: datetime) -> None:
    """
    Raise what an answer means that is no success; return for 2xx.

    Raises:
        Throttled: 429. Rejected: other 4xx and redirects, which nobody follows with a key and a paid order.
        Uncertain: 5xx, and 408 and 499.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in _UNCERTAIN_STATUSES or status < 200:
        cause = "timeout" if status in (*_UNCERTAIN_STATUSES, 504) else "provider_error"
        raise Uncertain(cause, f"the provider answered {status}", provider_request_id=request_id_of(answer.headers))
    if status < 400:
        raise Rejected("not_connected", f"the provider answered {status}, a redirect; base_url has to name its end")
    complaint = read_complaint(answer.body, upstream)
    if complaint.is_policy:
        raise Rejected("content_policy", complaint.message, param="prompt")
    if status == 402 or complaint.is_quota:
        raise Rejected("provider_quota")
    if status == 429:
        raise Throttled("throttled", "the provider is busy", retry_after_s=retry_after_s(answer, now=now))
    if status in (401, 403):
        raise Rejected("unauthorized", f"the provider answered {status}")
    if status == 404:
        raise Rejected("model_unknown", "the provider answered 404")
    raise Rejected("bad_request", complaint.message or f"the provider answered {status}", param=complaint.param)


def retry_after_s(answer: Answer, *, now: datetime) -> float:
    """Return how long to wait by Retry-After-Ms or Retry-After, seconds or an HTTP date, within our own bounds."""
    wait_s = _milliseconds(answer.headers.get("Retry-After-Ms", ""))
    if wait_s is None:
        wait_s = _seconds_or_date(answer.headers.get("Retry-After", ""), now)
    if wait_s is None:
        return RETRY_AFTER_S_DEFAULT
    return min(max(wait_s, RETRY_AFTER_S_MIN), RETRY_AFTER_S_MAX)


def read_complaint(body: bytes, upstream: Upstream) -> Complaint:
    """Return the error of a body in any of the shapes that were met; an empty one for a body that is none of them."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Complaint("", (), None)
    return complaint_of(decoded, upstream)


def complaint_of(decoded: object, upstream: Upstream) -> Complaint:
    """
    Return the error of a decoded body.

    Shapes: {"error": {message, code, type, param}} (OpenAI; vLLM-Omni with a number as code), {"error": "text"},
    {"detail": "text" or [{msg}]} (FastAPI), {"code", "message"} (SiliconFlow), {"base_resp": {status_code, status_msg}}
    (MiniMax).
    """
    if not isinstance(decoded, dict):
        return Complaint("", (), None)
    error = decoded.get("error") or decoded.get("base_resp") or decoded.get("detail") or decoded
    if isinstance(error, list):
        error = error[0] if error else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message = next((error[it] for it in ("message", "msg", "status_msg") if isinstance(error.get(it), str)), "")
    names = [error.get(it) for it in ("code", "type", "status_code")]
    inner = error.get("inner_error") or error.get("innererror")  # Azure says ResponsibleAIPolicyViolation in here
    if isinstance(inner, dict):
        names.append(inner.get("code"))
    codes = tuple(re.sub(r"[^a-z0-9]", "", str(it).lower()) for it in names if isinstance(it, str | int))
    param = error.get("param")
    return Complaint(_clean(message, upstream), codes, param[:80] if isinstance(param, str) else None)


def _clean(message: str, upstream: Upstream) -> str:
    """Return a provider's message fit to be shown: one short line without keys."""
    line = " ".join(upstream.scrub(message[: 8 * _DETAIL_CHARS_MAX]).split())
    line = _KEY_LIKE.sub("***", "".join(it for it in line if it.isprintable()))
    return line if len(line) <= _DETAIL_CHARS_MAX else f"{line[: _DETAIL_CHARS_MAX - 1]}…"


def _milliseconds(text: str) -> float | None:
    return float(text) / 1_000 if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None


def _seconds_or_date(text: str, now: datetime) -> float | None:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (at.replace(tzinfo=at.tzinfo or now.tzinfo) - now).total_seconds()
