"""GET and POST /api/replay: how far the replay is, and its speed. GET /api/quality: the faults so far."""

from __future__ import annotations

import math

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qraft_contracts.times import format_instant
from svc_ingest.usecases.publish import Publisher

# Far above what any machine does; a larger number is a mistake.
MAX_SPEED = 100_000.0
_MAX_BODY_BYTES = 1024


class _SpeedRequest(msgspec.Struct, forbid_unknown_fields=True):
    speed: float


def replay_routes(publisher: Publisher) -> list[Route]:
    """Return the routes of one line of bars."""

    async def show(_request: Request) -> Response:
        return JSONResponse(_state(publisher))

    async def change(request: Request) -> Response:
        if publisher.state.is_live:
            return _error(409, "live_source", "a living source has the speed of its market")
        body = await request.body()
        try:
            wanted = msgspec.json.decode(body[:_MAX_BODY_BYTES], type=_SpeedRequest).speed
        except msgspec.DecodeError as error:
            return _error(422, "bad_speed", f'expected {{"speed": bars a second}}: {error}')
        if not (math.isfinite(wanted) and 0 <= wanted <= MAX_SPEED):
            return _error(422, "bad_speed", f"expected a speed from 0 (as fast as possible) to {MAX_SPEED:.0f}")
        publisher.pace.set_speed(wanted)
        return JSONResponse(_state(publisher))

    async def quality(_request: Request) -> Response:
        return JSONResponse(publisher.line.check.report.as_dict())

    return [
        Route("/api/replay", show, methods=["GET"]),
        Route("/api/replay", change, methods=["POST"]),
        Route("/api/quality", quality, methods=["GET"]),
    ]


def _state(publisher: Publisher) -> dict[str, object]:
    state, source = publisher.state, publisher.line.source
    return {
        "source": source.description,
        "origin": source.origin.value,
        "speed": None if state.is_live else publisher.pace.speed,
        "as_of": format_instant(state.as_of) if state.as_of else None,
        "n_bars": state.n_bars,
        "finished": state.finished,
    }


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
