"""One path of the API: which method does what, who may, and what every answer of the edge has."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_imagegen.api.errors import away_answer, refusal_answer
from svc_imagegen.api.http import Answer, BodyBudget, Call, ClientGone
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.ports import ApiKey
from svc_imagegen.usecases.authenticate import ADMIN, Authenticate

Handler = Callable[[Call], Awaitable[Answer | None]]

_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a path or a query, for the document. schema: JSON schema."""

    name: str
    where: str  # path | query | header
    schema: Mapping[str, object]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One operation: how it is served and how it is documented.

    scope: what the key needs; None = no key. answers: status → what the body may be, types of JSON or media types.
    body: media type → the type of the fields. files: the form's file fields.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    scope: str | None
    answers: Mapping[int, tuple[type | str, ...]]
    body: Mapping[str, type] | None = None
    files: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """What all resources share."""

    authenticate: Authenticate
    clock: Clock
    budget: BodyBudget


class Resource:
    """An ASGI application for one path."""

    def __init__(self, edge: Edge, operations: Sequence[Operation]) -> None:
        self._edge = edge
        self._operations = {it.method: it for it in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allowed = ", ".join(sorted(self._operations)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        call = Call(
            method=scope["method"],
            params=scope.get("path_params", {}),
            query_string=scope.get("query_string", b""),
            headers=dict(scope["headers"]),
            receive=receive,
            send=send,
            request_id=f"req_{secrets.token_hex(12)}",
            received_at=self._edge.clock.now(),
            started_s=asyncio.get_running_loop().time(),
            budget=self._edge.budget,
        )
        try:
            answer = await self._serve(call)
            if answer is not None:
                await call.answer(answer)
        except ClientGone:
            return
        finally:
            call.release()

    async def _serve(self, call: Call) -> Answer | None:
        operation = self._operations.get(call.method)
        if operation is None:
            refusal = CallRefused(Kind.METHOD, "method_not_allowed", f"{call.method[:20]} is not offered here.")
            answer = refusal_answer(refusal)
            return Answer(answer.status, answer.body, (*answer.headers, (b"allow", self._allowed)))
        try:
            if operation.scope is not None:
                call.key = await self._authorized(call, operation.scope)
            return await operation.handler(call)
        except CallRefused as refusal:
            if refusal.kind is Kind.INTERNAL:
                logs.get().error("call.failed", operation=operation.name, code=refusal.code, request_id=call.request_id)
            return refusal_answer(refusal)
        except Transient as error:
            logs.get().warning(
                "call.put_off", operation=operation.name, reason=error.reason, request_id=call.request_id
            )
            return away_answer(error)

    async def _authorized(self, call: Call, scope: str) -> ApiKey:
        given = call.header(b"authorization")
        text = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""
        key = await self._edge.authenticate(text) if text else None
        if key is None:
            message = (
                "This API key is not known here, or it was revoked."
                if text
                else "No API key came; send `Authorization: Bearer sk-qraft-…`."
            )
            raise CallRefused(Kind.UNAUTHENTICATED, "invalid_api_key", message)
        if scope not in key.scopes and ADMIN not in key.scopes:
            raise CallRefused(Kind.FORBIDDEN, "insufficient_scope", f"This API key lacks the scope {scope}.")
        return key


class Elsewhere(BaseRoute):
    """Every other path of the API. Starlette's own patterns do not match a path with a line end."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match whatever begins as the API does."""
        is_ours = scope["type"] == "http" and scope["path"].split("/")[1:2] in (["api"], ["v1"])
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call."""
        await self._resource(scope, receive, send)


async def nowhere(_call: Call) -> Answer:
    """Answer for a path that does not exist."""
    raise CallRefused(Kind.MISSING, "not_found", "There is no such path.")
