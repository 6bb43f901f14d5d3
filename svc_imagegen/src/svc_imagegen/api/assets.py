"""Pictures by id: their record, and their bytes with ranges. Ids only: nothing in a URL is ever a path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from qraft_runtime.clock import Clock
from svc_imagegen.api.errors import refusal_answer
from svc_imagegen.api.http import Answer, Call, ClientGone, Stream
from svc_imagegen.api.job_views import asset_view
from svc_imagegen.api.pictures import AssetBytes
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.ports import Asset, AssetStore

_ID: Final = re.compile(r"[0-9a-zA-Z_-]{1,80}")
_RANGE: Final = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})")
_CHUNK_BYTES: Final = 256 * 1024
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
_SAFE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"accept-ranges", b"bytes"),
    (b"cache-control", b"private, max-age=0, must-revalidate"),
)


@dataclass(frozen=True, slots=True)
class AssetCalls:
    """The handlers."""

    assets: AssetStore
    artefacts: AssetBytes
    clock: Clock

    async def show(self, call: Call) -> Answer:
        """`GET /api/assets/{id}`."""
        view = asset_view(await self._owned(call))
        return Answer(200, msgspec.json.encode(view), ((b"cache-control", b"no-store"),))

    async def content(self, call: Call) -> Answer | None:
        """`GET /api/assets/{id}/content`."""
        asset = await self._owned(call)
        etag = f'"{asset.sha256}"'.encode()
        common = (*_SAFE, (b"etag", etag), (b"content-disposition", _disposition(asset)))
        if etag in call.headers.get(b"if-none-match", b"").replace(b"W/", b"").replace(b" ", b"").split(b","):
            return Answer(304, b"", common)
        asked = call.headers.get(b"range", b"") if call.headers.get(b"if-range", etag) == etag else b""
        span = _span(asked, asset.n_bytes)
        if span is None:
            refusal = CallRefused(Kind.RANGE, "range_not_satisfiable", f"The picture has {asset.n_bytes} bytes.")
            answer = refusal_answer(refusal)
            size = (b"content-range", f"bytes */{asset.n_bytes}".encode())
            return replace(answer, headers=(*answer.headers, size))
        data = await self._bytes_of(asset)
        headers = [*common, (b"content-length", str(span.n_bytes).encode())]
        if span.is_part:
            headers.append((b"content-range", f"bytes {span.first}-{span.end - 1}/{asset.n_bytes}".encode()))
        chunks = self._chunks(call, asset, data[span.first : span.end])
        await call.stream(Stream(206 if span.is_part else 200, chunks, tuple(headers), asset.media_type.encode()))
        return None

    async def _owned(self, call: Call) -> Asset:
        asset_id = call.params["asset_id"]
        asset = await self.assets.get(asset_id) if _ID.fullmatch(asset_id) else None
        if asset is None or asset.account_id != call.key.account_id:
            raise CallRefused(Kind.MISSING, "asset_not_found", "There is no such picture.")
        return asset

    async def _bytes_of(self, asset: Asset) -> bytes:
        try:
            return await self.artefacts.get(asset.artefact_key, sha256=asset.sha256)
        except (KeyError, ValueError) as error:
            message = "The picture is recorded, but its bytes cannot be read; please tell the operator."
            raise CallRefused(Kind.INTERNAL, "asset_unreadable", message) from error

    async def _chunks(self, call: Call, asset: Asset, data: bytes) -> AsyncGenerator[bytes]:
        """Yield the bytes; however it ends, what was sent is counted."""
        n_sent = 0
        gone = asyncio.create_task(call.until_left())
        try:
            for start in range(0, len(data), _CHUNK_BYTES):
                # Asked before a chunk, not after it: who has all bytes may hang up at once and has downloaded them.
                if gone.done():
                    raise ClientGone
                chunk = data[start : start + _CHUNK_BYTES]
                yield chunk
                n_sent += len(chunk)
        finally:
            gone.cancel()
            is_complete = n_sent == asset.n_bytes
            now = self.clock.now()
            await self.assets.count_download(asset.asset_id, n_bytes=n_sent, is_complete=is_complete, at=now)


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    end: int
    is_part: bool

    @property
    def n_bytes(self) -> int:
        return self.end - self.first


def _span(asked: bytes, n_bytes: int) -> _Span | None:
    """Return the one range asked for; the whole for none, several or one that makes no sense; None: it lies outside."""
    whole = _Span(0, n_bytes, is_part=False)
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        n_last = int(found[2])
        return _Span(max(0, n_bytes - n_last), n_bytes, is_part=True) if n_last else None
    first = int(found[1])
    end = int(found[2]) + 1 if found[2] else n_bytes
    if found[2] and end <= first:
        return whole
    return _Span(first, min(end, n_bytes), is_part=True) if first < n_bytes else None


def _disposition(asset: Asset) -> bytes:
    extension = _EXTENSIONS.get(asset.media_type, "bin")
    mark = "-simulated" if asset.is_simulated else ""
    return f'attachment; filename="qraft-{asset.asset_id}{mark}.{extension}"'.encode()
