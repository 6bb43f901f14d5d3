"""One HTTP call as the handlers see it, its body within limits, and what they answer with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.ports import ApiKey

# A whole upload of the largest size at 1 Mbit/s takes nine minutes; who is slower than this is no client.
_BODY_TIMEOUT_S: Final = 300.0
# Reading stops for a client that takes nothing for this long; it comes back by itself.
SEND_TIMEOUT_S: Final = 20.0
_N_QUERY_FIELDS_MAX: Final = 20

Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client has left; there is nobody to answer. What it asked for goes on."""


class BodyBudget:
    """How many bytes of bodies this process holds at once, all calls together."""

    def __init__(self, n_bytes_max: int) -> None:
        self._n_bytes_max = n_bytes_max
        self._n_bytes = 0

    def take(self, n_bytes: int) -> None:
        """
        Count further bytes.

        Raises:
            CallRefused: beyond the budget.
        """
        if self._n_bytes + n_bytes > self._n_bytes_max:
            message = "Too many uploads are under way; send the same call again."
            raise CallRefused(Kind.BUSY, "server_is_overloaded", message, retry_after_s=2)
        self._n_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Count bytes off."""
        self._n_bytes -= n_bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body is made while it is sent; `Call.stream` sends it."""

    status: int
    chunks: AsyncGenerator[bytes]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"text/event-stream; charset=utf-8"


@dataclass(slots=True, kw_only=True)
class Call:
    """One call. key is set once it is known who calls."""

    method: str
    params: Mapping[str, str]
    query_string: bytes
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send
    request_id: str
    received_at: datetime
    started_s: float
    budget: BodyBudget
    _key: ApiKey | None = None
    _n_body_bytes: int = 0

    @property
    def key(self) -> ApiKey:
        """Return who calls."""
        assert self._key is not None, "the route needs no key"
        return self._key

    @key.setter
    def key(self, key: ApiKey) -> None:
        self._key = key

    def header(self, name: bytes) -> str:
        """Return a header's text, "" without it."""
        return self.headers.get(name, b"").decode("latin-1")

    def query(self) -> dict[str, str]:
        """
        Return the query's fields; of a repeated one, the last.

        Raises:
            CallRefused: for more fields than any route has.
        """
        try:
            pairs = parse_qsl(self.query_string.decode("latin-1"), True, max_num_fields=_N_QUERY_FIELDS_MAX)
        except ValueError as error:
            raise CallRefused(Kind.INVALID, "invalid_query", "Expected a query of few fields.") from error
        return dict(pairs)

    async def chunks(self, *, n_bytes_max: int) -> AsyncIterator[bytes]:
        """
        Yield the body as it comes, counted against the call's and the process's limits.

        Raises:
            CallRefused: as soon as it is clear that the body is too large, or when it takes too long.
            ClientGone: if the client leaves before the end.
        """
        told = self.headers.get(b"content-length", b"")
        if told.isdigit() and int(told[:20]) > n_bytes_max:
            raise _too_large(n_bytes_max)
        deadline_s = asyncio.get_running_loop().time() + _BODY_TIMEOUT_S
        n_bytes, more = 0, True
        while more:
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await self.receive()
            except TimeoutError as error:
                raise CallRefused(Kind.SLOW, "request_timeout", "The body did not arrive in time.") from error
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            n_bytes += len(chunk)
            if n_bytes > n_bytes_max:
                raise _too_large(n_bytes_max)
            self.budget.take(len(chunk))
            self._n_body_bytes += len(chunk)
            more = message.get("more_body", False)
            yield chunk

    async def body(self, *, n_bytes_max: int) -> bytes:
        """Return the whole body; raises as `chunks` does."""
        return b"".join([chunk async for chunk in self.chunks(n_bytes_max=n_bytes_max)])

    async def until_left(self) -> None:
        """Return when the client has left. The body has been read."""
        while (await self.receive())["type"] != "http.disconnect":
            continue

    async def answer(self, answer: Answer) -> None:
        """Send a whole answer."""
        headers = self._headers(answer.headers, answer.media_type)
        if answer.status not in (204, 304):
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else answer.body})

    async def stream(self, stream: Stream) -> None:
        """
        Send an answer as it is made.

        Raises:
            ClientGone: if the client takes nothing for too long.
        """
        headers = self._headers(stream.headers, stream.media_type)
        await self.send({"type": "http.response.start", "status": stream.status, "headers": headers})
        if self.method != "HEAD":
            async with aclosing(stream.chunks) as chunks:
                async for chunk in chunks:
                    await self._send_chunk(chunk)
        await self.send({"type": "http.response.body", "body": b""})

    async def _send_chunk(self, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError as error:
            raise ClientGone from error

    def _headers(self, own: tuple[tuple[bytes, bytes], ...], media_type: bytes) -> Headers:
        took_ms = int((asyncio.get_running_loop().time() - self.started_s) * 1000)
        return [
            (b"x-request-id", self.request_id.encode()),
            (b"openai-processing-ms", str(took_ms).encode()),
            (b"content-type", media_type),
            *own,
        ]

    def release(self) -> None:
        """Count the body off: it is not needed any more."""
        self.budget.give_back(self._n_body_bytes)
        self._n_body_bytes = 0


def params_of(scope: Scope) -> Mapping[str, str]:
    """Return the path's parameters."""
    params: Mapping[str, str] = scope.get("path_params", {})
    return params


def _too_large(n_bytes_max: int) -> CallRefused:
    message = f"Expected a body of at most {n_bytes_max} bytes."
    return CallRefused(Kind.TOO_LARGE, "request_too_large", message)
