"""Fetching pictures that somebody else named: data: URLs, and http(s) through the guard, each redirect checked anew."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from yarl import URL

from svc_imagegen.adapters.guard import URL_CHARS_MAX, AddressPolicy, Forbidden, Resolve
from svc_imagegen.adapters.http import Answer, GuardedHttp, Lost, Timeouts, Unsent, Unusable
from svc_imagegen.domain.outcome import NotDelivered, Rejected

N_REDIRECTS_MAX: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CONNECT_S: Final = 5.0
_GAP_S: Final = 10.0
# Base64 and percent signs make a data: URL at most this much longer than its bytes.
_DATA_URL_FACTOR: Final = 3
_MEDIA_TYPE_CHARS_MAX: Final = 256


class GuardedDownloads:
    """The Downloads port. One policy for whatever a client or an unknown server names."""

    def __init__(self, *, policy: AddressPolicy, resolve: Resolve, tls: ssl.SSLContext | None = None) -> None:
        self._http = GuardedHttp(policy, resolve, tls=tls)

    async def fetch(self, url: str, *, n_bytes_max: int, timeout_s: float) -> bytes:
        """
        Return the body; data: URLs too.

        Raises:
            Rejected: invalid_image_url for a bad or forbidden address, a redirect to one, or a body that is too large.
            NotDelivered: failed_to_download_image if the server cannot be reached, is too slow or says no.
        """
        if url[:5].lower() == "data:":
            return decode_data_url(url, n_bytes_max=n_bytes_max)
        try:
            answer = await follow(
                lambda _: self._http, url, n_bytes_max=n_bytes_max, timeouts=download_timeouts(timeout_s)
            )
        except Forbidden as error:
            raise Rejected("invalid_image_url", error.reason) from error
        except Unusable as error:
            raise Rejected("invalid_image_url", str(error)) from error
        except (Unsent, Lost) as error:
            raise NotDelivered("failed_to_download_image", str(error)) from error
        if answer.status != 200:
            raise NotDelivered("failed_to_download_image", f"the server answered {answer.status}")
        return answer.body

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def download_timeouts(total_s: float) -> Timeouts:
    """Return the timeouts of one download that may take so long in all, redirects included."""
    return Timeouts(
        connect_s=min(_CONNECT_S, total_s), first_byte_s=total_s, gap_s=min(_GAP_S, total_s), total_s=total_s
    )


async def follow(
    http_for: Callable[[str], GuardedHttp],
    url: str,
    *,
    n_bytes_max: int,
    timeouts: Timeouts,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """
    GET a URL and follow at most 3 redirects; the headers, which may hold a key, go to the first address only.

    Raises:
        Forbidden: for an address, also that of a redirect, that is not allowed, or for too many redirects.
        Unsent, Lost, Unusable: as GuardedHttp.send; in all not longer than timeouts.total_s.
    """
    try:
        async with asyncio.timeout(timeouts.total_s):
            for _ in range(N_REDIRECTS_MAX + 1):
                http = http_for(url)
                answer = await http.send("GET", url, timeouts=timeouts, n_bytes_max=n_bytes_max, headers=headers)
                if answer.status not in _REDIRECTS:
                    return answer
                url, headers = _redirected(answer), None
    except TimeoutError as error:
        raise Lost("no answer in time", is_timeout=True) from error
    raise Forbidden(f"expected at most {N_REDIRECTS_MAX} redirects, received more")


def decode_data_url(url: str, *, n_bytes_max: int) -> bytes:
    """
    Return the bytes of a data: URL.

    Raises:
        Rejected: invalid_image_url if it is malformed or longer than allowed.
    """
    if len(url) > n_bytes_max * _DATA_URL_FACTOR + _MEDIA_TYPE_CHARS_MAX:
        raise Rejected("invalid_image_url", f"expected a data: URL of at most {n_bytes_max} bytes")
    head, comma, text = url[5:].partition(",")
    if not comma or len(head) > _MEDIA_TYPE_CHARS_MAX:
        raise Rejected("invalid_image_url", "expected a data: URL such as data:image/png;base64,...")
    try:
        if head.lower().rstrip().endswith(";base64"):
            data = base64.b64decode(unquote_to_bytes(text), validate=True)
        else:
            data = unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise Rejected("invalid_image_url", "the data: URL is no valid base64") from error
    if len(data) > n_bytes_max:
        raise Rejected("invalid_image_url", f"expected at most {n_bytes_max} bytes, received {len(data)}")
    return data


def _redirected(answer: Answer) -> str:
    location = answer.headers.get("Location", "")
    if not 0 < len(location) <= URL_CHARS_MAX or "\\" in location:
        raise Forbidden("the server redirects without a usable address")
    try:
        target = answer.url.join(URL(location))
    except ValueError as error:
        raise Forbidden("the server redirects without a usable address") from error
    if answer.url.scheme == "https" and target.scheme == "http":
        raise Forbidden("the server redirects from https to http")
    # Text again, so that the guard reads it as it would any other.
    return str(target)
