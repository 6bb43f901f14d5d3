"""Reading a success: JSON, its pictures, what it says of usage and cost. Nothing of it is believed further."""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from svc_imagegen.adapters.downloads import decode_data_url
from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.config import ProviderConfig
from svc_imagegen.adapters.providers.errors import complaint_of
from svc_imagegen.adapters.providers.upstream import Upstream, request_id_of
from svc_imagegen.domain.outcome import BadPicture, ProviderAnswer, RawPicture, Rejected, Uncertain

TASK_PREFIX: Final = "task/"
_BASE64_KEYS: Final = ("b64_json", "b64", "base64", "image_base64")
_URL_KEYS: Final = ("url", "image_url")
_N_USAGE_MAX: Final = 32
_USAGE_MAX: Final = 2**53
_REVISED_CHARS_MAX: Final = 32_000
_TASK_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
RUNNING: Final = frozenset(
    {"submitted", "pending", "processing", "queued", "in_progress", "running", "created", "accepted", "starting"}
)
_MICROUSD_PER: Final = {"usd": Decimal(1_000_000), "cent": Decimal(10_000), "microusd": Decimal(1)}
_COST_MICROUSD_MAX: Final = 10**12


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as its dialect reads it. cost_microusd: where the dialect itself knows where it stands."""

    decoded: dict[str, Any]
    items: list[Any]
    cost_microusd: int | None = None


def decode_success(answer: Answer, upstream: Upstream) -> dict[str, Any]:
    """
    Return the JSON object of a success.

    Raises:
        BadPicture, Uncertain: as decode_object. Uncertain: also for a relay that makes the picture later.
    """
    decoded = decode_object(answer)
    _raise_for_task(answer, decoded, upstream)
    return decoded


def decode_object(answer: Answer) -> dict[str, Any]:
    """
    Return the JSON object of a body.

    Raises:
        BadPicture: if it is none: HTML, another type, broken. Uncertain: broken, and possibly cut off on the way.
    """
    try:
        decoded = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Without a length the end of the connection is the end of the body, and a cut looks the same.
        if not answer.is_framed:
            raise Uncertain(
                "connection_lost", "the answer is not whole", provider_request_id=request_id_of(answer.headers)
            ) from None
        kind = "HTML" if answer.body[:64].lstrip()[:1] == b"<" else "broken JSON"
        raise BadPicture("bad_picture", f"the provider answered {answer.status} with {kind}") from None
    if not isinstance(decoded, dict):
        raise BadPicture("bad_picture", "expected a JSON object of the provider")
    return decoded


def _raise_for_task(answer: Answer, decoded: dict[str, Any], upstream: Upstream) -> None:
    task_id = _task_id(decoded)
    if task_id is None and answer.status != 202:
        return
    request_id = f"{TASK_PREFIX}{task_id}" if task_id else request_id_of(answer.headers)
    detail = "the provider took the order and makes the picture later"
    if not upstream.config.task_path:
        detail += "; where to ask for it is not configured (task_path)"
    raise Uncertain("provider_pending", detail, provider_request_id=request_id)


async def read_answer(answer: Answer, reading: Reading, *, n: int, upstream: Upstream) -> ProviderAnswer:
    """
    Return the pictures of an answer, at most n of them.

    Raises:
        BadPicture: if none can be used. Rejected: if the answer says that the content was refused.
    """
    decoded = reading.decoded
    found = [it for it in reading.items if isinstance(it, dict | str)]
    if len(found) == 1 or n == 1:  # without a task for it
        results = [await _picture(it, upstream) for it in found[:1]]
    else:
        results = await asyncio.gather(*(_picture(it, upstream) for it in found[:n]))
    pictures = [it for it in results if isinstance(it, RawPicture)]
    if not pictures:
        complaint = complaint_of(decoded, upstream)
        if complaint.is_policy:
            raise Rejected("content_policy", complaint.message, param="prompt")
        for problem in results:
            if isinstance(problem, BadPicture):
                raise problem
        said = f": {complaint.message}" if complaint.message else ""
        raise BadPicture("no_pictures", f"the provider answered {answer.status} without a picture{said}")
    cost = reading.cost_microusd
    if cost is None:
        cost = read_cost(answer.headers, decoded, upstream.config)
    usage = read_usage(decoded.get("usage"))
    if len(found) > n:
        usage["pictures_sent"] = len(found)  # more than were ordered: shown, not delivered
    return ProviderAnswer(
        pictures=tuple(pictures),
        provider_request_id=request_id_of(answer.headers) or _body_id(decoded),
        cost_microusd=cost,
        usage=usage,
    )


def read_usage(usage: object, prefix: str = "") -> dict[str, int]:
    """Return a provider's counters, nested ones with dots."""
    found: dict[str, int] = {}
    if not isinstance(usage, dict):
        return found
    for name, value in usage.items():
        if len(found) >= _N_USAGE_MAX:
            break
        key = f"{prefix}{name[:64]}"
        if isinstance(value, dict) and not prefix:
            found.update(read_usage(value, f"{key}."))
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < _USAGE_MAX:
            found[key] = value
    return found


def read_cost(headers: Mapping[str, str], decoded: dict[str, Any], config: ProviderConfig) -> int | None:
    """Return the cost where the configuration says it is told, else None; rounded up, as costs are."""
    told: Any = headers.get(config.cost_header) if config.cost_header else None
    if told is None and config.cost_field:
        told = decoded
        for part in config.cost_field.split("."):
            told = told.get(part) if isinstance(told, dict) else None
    if not isinstance(told, str | int | float) or isinstance(told, bool):
        return None
    return microusd(told, per=_MICROUSD_PER[config.cost_unit])


def microusd(told: str | int | float, *, per: Decimal) -> int | None:
    """Return an amount in micro-dollars, rounded up; None if it is no sane amount."""
    try:
        amount = Decimal(str(told)[:64]) * per
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= _COST_MICROUSD_MAX:
        return None
    return int(amount.to_integral_value(ROUND_CEILING))


def data_items(decoded: dict[str, Any]) -> list[Any]:
    """Return the pictures where OpenAI has them, and where its relays put them."""
    for key in ("data", "images", "output", "result"):
        value = decoded.get(key)
        if isinstance(value, dict):
            value = data_items(value) or ([value] if _has_picture(value) else None)
        if isinstance(value, list) and value:
            return [part for it in value for part in _spread(it)]
    return []


async def _picture(item: dict[str, Any] | str, upstream: Upstream) -> RawPicture | BadPicture:
    """Return a picture, or why there is none: the other pictures of the answer are paid too, and kept."""
    try:
        return await _read_picture(item, upstream)
    except BadPicture as error:
        return error


async def _read_picture(item: dict[str, Any] | str, upstream: Upstream) -> RawPicture:
    if isinstance(item, str):
        item = {"url": item} if "/" in item[:8] or item[:5] in ("data:", "https", "http:") else {"b64_json": item}
    revised = item.get("revised_prompt")
    revised = revised[:_REVISED_CHARS_MAX] if isinstance(revised, str) and revised else None
    for key in _BASE64_KEYS:
        if isinstance(text := item.get(key), str) and text:
            return RawPicture(_decode_base64(text, n_bytes_max=upstream.config.picture_bytes_max), revised)
    for key in _URL_KEYS:
        if isinstance(text := item.get(key), str) and text:
            if text[:5] == "data:":
                return RawPicture(_decode_base64(text, n_bytes_max=upstream.config.picture_bytes_max), revised)
            return RawPicture(await upstream.picture(text), revised)
    raise BadPicture("no_pictures", "an entry of the provider's answer holds no picture")


def _decode_base64(text: str, *, n_bytes_max: int) -> bytes:
    if text[:5] == "data:":  # xAI and relays put a data: URL where base64 belongs
        try:
            return decode_data_url(text, n_bytes_max=n_bytes_max)
        except Rejected as error:
            raise BadPicture("bad_picture", f"the picture is no base64: {error.detail}") from None
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadPicture("bad_picture", "the picture is no base64") from None
    if not data or len(data) > n_bytes_max:
        raise BadPicture("bad_picture", f"expected a picture of 1 to {n_bytes_max} bytes, received {len(data)}")
    return data


def _spread(item: Any) -> list[Any]:
    """One entry may name several addresses: {"url": ["…", "…"]}."""
    if isinstance(item, dict) and isinstance(item.get("url"), list):
        return [{"url": it} for it in item["url"]]
    return [item]


def _has_picture(item: dict[str, Any]) -> bool:
    return any(item.get(key) for key in (*_BASE64_KEYS, *_URL_KEYS))


def _task_id(decoded: dict[str, Any]) -> str | None:
    """Return the id of a task that runs: {task_id, status}, {id, status}, or either in data or in its first entry."""
    data = decoded.get("data")
    first = data[0] if isinstance(data, list) and data else data
    for place in (decoded, first):
        if not isinstance(place, dict) or _has_picture(place):
            continue
        status = place.get("status") or place.get("task_status") or place.get("state")
        task_id = place.get("task_id") or (place.get("id") if isinstance(status, str) else None)
        is_running = status is None or (isinstance(status, str) and status.lower() in RUNNING)
        if isinstance(task_id, str) and _TASK_ID.fullmatch(task_id) and is_running:
            return None if _any_picture(decoded) else task_id
    return None


def _any_picture(decoded: dict[str, Any]) -> bool:
    return any(_has_picture(it) for it in data_items(decoded) if isinstance(it, dict))


def _body_id(decoded: dict[str, Any]) -> str | None:
    for key in ("request_id", "id"):
        value = decoded.get(key)
        if isinstance(value, str) and _TASK_ID.fullmatch(value):
            return value
    return None
