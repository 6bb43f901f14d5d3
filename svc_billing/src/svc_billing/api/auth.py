"""Who may use the API: whoever knows the one admin token."""

from __future__ import annotations

import hmac
from typing import Final

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from svc_billing.api.answers import error_answer

_SCHEME: Final = "bearer"
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="svc_billing"'}


class AdminOnly:
    """An ASGI application that lets only requests with the token through. token None: nobody, and it says why."""

    def __init__(self, inner: ASGIApp, *, token: SecretStr | None) -> None:
        self._inner = inner
        self._token = token.get_secret_value().encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 without a configured token, 401 without the right one, else hand over."""
        assert scope["type"] == "http"
        refusal = self._refusal(Request(scope))
        await (refusal or self._inner)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if self._token is None:
            text = (
                "the admin API is off: set QRAFT_BILLING_ADMIN_TOKEN to a secret of 16 characters or more and restart"
            )
            return error_answer(503, "admin_token_not_set", text)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Compared in constant time, as bytes: text outside ASCII would raise.
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != _SCHEME or not is_right:
            text = "expected the header `Authorization: Bearer <admin token>`"
            return error_answer(401, "unauthorized", text, headers=_CHALLENGE)
        return None
