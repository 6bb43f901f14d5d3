"""
One HTTP exchange with the outside, guarded, bounded in bytes and time, told apart by what it means: never sent, lost.

Every exchange has a connection of its own: on a kept one a server's goodbye and our request cross, and then nobody can
say whether a paid call arrived. Proxies of the environment are not used: a proxy resolves names itself, unguarded.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from svc_imagegen.adapters.guard import AddressPolicy, Resolve, resolve_checked

# Of an answer that is no success only this much is read: enough for any error text.
ERROR_BYTES_MAX: Final = 65_536
_ERROR_READ_S_MAX: Final = 5.0
_CHUNK_BYTES: Final = 262_144
_HEADER_BYTES_MAX: Final = 16_384
_N_HEADERS_MAX: Final = 100
_USER_AGENT: Final = "qraft-imagegen"


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
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        timeouts: Timeouts,
        n_bytes_max: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | aiohttp.FormData | None = None,
    ) -> Answer:
        """
        Send one request, once.

        Raises:
            Forbidden: if the address is not allowed; nothing was sent.
            Unsent, Lost, Unusable: see there.
        """
        checked = self._policy.check_url(url)
        exchange = _Exchange(timeouts)
        try:
            return await self._exchange(
                exchange, method, checked, n_bytes_max=n_bytes_max, headers=headers or {}, body=body
            )
        except TimeoutError:
            # `from None` here and below: aiohttp's errors carry the request with its headers, and so the key.
            raise exchange.failed(f"no answer in time ({exchange.stage})", is_timeout=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise exchange.failed(_reason(error), is_timeout=False) from None

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(
        self,
        exchange: _Exchange,
        method: str,
        url: URL,
        *,
        n_bytes_max: int,
        headers: Mapping[str, str],
        body: bytes | aiohttp.FormData | None,
    ) -> Answer:
        session = self._open_session()
        async with asyncio.timeout(None) as timeout:
            exchange.begin(timeout)
            async with session.request(
                method, url, headers=headers, data=body, allow_redirects=False, trace_request_ctx=exchange
            ) as response:
                exchange.answered(response)
                if 200 <= response.status < 300:
                    await _read_success(response, exchange, n_bytes_max=n_bytes_max)
                    content = bytes(exchange.body)
                else:
                    timeout.reschedule(None)
                    content = await _read_error(response)
                return Answer(
                    url=url,
                    status=response.status,
                    headers=response.headers,
                    body=content,
                    is_framed=response.status == 204
                    or "Content-Length" in response.headers
                    or "Transfer-Encoding" in response.headers,
                )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_tell_connected)
            connector = aiohttp.TCPConnector(
                resolver=_GuardedResolver(self._policy, self._resolve),
                use_dns_cache=False,
                socket_factory=self._make_socket,
                force_close=True,
                limit=0,
                ssl=True if self._tls is None else self._tls,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
                trace_configs=[trace],
                max_line_size=_HEADER_BYTES_MAX,
                max_field_size=_HEADER_BYTES_MAX,
                max_headers=_N_HEADERS_MAX,
            )
        return self._session

    def _make_socket(self, info: tuple[int, int, int, str, tuple[str | int, ...]]) -> socket.socket:
        """Check once more at the last step: aiohttp asks no resolver for literal addresses."""
        family, kind, protocol, _, address = info
        self._policy.check_address(str(address[0]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


class _GuardedResolver(AbstractResolver):
    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - all families are wanted
    ) -> list[ResolveResult]:
        addresses = await resolve_checked(host, port, policy=self._policy, resolve=self._resolve)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: the look-up is shared and closed by its owner."""


class _Exchange:
    """How far one exchange came, and by when it has to come further."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + timeouts.total_s
        self._timeout: asyncio.Timeout | None = None
        self._is_connected = False
        self._headers: Mapping[str, str] = {}
        self.stage = "connecting"
        self.body = bytearray()

    def begin(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._wait(self._timeouts.connect_s)

    def connected(self) -> None:
        self._is_connected = True
        self.stage = "waiting for the answer"
        self._wait(self._timeouts.first_byte_s)

    def answered(self, response: aiohttp.ClientResponse) -> None:
        self._headers = response.headers
        self.stage = "reading the answer"
        self.moved()

    def moved(self) -> None:
        self._wait(self._timeouts.gap_s)

    def failed(self, reason: str, *, is_timeout: bool) -> Unsent | Lost:
        if not self._is_connected:
            return Unsent(reason)
        return Lost(reason, is_timeout=is_timeout, headers=self._headers, partial=bytes(self.body))

    def _wait(self, seconds: float) -> None:
        assert self._timeout is not None
        self._timeout.reschedule(min(self._ends_at, self._loop.time() + seconds))


async def _tell_connected(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    exchange: _Exchange = context.trace_request_ctx
    exchange.connected()


async def _read_success(response: aiohttp.ClientResponse, exchange: _Exchange, *, n_bytes_max: int) -> None:
    if (response.content_length or 0) > n_bytes_max:
        raise Unusable(f"the answer is larger than {n_bytes_max} bytes", headers=response.headers)
    unpack = _Unpacking(response, n_bytes_max=n_bytes_max)
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        exchange.moved()
        await unpack.add(chunk, exchange.body)
    unpack.end()


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """Return what can be read soon; the status has said already what it means."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_READ_S_MAX):
            while len(body) < ERROR_BYTES_MAX and (chunk := await response.content.read(ERROR_BYTES_MAX - len(body))):
                body += chunk
    except (TimeoutError, aiohttp.ClientError, OSError):
        return bytes(body)
    return bytes(body)


class _Unpacking:
    """Adds the pieces of a body; unpacks what a server packed though it was asked not to, never past the bound."""

    def __init__(self, response: aiohttp.ClientResponse, *, n_bytes_max: int) -> None:
        self._n_bytes_max = n_bytes_max
        self._headers = response.headers
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("", "identity"):
            self._unpack = None
        elif encoding in ("gzip", "x-gzip", "deflate"):
            self._unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | (0 if encoding == "deflate" else 16))
        else:
            raise Unusable("the answer is packed in a way that was not asked for", headers=self._headers)

    async def add(self, chunk: bytes, body: bytearray) -> None:
        if self._unpack is None:
            body += chunk
            self._check(body)
            return
        while chunk:
            try:
                body += self._unpack.decompress(chunk, max_length=_CHUNK_BYTES)
            except zlib.error:
                raise Unusable("the answer is not packed as it says", headers=self._headers) from None
            self._check(body)
            chunk = self._unpack.unconsumed_tail
            await asyncio.sleep(0)  # a bomb unpacks a thousandfold: let others run

    def end(self) -> None:
        if self._unpack is not None and not self._unpack.eof:
            raise Unusable("the packed answer ends too early", headers=self._headers)

    def _check(self, body: bytearray) -> None:
        if len(body) > self._n_bytes_max:
            raise Unusable(f"the answer is larger than {self._n_bytes_max} bytes", headers=self._headers)


def _reason(error: Exception) -> str:
    """Say what failed, by its kind only: texts of the network library may hold addresses and headers."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return "TLS failed"
        case aiohttp.ClientConnectorError():
            return "the connection failed"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | OSError():
            return "the connection was cut"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case _:
            return "the answer is no HTTP"
