"""Answers in the API's own form: JSON of a struct, or an error with a code and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from qraft_contracts.billing import ACCOUNT_UNKNOWN, INVALID, OK, RETRY, BillingReply
from qraft_contracts.outcomes import Transient
from svc_billing.api.bodies import BadRequest
from svc_billing.api.views import ErrorBody, ErrorView, done_view
from svc_billing.domain.commands import GRANT_UNKNOWN

RETRY_AFTER_S: Final = 1
# How a refusal is said in HTTP. Everything else is a conflict with what the ledger holds.
_STATUS: Final = {INVALID: 422, ACCOUNT_UNKNOWN: 404, GRANT_UNKNOWN: 404}
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def json_answer(view: msgspec.Struct, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a struct as JSON."""
    body = msgspec.json.encode(view)
    return Response(body, status_code=status, media_type="application/json", headers={**_HEADERS, **(headers or {})})


def text_answer(text: str, *, media_type: str, headers: Mapping[str, str]) -> Response:
    """Return a text of some type, not to be kept by caches and not to be guessed at by browsers."""
    return Response(text, media_type=media_type, headers={**_HEADERS, **headers})


def error_answer(status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error."""
    return json_answer(ErrorView(ErrorBody(code, message)), status=status, headers=headers)


def reply_answer(reply: BillingReply) -> Response:
    """Return the ledger's answer to a command: 200, what it refused, or 503 with when to come again."""
    if reply.outcome == OK:
        return json_answer(done_view(reply))
    if reply.outcome == RETRY:
        if reply.code == "hold_unknown":
            return error_answer(404, reply.code, reply.message)
        return unavailable(reply.code, reply.message)
    return error_answer(_STATUS.get(reply.code, 409), reply.code, reply.message)


def unavailable(code: str, message: str) -> Response:
    """Return that the same request may work in a moment."""
    return error_answer(503, code, message, headers={"retry-after": str(RETRY_AFTER_S)})


async def on_bad_request(_request: Request, error: Exception) -> Response:
    """Answer a request that does not fit its route."""
    assert isinstance(error, BadRequest)
    return error_answer(error.status, error.code, error.message)


async def on_transient(_request: Request, error: Exception) -> Response:
    """Answer while the database is away."""
    assert isinstance(error, Transient)
    return unavailable(error.reason, f"the ledger cannot be reached right now: {error.detail}")


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer for the framework: no such route, no such method."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    return error_answer(error.status_code, code, str(error.detail), headers=error.headers)
