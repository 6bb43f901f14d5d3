"""
One HTTP exchange with the outside, guarded, bounded in bytes and time, told apart by what it means: never sent, lost.

Every exchange has a connection of its own: on a kept one a server's goodbye and our request cross, and then nobody can
say whether a paid call arrived. Proxies of the environment are not used: a proxy resolves names itself, unguarded. The
wire is our own (http_wire.py): a general client's sessions, pools, cookies and redirects, none of which is wanted here,
cost a third of the processor time of a picture.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from svc_imagegen.adapters.guard import AddressPolicy, Resolve, resolve_checked
from svc_imagegen.adapters.http_wire import BrokenOff, NoHttp, Reply, TooLarge, request_bytes

_ERROR_READ_S_MAX: Final = 5.0
_CHUNK_BYTES: Final = 262_144
# With another address left, nobody waits longer for one that does not answer.
_ADDRESS_S_MAX: Final = 2.0
_N_URLS_KEPT_MAX: Final = 64
_OWN_HEADERS: Final = {"User-Agent": "qraft-imagegen", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Seconds. connect: name, connection and TLS; first_byte: from there to the headers; gap: between two pieces of the
    body; total: all of it.
    """

    connect_s: float
    first_byte_s: float
    gap_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Status, headers and body. is_framed: the server said how long the body is, so a cut would have been noticed.

    The body of an answer that is no success is only what could be read of it.
    """

    url: URL
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_framed: bool


class Unsent(Exception):
    """Not one byte of the request was sent: the name, the connection or TLS failed. reason: English clause."""


class Lost(Exception):
    """The request may have arrived, and no whole answer came. partial: what there is of the body."""

    def __init__(
        self, reason: str, *, is_timeout: bool, headers: Mapping[str, str] | None = None, partial: bytes = b""
    ) -> None:
        super().__init__(reason)
        self.is_timeout = is_timeout
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.partial = partial


class Unusable(Exception):
    """A success whose body is too large or packed in a way that cannot be read."""

    def __init__(self, reason: str, *, headers: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.headers = headers


class GuardedHttp:
    """Exchanges under one address policy. Nothing is repeated, no redirect is followed, no cookie is kept."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve, *, tls: ssl.SSLContext | None = None) -> None:
        """Take the policy. tls None: the system's certificates, always verified."""
        self._policy = policy
        self._resolve = resolve
        self._tls = tls
        self._urls: dict[str, URL] = {}  # checked before; a provider's own is the same for every call

    async def send(
        self,
        method: str,
        url: str,
        *,
        timeouts: Timeouts,
        n_bytes_max: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """
        Send one request, once.

        Raises:
            Forbidden: if the address is not allowed; nothing was sent.
            Unsent, Lost, Unusable: see there.
        """
        checked = self._checked(url)
        exchange = _Exchange(timeouts, n_bytes_max=n_bytes_max)
        try:
            head = request_bytes(method, checked, headers={**_OWN_HEADERS, **(headers or {})}, body=body)
        except ValueError as error:
            raise Unsent(str(error)) from None
        try:
            async with asyncio.timeout(None) as timeout:
                exchange.begin(timeout)
                await self._connect(checked, exchange)
                exchange.connected()
                exchange.reply.send(head, body)
                await exchange.reply.whole
        except TimeoutError:
            # `from None` here and below: nothing of the request, which holds a key, shall be seen with the error.
            if not exchange.reply.status or exchange.reply.is_success:
                raise exchange.failed(f"no answer in time ({exchange.stage})", is_timeout=True) from None
        except TooLarge:
            raise Unusable(f"the answer is larger than {n_bytes_max} bytes", headers=exchange.reply.headers) from None
        except (BrokenOff, NoHttp, OSError) as error:
            raise exchange.failed(_reason(error), is_timeout=False) from None
        finally:
            exchange.reply.close()
        return await _answer(checked, exchange.reply, n_bytes_max=n_bytes_max)

    async def close(self) -> None:
        """Do nothing: no connection outlives its exchange."""

    def _checked(self, text: str) -> URL:
        url = self._urls.get(text)
        if url is None:
            url = self._policy.check_url(text)
            if len(self._urls) >= _N_URLS_KEPT_MAX:
                del self._urls[next(iter(self._urls))]
            self._urls[text] = url
        return url

    async def _connect(self, url: URL, exchange: _Exchange) -> None:
        """Connect to the first address that lets us, out of those that were checked just now."""
        host, port, loop = url.raw_host or "", url.port or 0, asyncio.get_running_loop()
        tls = self._tls_context() if url.scheme == "https" else None
        addresses = [host] if _is_literal(host) else await self._addresses(host, port)
        for i, address in enumerate(addresses):
            self._policy.check_address(address)
            is_last = i == len(addresses) - 1
            try:
                async with asyncio.timeout(None if is_last else _ADDRESS_S_MAX):
                    await loop.create_connection(
                        exchange.begin_reply, address, port, ssl=tls, server_hostname=host.rstrip(".") if tls else None
                    )
                return
            except OSError:  # TimeoutError is one; a cancellation by the exchange's own limit is none
                if is_last:
                    raise

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return await resolve_checked(host, port, policy=self._policy, resolve=self._resolve)
        except OSError:
            raise Unsent("the host name cannot be resolved") from None

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _Exchange:
    """How far one exchange came, and by when it has to come further."""

    def __init__(self, timeouts: Timeouts, *, n_bytes_max: int) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + timeouts.total_s
        self._timeout: asyncio.Timeout | None = None
        self._is_connected = False
        self._n_bytes_max = n_bytes_max
        self.reply = self.begin_reply()
        self.stage = "connecting"

    def begin(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._wait(self._timeouts.connect_s)

    def begin_reply(self) -> Reply:
        """Return a reader for a new connection; what a connection before it still says, nobody hears."""
        self.reply = Reply(n_bytes_max=self._n_bytes_max, moved=self._moved)
        return self.reply

    def connected(self) -> None:
        self._is_connected = True
        self.stage = "waiting for the answer"
        self._wait(self._timeouts.first_byte_s)

    def failed(self, reason: str, *, is_timeout: bool) -> Unsent | Lost:
        if not self._is_connected:
            return Unsent(reason)
        is_packed = _packing_of(self.reply) is not None
        partial = b"" if is_packed or not self.reply.is_success else bytes(self.reply.body)
        return Lost(reason, is_timeout=is_timeout, headers=self.reply.headers, partial=partial)

    def _moved(self) -> None:
        is_first = self.stage != "reading the answer"
        self.stage = "reading the answer"
        if self.reply.is_success:
            self._wait(self._timeouts.gap_s)
        elif is_first:
            # The status has said already what it means.
            assert self._timeout is not None
            self._timeout.reschedule(self._loop.time() + _ERROR_READ_S_MAX)

    def _wait(self, seconds: float) -> None:
        assert self._timeout is not None
        self._timeout.reschedule(min(self._ends_at, self._loop.time() + seconds))


async def _answer(url: URL, reply: Reply, *, n_bytes_max: int) -> Answer:
    content = bytes(reply.body)
    if reply.is_success and (wbits := _packing_of(reply)) is not None:
        content = await _unpacked(content, wbits, n_bytes_max=n_bytes_max, headers=reply.headers)
    return Answer(url=url, status=reply.status, headers=reply.headers, body=content, is_framed=reply.is_framed)


def _packing_of(reply: Reply) -> int | None:
    """Return zlib's name of how a body is packed, though it was asked not to be; None for a plain one."""
    match reply.headers.get("content-encoding", "").strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.MAX_WBITS | 16
        case "deflate":
            return zlib.MAX_WBITS
        case _:
            return -1


async def _unpacked(packed: bytes, wbits: int, *, n_bytes_max: int, headers: Mapping[str, str]) -> bytes:
    """Unpack a body, never past the bound."""
    if wbits < 0:
        raise Unusable("the answer is packed in a way that was not asked for", headers=headers)
    unpack, body = zlib.decompressobj(wbits=wbits), bytearray()
    while packed:
        try:
            body += unpack.decompress(packed, max_length=_CHUNK_BYTES)
        except zlib.error:
            raise Unusable("the answer is not packed as it says", headers=headers) from None
        if len(body) > n_bytes_max:
            raise Unusable(f"the answer is larger than {n_bytes_max} bytes", headers=headers)
        packed = unpack.unconsumed_tail
        await asyncio.sleep(0)  # a bomb unpacks a thousandfold: let others run
    if not unpack.eof:
        raise Unusable("the packed answer ends too early", headers=headers)
    return bytes(body)


def _is_literal(host: str) -> bool:
    """Return whether a checked host is an address; what only looks like a number was forbidden."""
    return ":" in host or host.replace(".", "").isdigit()


def _reason(error: Exception) -> str:
    """Say what failed, by its kind only: texts of the network library may hold addresses."""
    match error:
        case BrokenOff() | NoHttp():
            return str(error)
        case ssl.SSLError():
            return "TLS failed"
        case _:
            return "the connection failed"
