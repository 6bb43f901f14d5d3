"""Downloads of references: data: URLs, limits of bytes and time, and what is told to the person who named them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
import tracemalloc

import pytest
from tests.svc_imagegen.providers.fault_provider import PNG
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request
from tests.svc_imagegen.providers.kit import StubResolve

from svc_imagegen.adapters.downloads import GuardedDownloads
from svc_imagegen.adapters.guard import AddressPolicy
from svc_imagegen.domain.outcome import NotDelivered, Rejected

_B64 = base64.b64encode(PNG).decode()


def _downloads(names: dict[str, list[list[str]]] | None = None) -> GuardedDownloads:
    return GuardedDownloads(policy=AddressPolicy(ports=None, allow_private=True), resolve=StubResolve(names))


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{_B64}",
        f"DATA:image/png;name=a.png;BASE64,{_B64}",
        f"data:;base64,{_B64.replace('+', '%2B').replace('=', '%3D')}",
        "data:image/png," + "".join(f"%{it:02x}" for it in PNG),
    ],
)
async def test_a_data_url_is_decoded_in_every_form(url: str) -> None:
    assert await _downloads().fetch(url, n_bytes_max=1_000, timeout_s=1) == PNG


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:image/png",
        "data:image/png;base64,%%%",
        "data:image/png;base64,iVBO*",
        "data:image/png;base64,é",
        f"data:{'x' * 300};base64,{_B64}",
        "data:image/png;base64," + base64.b64encode(b"x" * 1_001).decode(),
        "data:," + "a" * 1_001,
        "data:," + "a" * 1_000_000,
    ],
)
async def test_a_data_url_that_is_malformed_or_too_long_is_rejected(url: str) -> None:
    with pytest.raises(Rejected) as refused:
        await _downloads().fetch(url, n_bytes_max=1_000, timeout_s=1)

    assert refused.value.cause == "invalid_image_url"


async def _fetch(
    handler_body: bytes | None, *, status: int = 200, n_bytes_max: int = 1_000, **headers: object
) -> bytes:
    async def handler(_request: Request, reply: Reply) -> None:
        if handler_body is None:
            await reply.until_gone()
        else:
            await reply.send(status, handler_body, **headers)

    async with FaultServer(handler) as server:
        downloads = _downloads()
        try:
            return await downloads.fetch(f"{server.origin}/a.png#part", n_bytes_max=n_bytes_max, timeout_s=0.5)
        finally:
            await downloads.close()
            assert all(it.target == "/a.png" and "authorization" not in it.headers for it in server.requests)


async def test_a_download_returns_the_bytes_as_they_are() -> None:
    assert await _fetch(PNG) == PNG


async def test_a_download_is_unpacked_within_its_bound() -> None:
    assert await _fetch(gzip.compress(PNG), Content_Encoding="gzip") == PNG
    with pytest.raises(Rejected):
        await _fetch(gzip.compress(b"a" * 100_000_000), Content_Encoding="gzip")


async def test_a_bomb_is_not_unpacked_further_than_its_bound() -> None:
    packed = gzip.compress(b"a" * 200_000_000)  # 194 KB: less than one read
    tracemalloc.start()

    with pytest.raises(Rejected):
        await _fetch(packed, Content_Encoding="gzip")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


async def test_a_download_that_is_too_large_is_rejected_at_its_length_or_on_the_way() -> None:
    with pytest.raises(Rejected):
        await _fetch(b"a" * 1_001)
    with pytest.raises(Rejected):
        await _fetch(b"a" * 200_000, n_bytes_max=100_000, Content_Length=200_000)


@pytest.mark.parametrize("status", [204, 400, 403, 404, 500, 503])
async def test_a_server_that_says_no_is_told_by_its_status(status: int) -> None:
    with pytest.raises(NotDelivered) as failed:
        await _fetch(b"", status=status)

    assert (failed.value.cause, failed.value.detail) == ("failed_to_download_image", f"the server answered {status}")


async def test_a_server_that_hangs_is_given_up_in_time() -> None:
    began_s = time.monotonic()

    with pytest.raises(NotDelivered):
        await _fetch(None)

    assert time.monotonic() - began_s < 1.5


async def test_a_name_server_that_hangs_is_given_up_in_time() -> None:
    async def hangs(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return [host, str(port)]

    downloads = GuardedDownloads(policy=AddressPolicy(), resolve=hangs)

    with pytest.raises(NotDelivered):
        await downloads.fetch("http://slow.test/a.png", n_bytes_max=1_000, timeout_s=0.2)

    await downloads.close()


async def test_redirects_that_each_hang_a_little_share_one_time_limit() -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await asyncio.sleep(0.2)
        await reply.head(302, Location=f"{request.target}x", Content_Length=0)

    async with FaultServer(handler) as server:
        downloads = _downloads()
        with pytest.raises(NotDelivered):
            await downloads.fetch(f"{server.origin}/a", n_bytes_max=1_000, timeout_s=0.5)
        await downloads.close()

    assert len(server.requests) == 3


async def test_an_unknown_name_is_not_delivered_and_an_address_of_both_kinds_is_tried_in_turn() -> None:
    async def handler(_request: Request, reply: Reply) -> None:
        await reply.send(200, PNG)

    async with FaultServer(handler) as server:
        # Nobody listens at the first address.
        downloads = _downloads({"two.test": [["127.0.0.9", "127.0.0.1"]]})
        with pytest.raises(NotDelivered):
            await downloads.fetch("http://missing.test/a.png", n_bytes_max=1_000, timeout_s=0.5)
        assert await downloads.fetch(f"http://two.test:{server.port}/a.png", n_bytes_max=1_000, timeout_s=1) == PNG
        await downloads.close()
