"""Server-sent events: what happened last, at most four times a second, to a bounded number of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Receive, Scope, Send

PAUSE_S: Final = 0.25
KEEP_ALIVE_S: Final = 15.0
# A client that takes nothing for this long is cut off; it comes back by itself and reads the newest state.
SEND_TIMEOUT_S: Final = 10.0

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Broadcast:
    """The newest event, for every client to pick up. Telling never waits for a client; a slow one misses events."""

    def __init__(self, *, n_clients_max: int) -> None:
        self._n_clients_max = n_clients_max
        self._n_clients = 0
        self._event = b""
        self._n_told = 0
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Return whether no further client is taken."""
        return self._n_clients >= self._n_clients_max

    def tell(self, name: str, data: bytes) -> None:
        """Replace the newest event. data: one line."""
        self._event = b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
        self._n_told += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client as an ASGI application until it leaves or takes nothing for too long."""
        assert scope["type"] == "http"
        self._n_clients += 1
        leaving = asyncio.create_task(_until_left(receive))
        try:
            await _within(send({"type": "http.response.start", "status": 200, "headers": _HEADERS}))
            await self._stream(send, leaving)
        except TimeoutError:
            return
        finally:
            leaving.cancel()
            self._n_clients -= 1

    async def _stream(self, send: Send, leaving: asyncio.Task[None]) -> None:
        n_seen = 0
        await _within(send(_chunk(b"retry: 2000\n\n")))
        while not leaving.done():
            changed = self._changed
            if n_seen == self._n_told:
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({waiting, leaving}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            if leaving.done():
                return
            body = self._event if n_seen != self._n_told else b": still here\n\n"
            n_seen = self._n_told
            await _within(send(_chunk(body)))
            await asyncio.wait({leaving}, timeout=PAUSE_S)


async def _until_left(receive: Callable[[], Awaitable[object]]) -> None:
    while True:
        message = await receive()
        if isinstance(message, dict) and message.get("type") == "http.disconnect":
            return


async def _within(sending: Awaitable[None]) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await sending


def _chunk(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}
