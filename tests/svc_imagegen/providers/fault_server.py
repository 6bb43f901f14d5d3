"""
A raw asyncio HTTP(S) server that can misbehave at the level of bytes. What it does is said by handlers; see
`fault_provider.py` for the kinds. It counts calls by attempt id, connections, and what was still connected at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

_HEAD_BYTES_MAX = 65_536
_BODY_BYTES_MAX = 16_777_216


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in small letters
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def attempt_id(self) -> str:
        return self.headers.get("idempotency-key", "")

    def json(self) -> dict[str, object]:
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded

    def form(self) -> list[tuple[str, dict[str, str], bytes]]:
        """Return (name, part headers, content) of a multipart body, in order, read by hand as a strict server would."""
        boundary = self.headers["content-type"].split("boundary=")[1].strip('"').encode()
        parts = []
        for piece in self.body.split(b"--" + boundary)[1:-1]:
            head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.decode().split("\r\n"))
            }
            name = headers["content-disposition"].split('name="')[1].split('"')[0]
            parts.append((name, headers, content.removesuffix(b"\r\n")))
        return parts

    def fields(self) -> dict[str, str]:
        """Return the parts of a form that are no files."""
        return {name: content.decode() for name, head, content in self.form() if "filename=" not in str(head)}

    def files(self) -> list[tuple[str, bytes]]:
        """Return name and content of a form's files, in order."""
        return [(name, content) for name, head, content in self.form() if "filename=" in str(head)]


class Reply:
    """The way back. `send` writes a whole answer; `raw` any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, **headers: object) -> None:
        lines = [f"HTTP/1.1 {status} X"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def send(self, status: int, body: bytes, **headers: object) -> None:
        all_headers = {"Content_Type": "application/json", "Content_Length": len(body)} | headers
        await self.head(status, **all_headers)
        await self.raw(body)

    async def json(self, value: object, status: int = 200, **headers: object) -> None:
        await self.send(status, json.dumps(value).encode(), **headers)

    async def until_gone(self) -> None:
        """Wait until the client has hung up: how a server hangs for ever without outliving its test."""
        while await self._reader.read(65_536):
            pass

    def reset(self) -> None:
        """Cut the connection with RST."""
        self._writer.transport.abort()


Handler = Callable[[Request, Reply], Awaitable[None]]


@dataclass
class FaultServer:
    """A server whose every request goes to one handler."""

    handler: Handler
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    n_connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"

    async def __aenter__(self) -> FaultServer:
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self.tls, limit=_BODY_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                request = await _read(reader)
                self.requests.append(request)
                self.calls[request.attempt_id] += 1
                await self.handler(request, Reply(reader, writer))
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    assert len(head) <= _HEAD_BYTES_MAX
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = b"".join([piece async for piece in _pieces(reader, headers)])
    return Request(method, target, headers, body)


async def _pieces(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    elif (length := int(headers.get("content-length", "0"))) <= _BODY_BYTES_MAX:
        yield await reader.readexactly(length)
