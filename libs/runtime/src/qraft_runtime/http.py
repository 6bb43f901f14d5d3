"""The HTTP edge that every service has: /healthz, /readyz, /metrics, and whatever routes the service adds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qraft_runtime.health import Health

# Server-sent-event clients hold a connection open for ever; shutting down does not wait longer for them.
_SHUTDOWN_GRACE_S = 2


def build_http_app(health: Health, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """
    Return the ASGI application of one service.

    Routes of one exact path that lead to an ASGI application are served without Starlette around them, which cost the
    image gateway a tenth of its time. Such an application answers every method and its own errors itself.
    """

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        return JSONResponse(health.report(), status_code=200 if health.is_ready else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    own = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    framework, direct = Starlette(routes=[*own, *routes]), _direct_routes(routes)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        found = direct.get(scope["path"]) if scope["type"] == "http" else None
        await (found or framework)(scope, receive, send)

    return serve


def _direct_routes(routes: Sequence[BaseRoute]) -> dict[str, ASGIApp]:
    """Return the applications of exact paths that no earlier route takes."""
    found: dict[str, ASGIApp] = {}
    for i, route in enumerate(routes):
        # Starlette makes methods for functions only.
        if not isinstance(route, Route) or route.methods is not None or "{" in route.path:
            continue
        scope = {"type": "http", "path": route.path, "method": "GET", "root_path": ""}
        if all(earlier.matches(scope)[0] is Match.NONE for earlier in routes[:i]):
            found[route.path] = route.app
    return found


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the service decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers as they are."""
        yield


@asynccontextmanager
async def serve_http(app: ASGIApp, *, host: str, port: int) -> AsyncIterator[None]:
    """
    Serve the application while the block runs; port 0 serves nothing.

    Raises:
        OSError: if the port is taken.
    """
    if port == 0:
        yield
        return
    listener = _bind(host, port)
    # httptools: the parser in Python led the profile of the image gateway.
    config = uvicorn.Config(
        app,
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        lifespan="off",
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _bind(host: str, port: int) -> socket.socket:
    # uvicorn would end the process from inside a task when the port is taken; bound here, it is an error like others.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"could not serve HTTP on {host}:{port} ({error}); `qraft doctor` shows taken ports") from error
    return listener
