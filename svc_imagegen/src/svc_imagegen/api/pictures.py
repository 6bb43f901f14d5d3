"""A finished job in OpenAI's words. Made of stored things only, so that a repeated call gets the same bytes again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from svc_imagegen.api.http import Answer
from svc_imagegen.domain.failures import CallRefused, Kind, credits_text
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.request import Operation
from svc_imagegen.ports import Asset, AssetStore

_INLINE_BYTES_MAX: Final = 1 << 20


class AssetBytes(Protocol):
    """Where the bytes of pictures lie; the artefact store has this."""

    async def get(self, key: str, *, sha256: str | None = None) -> bytes: ...


class ImageData(msgspec.Struct, frozen=True, omit_defaults=True):
    """One picture: base64 or URL."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class TokenDetails(msgspec.Struct, frozen=True):
    """Always zero: nothing here is priced by tokens."""

    text_tokens: int = 0
    image_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Required by OpenAI's interface. Always zero: what a call cost stands in `qraft.charged_credits`."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()


class Extension(msgspec.Struct, frozen=True):
    """What we say beyond OpenAI's interface, always under the name `qraft`. charged_credits: a decimal number."""

    job_id: str
    charged_credits: str
    is_simulated: bool
    provider: str
    asset_ids: tuple[str, ...]


class ImagesResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of the three image calls. size: of the picture that came, whatever was asked for."""

    created: int
    data: tuple[ImageData, ...]
    qraft: Extension
    usage: Usage | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    background: str | None = None


class CompletedEvent(msgspec.Struct, frozen=True):
    """One picture of a stream. type: image_generation.completed or image_edit.completed."""

    type: str
    b64_json: str
    created_at: int
    size: str
    quality: str
    background: str
    output_format: str
    usage: Usage
    qraft: Extension


@dataclass(frozen=True, slots=True)
class Rendering:
    """Turns jobs into answers."""

    assets: AssetStore
    artefacts: AssetBytes

    async def response(self, job: Job, *, base_url: str | None) -> Answer:
        """Return the 200 of a job that succeeded; base_url: None = base64, else the pictures' URLs begin with it."""
        assets = await self._assets_of(job)
        if base_url is None:
            texts = [await self._base64_of(it) for it in assets]
            data = tuple(
                ImageData(b64_json=text, revised_prompt=it.revised_prompt)
                for it, text in zip(assets, texts, strict=True)
            )
        else:
            data = tuple(
                ImageData(url=f"{base_url}{content_path(it.asset_id)}", revised_prompt=it.revised_prompt)
                for it in assets
            )
        shown = ImagesResponse(
            created=_created(job),
            data=data,
            qraft=_extension(job, assets),
            usage=Usage(),
            size=f"{assets[0].width}x{assets[0].height}",
            quality=None if job.request.quality == "auto" else job.request.quality,
            output_format=_format_of(assets[0]),
            background=None if job.request.background == "auto" else job.request.background,
        )
        return Answer(200, msgspec.json.encode(shown))

    async def events(self, job: Job) -> list[bytes]:
        """Return one server-sent event a picture."""
        assets = await self._assets_of(job)
        name = "image_generation.completed" if job.request.operation is Operation.GENERATION else "image_edit.completed"
        events: list[bytes] = []
        for asset in assets:
            event = CompletedEvent(
                type=name,
                b64_json=await self._base64_of(asset),
                created_at=_created(job),
                size=f"{asset.width}x{asset.height}",
                quality=job.request.quality,
                background=job.request.background,
                output_format=_format_of(asset),
                usage=Usage(),
                qraft=_extension(job, assets),
            )
            events.append(b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(event)))
        return events

    async def _assets_of(self, job: Job) -> Sequence[Asset]:
        assets = await self.assets.of_job(job.job_id)
        if not assets:
            raise _unreadable(job.job_id)
        return assets

    async def _base64_of(self, asset: Asset) -> str:
        try:
            data = await self.artefacts.get(asset.artefact_key, sha256=asset.sha256)
        except (KeyError, ValueError) as error:
            raise _unreadable(asset.job_id) from error
        if len(data) > _INLINE_BYTES_MAX:
            return (await asyncio.to_thread(base64.b64encode, data)).decode()
        return base64.b64encode(data).decode()


def content_path(asset_id: str) -> str:
    """Return the path of an asset's bytes."""
    return f"/api/assets/{asset_id}/content"


def job_headers(job: Job) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that every answer about a job has."""
    headers = [(b"x-qraft-job-id", job.job_id.encode())]
    if job.is_simulated:
        headers.append((b"x-qraft-simulated", b"true"))
    return tuple(headers)


def _extension(job: Job, assets: Sequence[Asset]) -> Extension:
    return Extension(
        job_id=job.job_id,
        charged_credits=credits_text(job.charged_microcredits),
        is_simulated=job.is_simulated or any(it.is_simulated for it in assets),
        provider=job.provider,
        asset_ids=tuple(it.asset_id for it in assets),
    )


def _created(job: Job) -> int:
    return int((job.finished_at or job.created_at).timestamp())


def _format_of(asset: Asset) -> str:
    return asset.media_type.removeprefix("image/")


def _unreadable(job_id: str) -> CallRefused:
    message = f"The pictures of job {job_id} are recorded, but their bytes cannot be read; please tell the operator."
    return CallRefused(Kind.INTERNAL, "asset_unreadable", message)
