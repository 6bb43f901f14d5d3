"""One provider's server: its key, its origin, its limits; and what a failed exchange with it means for money."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

import msgspec
from yarl import URL

from svc_imagegen.adapters.downloads import download_timeouts, follow
from svc_imagegen.adapters.guard import AddressPolicy, Forbidden, Resolve
from svc_imagegen.adapters.http import Answer, GuardedHttp, Lost, Timeouts, Unsent, Unusable
from svc_imagegen.adapters.providers.config import ProviderConfig
from svc_imagegen.domain.outcome import BadPicture, NotDelivered, Rejected, Uncertain
from svc_imagegen.ports import ReferenceBytes

# Base64 makes four bytes of three; the rest of an answer is text.
_ANSWER_BYTES_EXTRA: Final = 1_048_576
_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "apim-request-id", "x-siliconcloud-trace-id", "cf-ray")
_REQUEST_ID_CHARS_MAX: Final = 200
_LOOKUP_TIMEOUT_S: Final = 15.0
_LOOKUP_BYTES_MAX: Final = 8_388_608
# Pictures are fetched by GET, which may be repeated: the provider keeps them for an hour or more, and they are paid.
_N_DOWNLOADS_MAX: Final = 3
_DOWNLOAD_PAUSE_S: Final = 0.2


class Credential:
    """A provider's key. It leaves this object only as a header of a request to the provider's own origin."""

    __slots__ = ("_header", "_prefix", "_text")

    def __init__(self, text: str, *, header: str = "Authorization", prefix: str = "Bearer ") -> None:
        """Take the key's text; "" = the server wants none."""
        self._text = text
        self._header = header
        self._prefix = prefix

    def __repr__(self) -> str:
        return "Credential(***)" if self._text else "Credential()"

    def headers(self) -> dict[str, str]:
        """Return the header that shows the key."""
        return {self._header: f"{self._prefix}{self._text}"} if self._text else {}

    def scrub(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self._text, "***") if self._text else text


@dataclass(frozen=True, slots=True)
class Call:
    """
    One paid request. path: below the base URL, with its query. fields: JSON, or the parts of a form with files.

    A form has its scalar fields first, so that a server that streams sees them before the pictures. is_stream: the
    answer is made of events, and those that came before a cut are worth something.
    """

    path: str
    fields: dict[str, object]
    files: tuple[tuple[str, ReferenceBytes], ...] = ()
    is_stream: bool = False


class _Broken(Uncertain):
    """Uncertain, with what had come of the answer."""

    def __init__(self, cause: str, lost: Lost) -> None:
        super().__init__(cause, str(lost), provider_request_id=request_id_of(lost.headers))
        self.lost = lost


class Upstream:
    """Exchanges with one provider."""

    def __init__(
        self,
        config: ProviderConfig,
        credential: Credential,
        *,
        resolve: Resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.config = config
        self._credential = credential
        self._base = config.base_url.rstrip("/")
        origin = URL(self._base).origin()
        assert origin.port is not None
        self._origin = origin
        own = AddressPolicy(ports=frozenset({origin.port}), allow_private=config.allow_private)
        self._http = GuardedHttp(own, resolve, tls=tls)
        # Pictures on other servers: never inside, whatever the provider itself may be, but where the operator says.
        elsewhere = AddressPolicy(
            ports=frozenset(config.picture_ports),
            allow_networks=tuple(ip_network(it) for it in config.picture_networks),
        )
        self._elsewhere = GuardedHttp(elsewhere, resolve, tls=tls)

    async def pay(self, call: Call, *, attempt_id: str, n_pictures: int) -> Answer:
        """
        Send one paid request, once. An answer of any status is returned.

        Raises:
            NotDelivered, Rejected: nothing was sent. Uncertain: it may have arrived. BadPicture: no usable answer.
        """
        config = self.config
        total_s = config.timeout_s
        timeouts = Timeouts(
            connect_s=min(config.connect_timeout_s, total_s),
            first_byte_s=total_s,
            gap_s=config.gap_timeout_s,
            total_s=total_s,
        )
        n_bytes_max = _ANSWER_BYTES_EXTRA + n_pictures * (config.picture_bytes_max * 4 // 3)
        headers = {"X-Client-Request-Id": attempt_id, "Idempotency-Key": attempt_id}
        if call.files:
            body, headers["Content-Type"] = _form(call)
        else:
            body, headers["Content-Type"] = msgspec.json.encode(call.fields), "application/json"
        try:
            return await self._send(
                "POST", call.path, timeouts=timeouts, n_bytes_max=n_bytes_max, headers=headers, body=body
            )
        except _Broken as error:
            if not call.is_stream or not error.lost.partial:
                raise
            return Answer(self._origin, 200, error.lost.headers, error.lost.partial, is_framed=False)

    async def ask(self, path: str) -> Answer:
        """GET something that costs nothing; raises as `pay`."""
        return await self._send(
            "GET",
            path,
            timeouts=download_timeouts(_LOOKUP_TIMEOUT_S),
            n_bytes_max=max(_LOOKUP_BYTES_MAX, self.config.picture_bytes_max),
            headers={},
            body=None,
        )

    async def picture(self, address: str) -> bytes:
        """
        Fetch a picture that an answer names, relative to the provider's origin; the key goes to that origin only.

        Raises:
            BadPicture: if it may not or cannot be fetched.
        """
        url = self._absolute(address)
        headers = self._credential.headers() if self._is_own(url) else None
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.config.download_timeout_s
        problem = "no answer in time"
        for n_tries in range(_N_DOWNLOADS_MAX):
            await asyncio.sleep(n_tries * _DOWNLOAD_PAUSE_S)
            if (left_s := ends_at - loop.time()) <= 0:
                break
            try:
                answer = await follow(
                    self._http_for,
                    url,
                    n_bytes_max=self.config.picture_bytes_max,
                    timeouts=download_timeouts(left_s),
                    headers=headers,
                )
            except Forbidden as error:
                raise BadPicture("bad_picture", f"the picture's address may not be used: {error.reason}") from error
            except Unusable as error:
                raise BadPicture("bad_picture", f"the picture cannot be used: {error}") from error
            except (Unsent, Lost) as error:
                problem = str(error)
                continue
            if answer.status == 200:
                return answer.body
            problem = f"its server answered {answer.status}"
            if answer.status < 500:
                break
        raise BadPicture("bad_picture", f"the picture could not be downloaded: {problem}")

    def scrub(self, text: str) -> str:
        """Return a text without the provider's key."""
        return self._credential.scrub(text)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
        await self._elsewhere.close()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        timeouts: Timeouts,
        n_bytes_max: int,
        headers: dict[str, str],
        body: bytes | None,
    ) -> Answer:
        all_headers = {**self.config.headers, **headers, **self._credential.headers()}
        try:
            return await self._http.send(
                method,
                f"{self._base}/{path}",
                timeouts=timeouts,
                n_bytes_max=n_bytes_max,
                headers=all_headers,
                body=body,
            )
        except Forbidden as error:
            raise Rejected("not_connected", f"the provider's address may not be used: {error.reason}") from error
        except Unsent as error:
            raise NotDelivered("not_connected", str(error)) from error
        except Unusable as error:
            raise BadPicture("bad_picture", str(error)) from error
        except Lost as error:
            cause = "timeout" if error.is_timeout else "connection_lost"
            raise _Broken(cause, error) from error

    def _absolute(self, address: str) -> str:
        if "://" in address[:16]:
            return address
        if "\\" in address or not address.startswith("/") or address.startswith("//"):
            raise BadPicture("bad_picture", "the picture's address cannot be read")
        return f"{self._origin}{address}"

    def _is_own(self, url: str) -> bool:
        try:
            return URL(url).origin() == self._origin
        except ValueError:
            return False

    def _http_for(self, url: str) -> GuardedHttp:
        return self._http if self._is_own(url) else self._elsewhere


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id by which the provider's support finds the call."""
    for name in _REQUEST_ID_HEADERS:
        value = headers.get(name, "").strip()
        if value and value.isascii() and value.isprintable():
            return value[:_REQUEST_ID_CHARS_MAX]
    return None


def _form(call: Call) -> tuple[bytes, str]:
    """Return a multipart body and its type."""
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for name, value in call.fields.items():
        head = (
            f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f'Content-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
        )
        parts += [head.encode(), _form_text(value).encode(), b"\r\n"]
    for name, reference in call.files:
        kind = reference.reference.media_type
        file_name = f"{name.rstrip('[]')}.{kind.split('/')[-1]}"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(file_name)}"'
            f"\r\nContent-Type: {kind}\r\n\r\n"
        )
        parts += [head.encode(), reference.data, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def _quoted(text: str) -> str:
    """Return a name as it may stand between quotes; as browsers write it."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _form_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
