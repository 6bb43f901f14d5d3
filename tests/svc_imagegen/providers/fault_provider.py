"""
A provider with every fault that was met or thought of, by name, and what each means for money.

`FaultProvider.base_url(kind)` is what a providers file names; with kind `by_prompt` a prompt chooses, as
`[fault:html_200]`, which is how a test of the whole service mixes them. Calls are counted by attempt id.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Final

from tests.svc_imagegen.providers.certificates import server_tls
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request

SUCCESS, REFUSED_PICTURE = "success", "refused_picture"  # the adapter passes both on; the verifier refuses the second
NOT_DELIVERED, THROTTLED, REJECTED = "not_delivered", "throttled", "rejected"
UNCERTAIN, BAD_PICTURE = "uncertain", "bad_picture"
REQUEST_ID: Final = "req-of-the-provider"
LATE_S: Final = 0.2
_TICK_S: Final = 0.05


def png(width: int = 8, height: int = 8, *, data: bytes | None = None) -> bytes:
    """Return a PNG; with data a header of any size over whatever it is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + b"\x20\x80\xc0" * width) * height) if data is None else data
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG: Final = png()


def picture_body(*pictures: bytes) -> dict[str, object]:
    return {"created": 1, "data": [{"b64_json": base64.b64encode(it).decode()} for it in pictures]}


@dataclass(frozen=True, slots=True)
class Kind:
    """outcome: what the adapter makes of it. cause: its code. n: pictures to ask for. is_called: a request arrives."""

    outcome: str
    cause: str = ""
    n: int = 1
    is_called: bool = True


Play = Callable[["FaultProvider", Request, Reply], Awaitable[None]]
KINDS: Final[dict[str, Kind]] = {}
_PLAYS: Final[dict[str, Play]] = {}


def _kind(outcome: str, cause: str = "", *, n: int = 1) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        name = play.__name__.strip("_")
        KINDS[name], _PLAYS[name] = Kind(outcome, cause, n=n), play
        return play

    return register


def _simple(name: str, outcome: str, cause: str, status: int, value: object, **headers: object) -> None:
    async def play(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
        await reply.json(value, status, X_Request_Id=REQUEST_ID, **headers)

    KINDS[name], _PLAYS[name] = Kind(outcome, cause), play


def _body(name: str, outcome: str, cause: str, body: bytes, **headers: object) -> None:
    async def play(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
        await reply.send(200, body, X_Request_Id=REQUEST_ID, **headers)

    KINDS[name], _PLAYS[name] = Kind(outcome, cause), play


def _error(message: str, code: str | int | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


# Never delivered: these have an address of their own, no handler.
for _name in ("refuse", "connect_timeout", "tls_plain", "tls_untrusted", "tls_wrong_name", "tls_stall", "no_such_host"):
    KINDS[_name] = Kind(NOT_DELIVERED, "not_connected", is_called=False)

_DATE = format_datetime(datetime(2026, 11, 21, 12, 0, 7, tzinfo=UTC) + timedelta(seconds=30), usegmt=True)
_simple("throttled_seconds", THROTTLED, "throttled", 429, _error("slow down"), Retry_After=7)
_simple("throttled_date", THROTTLED, "throttled", 429, _error("slow down"), Retry_After=_DATE)
_simple("throttled_past_date", THROTTLED, "throttled", 429, {}, Retry_After="Fri, 21 Nov 2025 00:00:00 GMT")
_simple("throttled_milliseconds", THROTTLED, "throttled", 429, _error("slow down"), Retry_After_Ms=2500)
_simple("throttled_silently", THROTTLED, "throttled", 429, _error("slow down", "rate_limit_exceeded"))
_simple("throttled_for_ever", THROTTLED, "throttled", 429, _error("slow down"), Retry_After=999999999)
_simple("throttled_garbage", THROTTLED, "throttled", 429, _error("slow down"), Retry_After="soon")

_simple("bad_request", REJECTED, "bad_request", 400, _error("Invalid size"))
_simple("validation_422", REJECTED, "bad_request", 422, {"detail": [{"loc": ["n"], "msg": "too many"}]})
_simple("unauthorized", REJECTED, "unauthorized", 401, _error("Incorrect API key provided: sk-canary-0123456789"))
_simple("forbidden", REJECTED, "unauthorized", 403, _error("no"))
_simple("model_unknown", REJECTED, "model_unknown", 404, _error("no such model"))
_simple("content_policy", REJECTED, "content_policy", 400, _error("blocked", "moderation_blocked"))
_simple("content_policy_number", REJECTED, "content_policy", 422, {"base_resp": {"status_code": 1026}})
_simple("content_policy_azure", REJECTED, "content_policy", 400, _error("no", "contentFilter"))
_simple("content_policy_200", REJECTED, "content_policy", 200, _error("no", "content_policy_violation"))
_simple("quota_402", REJECTED, "provider_quota", 402, _error("pay"))
_simple("quota_429", REJECTED, "provider_quota", 429, _error("empty", "insufficient_quota"), Retry_After=1)
_simple("redirect_to_metadata", REJECTED, "not_connected", 307, {}, Location="http://169.254.169.254/latest")
_simple("redirect_to_itself", REJECTED, "not_connected", 308, {}, Location="/by_prompt/v1/images/generations")

_simple("server_error", UNCERTAIN, "provider_error", 500, _error("oops"))
_simple("bad_gateway", UNCERTAIN, "provider_error", 502, "<html>", Content_Type="text/html")
_simple("overloaded", UNCERTAIN, "provider_error", 503, _error("busy", "server_is_overloaded"), Retry_After=1)
_simple("gateway_timeout", UNCERTAIN, "timeout", 504, _error("slow"))
_simple("request_timeout", UNCERTAIN, "timeout", 408, _error("The operation was timeout."))
_simple("relay_task", UNCERTAIN, "provider_pending", 200, {"data": [{"task_id": "t-1", "status": "submitted"}]})
_simple("relay_task_plain", UNCERTAIN, "provider_pending", 200, {"task_id": "t-2", "status": "processing"})
_simple("accepted_202", UNCERTAIN, "provider_pending", 202, {"id": "t-3", "status": "queued"})

_body("html_200", BAD_PICTURE, "bad_picture", b"<!doctype html><p>Welcome", Content_Type="text/html")
_body("broken_json", BAD_PICTURE, "bad_picture", b'{"data": [{"b64_json": "iVBOR')
_body("json_list", BAD_PICTURE, "bad_picture", b"[1, 2]")
_body("deep_json", BAD_PICTURE, "bad_picture", b'{"data":' * 40_000)
_body("not_a_number", BAD_PICTURE, "bad_picture", b'{"data": NaN}')
_body("empty_body", BAD_PICTURE, "bad_picture", b"")
_body("unknown_packing", BAD_PICTURE, "bad_picture", b"\x1b\x00", Content_Encoding="br")
_body("broken_packing", BAD_PICTURE, "bad_picture", b"no gzip", Content_Encoding="gzip")
_body("gzip_bomb", BAD_PICTURE, "bad_picture", gzip.compress(b"[" + b" " * 67_108_864), Content_Encoding="gzip")
_body("cut_packing", BAD_PICTURE, "bad_picture", gzip.compress(b"{}" * 500)[:-12], Content_Encoding="gzip")
_simple("bad_base64", BAD_PICTURE, "bad_picture", 200, {"data": [{"b64_json": "%%%not base64%%%"}]})
_simple("empty_base64", BAD_PICTURE, "no_pictures", 200, {"data": [{"b64_json": ""}]})
_simple("zero_pictures", BAD_PICTURE, "no_pictures", 200, {"created": 1, "data": []})
_simple("null_data", BAD_PICTURE, "no_pictures", 200, {"created": 1, "data": None})
_simple("numbers_as_pictures", BAD_PICTURE, "no_pictures", 200, {"data": [1, None, 2.5]})
_simple("error_body_200", BAD_PICTURE, "no_pictures", 200, _error("upstream exploded", "server_error"))
_simple("url_to_metadata", BAD_PICTURE, "bad_picture", 200, {"data": [{"url": "http://169.254.169.254/a.png"}]})
_simple("url_to_file", BAD_PICTURE, "bad_picture", 200, {"data": [{"url": "file:///etc/passwd"}]})
_simple("url_without_scheme", BAD_PICTURE, "bad_picture", 200, {"data": [{"url": "//127.0.0.1/a.png"}]})
_simple("url_missing", BAD_PICTURE, "bad_picture", 200, {"data": [{"url": "/missing.png"}]})
_simple("url_redirects_inside", BAD_PICTURE, "bad_picture", 200, {"data": [{"url": "/redirect-inside.png"}]})


def _picture_kind(name: str, *pictures: bytes, outcome: str = REFUSED_PICTURE, n: int = 1) -> None:
    _simple(name, outcome, "", 200, picture_body(*pictures))
    KINDS[name] = Kind(outcome, n=n)


_picture_kind("ok", PNG, outcome=SUCCESS)
_picture_kind("fewer_pictures", PNG, outcome=SUCCESS, n=2)
_picture_kind("more_pictures", PNG, PNG, PNG, outcome=SUCCESS)
_picture_kind("html_as_picture", b"<html>quota exceeded</html>")
_picture_kind("svg_as_picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
_picture_kind("truncated_png", png(64, 64)[:90])
_picture_kind("huge_header", png(40_000, 40_000, data=zlib.compress(b"\0" * 100)))
_picture_kind("text_as_picture", b"an image of a cat")
_body("packed_though_not_asked", SUCCESS, "", gzip.compress(
    b'{"data":[{"b64_json":"' + base64.b64encode(PNG) + b'"}]}'), Content_Encoding="gzip")  # fmt: skip
_simple("half_bad", SUCCESS, "", 200, {"data": [{"b64_json": "%%"}, *picture_body(PNG)["data"]]})  # type: ignore[misc]
KINDS["half_bad"] = Kind(SUCCESS, n=2)
_simple("ok_by_url", SUCCESS, "", 200, {"data": [{"url": "/picture.png"}]})
_simple("data_url_as_base64", SUCCESS, "", 200,
        {"data": [{"b64_json": "data:image/png;base64," + base64.b64encode(PNG).decode()}]})  # fmt: skip


@_kind(SUCCESS)
async def late_answer(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await asyncio.sleep(LATE_S)
    await reply.json(picture_body(PNG))


@_kind(SUCCESS)
async def answers_twice(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.json(picture_body(PNG))
    await reply.json(picture_body(png(16, 16), png(16, 16)))


@_kind(SUCCESS)
async def without_length(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Type="application/json")
    await reply.raw(b'{"data":[{"b64_json":"' + base64.b64encode(PNG) + b'"}]}')


@_kind(UNCERTAIN, "timeout")
async def first_byte_timeout(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.until_gone()


@_kind(UNCERTAIN, "timeout")
async def mid_body_timeout(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Length=10_000, X_Request_Id=REQUEST_ID)
    await reply.raw(b'{"data": [')
    await reply.until_gone()


@_kind(UNCERTAIN, "timeout")
async def drip(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Length=10_000)
    for _ in range(10_000):  # a byte a tick, always before the gap ends: only the total ends it
        await reply.raw(b" ")
        await asyncio.sleep(_TICK_S)


@_kind(UNCERTAIN, "timeout")
async def drip_headers(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 X\r\nX-Slow: ")
    for _ in range(10_000):
        await reply.raw(b"a")
        await asyncio.sleep(_TICK_S)


@_kind(UNCERTAIN, "connection_lost")
async def close_before_answer(_provider: FaultProvider, _request: Request, _reply: Reply) -> None:
    return


@_kind(UNCERTAIN, "connection_lost")
async def reset_before_answer(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    reply.reset()


@_kind(UNCERTAIN, "connection_lost")
async def close_after_headers(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Length=500, X_Request_Id=REQUEST_ID)


@_kind(UNCERTAIN, "connection_lost")
async def close_mid_body(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Length=500, X_Request_Id=REQUEST_ID)
    await reply.raw(b'{"data": [')


@_kind(UNCERTAIN, "connection_lost")
async def close_mid_chunk(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Transfer_Encoding="chunked")
    await reply.raw(b"ff\r\nabc")


@_kind(UNCERTAIN, "connection_lost")
async def close_without_length(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Type="application/json")
    await reply.raw(b'{"data": [{"b64_json": "iVBO')


@_kind(UNCERTAIN, "connection_lost")
async def chunked_garbage(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Transfer_Encoding="chunked")
    await reply.raw(b"zz\r\nnothing of that is a chunk\r\n\r\n")


@_kind(UNCERTAIN, "connection_lost")
async def not_http(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@_kind(UNCERTAIN, "connection_lost")
async def huge_header_line(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 X\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n")


@_kind(UNCERTAIN, "connection_lost")
async def endless_headers(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 X\r\n")
    for index in range(100_000):
        await reply.raw(f"X-H{index}: {index}\r\n".encode() * 100)


@_kind(BAD_PICTURE, "bad_picture")
async def endless_body(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Transfer_Encoding="chunked")
    while True:
        await reply.raw(b"10000\r\n" + b" " * 65_536 + b"\r\n")


@_kind(BAD_PICTURE, "bad_picture")
async def huge_length(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(200, Content_Length=10**12)
    await reply.until_gone()


@_kind(BAD_PICTURE, "bad_picture")
async def no_content(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(204)


@_kind(REJECTED, "bad_request")
async def error_body_hangs(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(400, Content_Length=100)
    await reply.raw(b'{"error"')


@_kind(UNCERTAIN, "provider_error")
async def endless_error(_provider: FaultProvider, _request: Request, reply: Reply) -> None:
    await reply.head(500, Transfer_Encoding="chunked")
    while True:
        await reply.raw(b"1000\r\n" + b"x" * 4_096 + b"\r\n")


class FaultProvider:
    """The provider. `server` is the one that most kinds live on; `inside` must never hear anything."""

    def __init__(self) -> None:
        self.server = FaultServer(self._serve)
        self.inside = FaultServer(self._serve, host="127.0.0.2")
        self._urls: dict[str, str] = {}
        self._stack = AsyncExitStack()

    @property
    def calls(self) -> Counter[str]:
        """Return how often each attempt id was seen."""
        return self.server.calls

    def base_url(self, kind: str) -> str:
        """Return the base URL under which a kind of fault answers."""
        return self._urls.get(kind, f"{self.server.origin}/{kind}") + "/v1"

    async def __aenter__(self) -> FaultProvider:
        enter = self._stack.enter_async_context
        await enter(self.server)
        await enter(self.inside)
        untrusted = await enter(FaultServer(self._serve, tls=server_tls("127.0.0.1").untrusted))
        wrong_name = await enter(FaultServer(self._serve, tls=server_tls("other.example").trusted))
        stalled = self._stack.enter_context(_listener(backlog=8))
        full = self._stack.enter_context(_listener(backlog=0))
        for _ in range(2):  # the queue of a listener that accepts nothing takes one more than it says
            waiting = self._stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        gone = _listener(backlog=1)
        port = gone.getsockname()[1]
        gone.close()
        self._urls = {
            "refuse": f"http://127.0.0.1:{port}",
            "connect_timeout": f"http://127.0.0.1:{full.getsockname()[1]}",
            "tls_plain": f"https://127.0.0.1:{self.server.port}",
            "tls_untrusted": untrusted.origin,
            "tls_wrong_name": wrong_name.origin,
            "tls_stall": f"https://127.0.0.1:{stalled.getsockname()[1]}",
            "no_such_host": "http://missing.test:80",
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _serve(self, request: Request, reply: Reply) -> None:
        if request.path == "/picture.png":
            await reply.send(200, PNG, Content_Type="image/png")
        elif request.path == "/redirect-inside.png":
            await reply.head(302, Location=f"{self.inside.origin}/secret", Content_Length=0)
        elif request.path == "/missing.png":
            await reply.send(404, b"gone")
        else:
            await _PLAYS[_named(request)](self, request, reply)


def _named(request: Request) -> str:
    name = request.path.split("/")[1]
    if name != "by_prompt":
        return name
    match = re.search(rb"\[fault:([a-z0-9_]+)\]", request.body)
    return match[1].decode() if match else "ok"


def _listener(*, backlog: int) -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(backlog)
    return made
