"""The desk's HTTP routes. Read-only: nothing that arrives here can change the account."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from qraft_contracts.outcomes import Transient
from svc_execution.api.desk import Desk
from svc_execution.api.events import Broadcast
from svc_execution.domain.desk import ErrorBody, ErrorView
from svc_execution.ports import DeskReader

N_PRICES: Final = 500
N_PRICES_MAX: Final = 2_000
_STATIC: Final = Path(__file__).parent / "static"


class DeskRoutes:
    """The endpoints; `routes` lists them."""

    def __init__(self, desk: Desk, reader: DeskReader, broadcast: Broadcast, *, web_static: Path) -> None:
        self._desk = desk
        self._reader = reader
        self._broadcast = broadcast
        self._web_static = web_static

    def routes(self) -> list[BaseRoute]:
        """Return the routes for qraft_runtime.service."""
        return [
            Route("/", self._root),
            Route("/desk", self._page),
            Mount("/desk/static", StaticFiles(directory=_STATIC)),
            Mount("/web", StaticFiles(directory=self._web_static)),
            Route("/api/desk", self._view),
            Route("/api/desk/prices", self._prices),
            # An ASGI application, not a function: the stream has its own time-outs.
            Route("/api/desk/events", _Events(self._broadcast)),
        ]

    async def _root(self, _request: Request) -> Response:
        return RedirectResponse("/desk")

    async def _page(self, _request: Request) -> Response:
        return FileResponse(_STATIC / "desk.html", headers={"cache-control": "no-cache"})

    async def _view(self, _request: Request) -> Response:
        try:
            return _json(await self._desk.view())
        except Transient as error:
            return _error(503, error.reason, f"the journal cannot be read right now: {error.detail}")

    async def _prices(self, request: Request) -> Response:
        symbol = request.query_params.get("symbol", "")
        limit = _limit(request.query_params.get("limit"))
        if limit is None:
            return _error(422, "bad_limit", f"expected limit to be a whole number from 1 to {N_PRICES_MAX}")
        try:
            prices = await self._reader.prices(symbol, limit=limit) if symbol else None
        except Transient as error:
            return _error(503, error.reason, f"the prices cannot be read right now: {error.detail}")
        if prices is None:
            return _error(404, "unknown_symbol", f"expected a symbol of this market, received {symbol!r}")
        return _json(prices)


class _Events:
    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._broadcast.is_full:
            response = _error(503, "too_many_clients", "every event stream is taken; poll /api/desk instead")
            await response(scope, receive, send)
        else:
            await self._broadcast.serve(scope, receive, send)


def _limit(text: str | None) -> int | None:
    if text is None:
        return N_PRICES
    is_plain = text.isascii() and text.isdigit() and len(text) <= len(str(N_PRICES_MAX))
    return int(text) if is_plain and 1 <= int(text) <= N_PRICES_MAX else None


def _json(view: msgspec.Struct, *, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(view), status_code=status, media_type="application/json", headers=headers)


def _error(status: int, code: str, message: str) -> Response:
    return _json(ErrorView(ErrorBody(code, message)), status=status)
