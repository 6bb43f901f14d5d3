"""
A provider that costs next to nothing: `python -m tests.bench.images_upstream MARK`, one picture for every request.

The picture is a 64 × 64 PNG of noise, 12 kB, as base64. Prints its port; each line on stdin is answered with the number
of pictures so far that were asked for with the mark, so that what another caller leaves behind is not counted as ours.
"""

from __future__ import annotations

import asyncio
import base64
import random
import struct
import sys
import zlib
from typing import Final, cast

import msgspec
import uvloop
from tests.bench.images_wire import Messages

SIDE: Final = 64


def noise() -> bytes:
    """Return the picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    draw = random.Random(1)
    rows = b"".join(b"\0" + draw.randbytes(3 * SIDE) for _ in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _answer() -> bytes:
    body = msgspec.json.encode({"created": 1_800_000_000, "data": [{"b64_json": base64.b64encode(noise()).decode()}]})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Counter:
    """How many pictures were made for requests with a mark in their body."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.n = 0

    def count(self, body: bytes) -> None:
        """Count a request if it has the mark."""
        self.n += self._mark in body


class Connection(asyncio.Protocol):
    """One connection of a gateway."""

    def __init__(self, answer: bytes, made: Counter) -> None:
        self._answer = answer
        self._made = made
        self._messages = Messages()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        assert self._transport is not None
        for message in self._messages.feed(data):
            self._made.count(message.body)
            self._transport.write(self._answer)


async def serve() -> None:
    """Serve until stdin ends."""
    loop, answer, made = asyncio.get_running_loop(), _answer(), Counter(sys.argv[1].encode())
    server = await loop.create_server(lambda: Connection(answer, made), "127.0.0.1", 0)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await lines.readline():
        print(made.n, flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
