"""What the HTTP API takes: bodies and parameters, checked by their types. The ledger's own rules come after them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request

from svc_billing.domain.prices import AMOUNT_MAX, N_RULES_MAX, PriceRule

BODY_BYTES_MAX: Final = 64 << 10
PRICES_BODY_BYTES_MAX: Final = 4 << 20  # 10,000 rules of 300 bytes
IDEMPOTENCY_KEY: Final = "Idempotency-Key"

# An id goes into rows, subjects and URLs: printable ASCII without space, never interpreted.
ID_PATTERN: Final = r"^[!-~]{1,200}$"
ACCOUNT_ID_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]*$"

Id = Annotated[str, Meta(pattern=ID_PATTERN, description="made by the caller; 1 to 200 printable ASCII characters")]
AccountId = Annotated[str, Meta(pattern=ACCOUNT_ID_PATTERN)]
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description="whole micro-credits; 1 credit = 1,000,000")]
Text = Annotated[str, Meta(max_length=500, pattern=_TEXT_PATTERN)]
Instant = Annotated[datetime, Meta(tz=True)]

T = TypeVar("T", bound=msgspec.Struct)


class BadRequest(Exception):
    """What came is not what the route takes. status: 400, 413 or 422."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class OpenAccountBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Open an account without credits. operation_id may come as the header Idempotency-Key instead."""

    account_id: AccountId
    operation_id: Id | None = None
    reason: Text = ""


class GrantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give credits. priority: lower is spent first, then what expires sooner. expires_at null = never."""

    grant_id: Id
    amount_microcredits: Amount
    operation_id: Id | None = None
    is_promotional: bool = False
    priority: Annotated[int, Meta(ge=0, le=1000)] = 100
    expires_at: Instant | None = None
    reason: Text = ""


class VoidGrantBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Withdraw what is left of a grant."""

    reason: Text
    operation_id: Id | None = None


class RefundBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give back part or all of what a settled hold was charged."""

    amount_microcredits: Amount
    reason: Text
    operation_id: Id | None = None


class PricesBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replace the price list."""

    rules: Annotated[list[PriceRule], Meta(min_length=1, max_length=N_RULES_MAX)]
    operation_id: Id | None = None


async def read_body(request: Request, kind: type[T], *, n_bytes_max: int = BODY_BYTES_MAX) -> T:
    """
    Return the body as the struct.

    Raises:
        BadRequest: 413 above the bound, 400 if it is no JSON, 422 naming the field that does not fit.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > n_bytes_max:
            raise BadRequest(413, "body_too_large", f"expected a body of at most {n_bytes_max} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except msgspec.ValidationError as error:
        text = f"expected a {kind.__name__} as /api/openapi.json says: {error}"
        raise BadRequest(422, "invalid", text) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, "no_json", f"expected a JSON body: {error}") from error


def operation_id_of(request: Request, in_body: str | None) -> str:
    """
    Return the caller's id of a command, out of the body or the header.

    Raises:
        BadRequest: 422 without one, with two that differ, or with one that could not be an id.
    """
    in_header = request.headers.get(IDEMPOTENCY_KEY)
    if in_header is not None:
        _check(in_header, Id, name=IDEMPOTENCY_KEY)
    if in_body is None and in_header is None:
        raise BadRequest(
            422,
            "operation_id_missing",
            f"expected an operation_id in the body or the header {IDEMPOTENCY_KEY}: make one, keep it, and send the "
            "same one again when in doubt",
        )
    if in_body is not None and in_header is not None and in_body != in_header:
        raise BadRequest(422, "operation_ids_differ", f"expected one id, the body's and {IDEMPOTENCY_KEY} differ")
    return in_body if in_body is not None else str(in_header)


def path_id(request: Request, name: str, *, pattern: object = Id) -> str:
    """Return an id out of the path. Raises BadRequest: 422 if it could not be one."""
    return _check(request.path_params[name], pattern, name=name)


def check_query(request: Request, names: frozenset[str]) -> None:
    """Check that the query holds these parameters and no others, each once. Raises BadRequest: 422."""
    given = [name for name, _ in request.query_params.multi_items()]
    unknown = sorted(set(given) - names)
    if unknown:
        raise BadRequest(
            422, "invalid", f"unknown parameter {unknown[0]!r:.80}, known: {', '.join(sorted(names)) or 'none'}"
        )
    if len(given) != len(set(given)):
        raise BadRequest(422, "invalid", "expected each parameter once")


def query_int(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """Return a whole number out of the query. Raises BadRequest: 422 outside low to high."""
    text = request.query_params.get(name)
    if text is None:
        return default
    is_plain = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not is_plain or not low <= int(text) <= high:
        raise BadRequest(422, "invalid", f"expected {name} to be a whole number from {low} to {high}")
    return int(text)


def query_text(request: Request, name: str, *, kind: object, default: str) -> str:
    """Return a text out of the query. Raises BadRequest: 422 if it does not fit."""
    text = request.query_params.get(name)
    return default if text is None else _check(text, kind, name=name)


def query_choice(request: Request, name: str, *, choices: tuple[str, ...], default: str) -> str:
    """Return one of some words out of the query. Raises BadRequest: 422 for another."""
    text = request.query_params.get(name, default)
    if text not in choices:
        raise BadRequest(422, "invalid", f"expected {name} to be one of {', '.join(choices)}")
    return text


def _check(text: str, kind: object, *, name: str) -> str:
    try:
        return str(msgspec.convert(text, type=kind))
    except msgspec.ValidationError as error:
        raise BadRequest(422, "invalid", f"{name}: {error}") from error
