"""Turn a provider's answer into assets: verified one by one, stamped with where they come from, stored."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

from qraft_store.artefacts.port import ArtefactStore
from svc_imagegen.domain.asset import Asset, Attempt
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.outcome import BadPicture, ProviderAnswer, RawPicture
from svc_imagegen.domain.provenance import Provenance, stamp
from svc_imagegen.ports import Pictures, VerifiedPicture

_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


_INLINE_BYTES_MAX: Final = 1 << 18  # stamped and hashed in 0.3 ms; a thread costs half of that
# Models work in steps of 16 pixels and round what was asked for to them.
_SIZE_STEP: Final = 16


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of an answer. faults: why pictures were turned down. n_surplus: pictures that nobody asked for."""

    assets: tuple[Asset, ...]
    faults: tuple[BadPicture, ...]
    n_surplus: int


class KeepPictures:
    """The use case. Doing it again for the same attempt and answer stores the same bytes under the same keys."""

    def __init__(self, *, pictures: Pictures, artefacts: ArtefactStore) -> None:
        self._pictures = pictures
        self._artefacts = artefacts

    async def __call__(self, job: Job, attempt: Attempt, answer: ProviderAnswer) -> Kept:
        """
        Return the assets of the first n good pictures.

        Raises:
            Transient: the artefact store or the verifying process is away.
        """
        assets: list[Asset] = []
        faults: list[BadPicture] = []
        n_looked_at = 0
        for raw in answer.pictures[: 2 * job.request.n]:  # a flood of surplus pictures is not even decoded
            if len(assets) == job.request.n:
                break
            n_looked_at += 1
            try:
                picture = await self._pictures.verify(raw.data)
                _check_size(picture, job.request.size)
            except BadPicture as fault:
                faults.append(fault)
                continue
            assets.append(await self._store(job, attempt, raw, picture, index=len(assets)))
        return Kept(tuple(assets), tuple(faults), n_surplus=len(answer.pictures) - n_looked_at)

    async def _store(
        self, job: Job, attempt: Attempt, raw: RawPicture, picture: VerifiedPicture, *, index: int
    ) -> Asset:
        made_at = attempt.submitted_at or attempt.lease_until
        provenance = Provenance(
            provider=job.provider,
            model=job.request.model,
            job_id=job.job_id,
            created_at=made_at,
            is_simulated=job.is_simulated,
        )
        if len(picture.data) <= _INLINE_BYTES_MAX:
            data, sha256 = _stamped(picture, provenance)
        else:
            data, sha256 = await asyncio.to_thread(_stamped, picture, provenance)
        extension = _EXTENSIONS[picture.media_type]
        # A folder a day: one a job cost the file system a tenth of the worker's time.
        key = f"images/{job.account_id}/{job.created_at:%Y-%m-%d}/{job.job_id}-{index}-{sha256}.{extension}"
        await self._artefacts.put(key, data)
        return Asset(
            asset_id=f"{job.job_id}-{index}",
            job_id=job.job_id,
            account_id=job.account_id,
            index=index,
            artefact_key=key,
            sha256=sha256,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
            n_bytes=len(data),
            is_simulated=job.is_simulated,
            provider=job.provider,
            model=job.request.model,
            created_at=made_at,
            revised_prompt=raw.revised_prompt,
        )


def _check_size(picture: VerifiedPicture, asked: str) -> None:
    """Raise BadPicture for a picture of another size than the one that was asked for and priced."""
    if asked == "auto":
        return
    width, height = map(int, asked.split("x"))
    if abs(picture.width - width) >= _SIZE_STEP or abs(picture.height - height) >= _SIZE_STEP:
        raise BadPicture("wrong_size", f"expected {asked}, received {picture.width}x{picture.height}")


def _stamped(picture: VerifiedPicture, provenance: Provenance) -> tuple[bytes, str]:
    data = stamp(picture.data, picture.media_type, provenance)
    return data, hashlib.sha256(data).hexdigest()
