"""
The client's side of HTTP/1.1 for one exchange on one connection: a request's bytes, and an answer read within bounds.

Parsed by llhttp, as leniently as servers in the wild need it. Nothing is kept for a second exchange, so that whatever
lies behind an answer means nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

import httptools
from yarl import URL

# Of an answer that is no success only this much is read: enough for any error text.
ERROR_BYTES_MAX: Final = 65_536
_HEAD_BYTES_MAX: Final = 262_144  # all of an answer that is no body, trailers and chunk sizes aside
_FIELD_BYTES_MAX: Final = 16_384
_N_FIELDS_MAX: Final = 100
_N_INTERIM_MAX: Final = 16  # 100 Continue, 102, 103
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class NoHttp(Exception):
    """What came is no answer in HTTP, or one beyond all bounds."""


class BrokenOff(Exception):
    """The connection ended before the answer did."""


class TooLarge(Exception):
    """The body is larger than was asked for."""


class Fields(Mapping[str, str]):
    """Header fields by name in any case; of a repeated one the first."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def add(self, name: str, value: str) -> None:
        """Add a field."""
        self._values.setdefault(name.lower(), value)

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def request_bytes(method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """
    Return the head of a request, to be followed by its body.

    Raises:
        ValueError: for a header that would be more than one line.
    """
    fields = {"Host": url.host_port_subcomponent or "", **headers, "Connection": "close"}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1"]
    for name, value in fields.items():
        if not _FIELD_NAME.fullmatch(name) or _NOT_IN_VALUE.search(value):
            raise ValueError(f"expected a header of one line as {name[:40]!r}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Reply(asyncio.Protocol):
    """
    Reads one answer. `whole` is done when it is: with None, or with NoHttp, BrokenOff or TooLarge.

    moved: called whenever something of the body came, and when its head is whole. An answer that is no success is whole
    as soon as enough of it is here, or no more comes: the status has said already what it means.
    """

    def __init__(self, *, n_bytes_max: int, moved: Callable[[], None]) -> None:
        self._n_bytes_max = n_bytes_max
        self._moved = moved
        self._parser = httptools.HttpResponseParser(self)
        # As every browser and aiohttp do; nothing is smuggled past a client that asks once.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._n_head_bytes = 0
        self._n_fields = 0
        self._n_interim = 0
        self._is_interim = False
        self._transport: asyncio.Transport | None = None
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0  # until the headers are whole
        self.headers = Fields()
        self.body = bytearray()

    @property
    def is_success(self) -> bool:
        """Return whether the status is one."""
        return 200 <= self.status < 300

    @property
    def is_framed(self) -> bool:
        """Return whether the server said how long the body is."""
        return self.status == 204 or "content-length" in self.headers or "transfer-encoding" in self.headers

    def send(self, head: bytes, body: bytes | None) -> None:
        """Send the request."""
        assert self._transport is not None, "sent before the connection was made"
        self._transport.write(head if not body else head + body if len(body) <= _FIELD_BYTES_MAX else head)
        if body and len(body) > _FIELD_BYTES_MAX:
            self._transport.write(body)

    def close(self) -> None:
        """Let go of the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self.whole.done():
            return
        n_body_bytes = len(self.body)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            found = error.__context__
            self._end(found if isinstance(found, NoHttp | TooLarge) else NoHttp("the answer is no HTTP"))
            return
        if self.status:
            self._moved()
        self._n_head_bytes += len(data) - (len(self.body) - n_body_bytes)
        if self._n_head_bytes > _HEAD_BYTES_MAX + len(self.body):  # chunks of one byte have six around them
            self._end(NoHttp("the answer is no HTTP"))

    def connection_lost(self, error: Exception | None) -> None:
        """End what has not ended yet."""
        if self.is_success and error is None and not self.is_framed:
            self._end(None)
        elif self.status:
            self._end(BrokenOff("the answer broke off"))
        else:
            self._end(BrokenOff("the connection was cut"))

    # llhttp's callbacks.

    def on_message_begin(self) -> None:
        """Forget an interim answer."""
        self._is_interim = False

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take one field of the head, or of the trailers, which are counted and dropped."""
        self._n_fields += 1
        if self._n_fields > _N_FIELDS_MAX or len(name) + len(value or b"") > _FIELD_BYTES_MAX:
            raise NoHttp("the answer is no HTTP")
        if not self.status:  # neither trailers nor anything behind the answer
            self.headers.add(name.decode("utf-8", "surrogateescape"), (value or b"").decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Take the status, unless another answer follows."""
        status = self._parser.get_status_code()
        if self.whole.done():
            return
        if status < 200:
            self._n_interim += 1
            if status == 101 or self._n_interim > _N_INTERIM_MAX:
                raise NoHttp("the answer is no HTTP")
            self._is_interim = True
            self.headers = Fields()
            return
        self.status = status
        length = self.headers.get("content-length", "")
        if self.is_success and length.isdigit() and int(length[:20]) > self._n_bytes_max:
            raise TooLarge

    def on_body(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        if self.whole.done():
            return
        self.body += chunk
        if self.is_success:
            if len(self.body) > self._n_bytes_max:
                raise TooLarge
        elif len(self.body) >= ERROR_BYTES_MAX:
            del self.body[ERROR_BYTES_MAX:]
            self._end(None)

    def on_message_complete(self) -> None:
        """End, unless it was an interim answer."""
        if not self._is_interim:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self.whole.done():
            return
        if error is None or (self.status and not self.is_success):
            self.whole.set_result(None)
        else:
            self.whole.set_exception(error)
            self.whole.exception()  # whoever waits may have been canceled
