"""GET /api/feeds: how fresh each polled feed is, and what went wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def feed_routes(state: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """Return the route; state: gives what a poller knows, as JSON values."""

    async def show(_request: Request) -> Response:
        return JSONResponse(dict(state()))

    return [Route("/api/feeds", show, methods=["GET"])]
