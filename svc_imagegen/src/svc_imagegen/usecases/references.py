"""Reference pictures of a call: fetched where they are URLs, re-encoded without metadata, stored by their content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.outcome import BadPicture, NotDelivered, Rejected
from svc_imagegen.domain.request import Reference
from svc_imagegen.ports import Downloads, Pictures, VerifiedPicture

_FETCH_TIMEOUT_S: Final = 20.0  # one URL


class ReferenceArtefacts(Protocol):
    """Where references lie until the worker needs them; the artefact store has this."""

    async def put(self, key: str, data: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """
    One picture of a call: bytes or an address, never both. param: the client's name for it, such as `image[0]`.

    sha256: of the bytes as sent, or of the address; role: image or mask.
    """

    param: str
    role: str
    sha256: str
    data: bytes = b""
    url: str | None = None


class ReferenceIntake:
    """Takes the uploads of one call, in order."""

    def __init__(
        self,
        *,
        pictures: Pictures,
        downloads: Downloads,
        artefacts: ReferenceArtefacts,
        n_max: int,
        n_bytes_max: int,
        n_bytes_total_max: int,
    ) -> None:
        self._pictures = pictures
        self._downloads = downloads
        self._artefacts = artefacts
        self._n_max = n_max
        self._n_bytes_max = n_bytes_max
        self._n_bytes_total_max = n_bytes_total_max

    async def take(self, uploads: Sequence[Upload]) -> tuple[Reference, ...]:
        """
        Return the stored references.

        Raises:
            CallRefused: naming the picture at fault.
            Transient: if the artefact store is away.
        """
        self.check_count(uploads)
        left = self._n_bytes_total_max
        taken: list[Reference] = []
        for upload in uploads:
            data = await self._bytes_of(upload, left=left)
            left -= len(data)
            taken.append(await self._store(upload, await self._sanitize(upload, data)))
        _check_mask(taken)
        return tuple(taken)

    def check_count(self, uploads: Sequence[Upload]) -> None:
        """
        Check how many pictures there are.

        Raises:
            CallRefused: for more than may be sent along.
        """
        if (n := sum(it.role == "image" for it in uploads)) > self._n_max:
            message = f"Expected at most {self._n_max} pictures, received {n}."
            raise CallRefused(Kind.INVALID, "too_many_images", message, param="image")

    async def _bytes_of(self, upload: Upload, *, left: int) -> bytes:
        n_max = min(self._n_bytes_max, left)
        data = upload.data if upload.url is None else await self._fetch(upload, upload.url, n_bytes_max=n_max)
        if not data:
            raise CallRefused(Kind.INVALID, "empty_image_file", f"{upload.param} is empty.", param=upload.param)
        if len(data) > n_max:
            message = f"Expected {upload.param} to have at most {n_max} bytes, received {len(data)}."
            raise CallRefused(Kind.INVALID, "image_file_too_large", message, param=upload.param)
        return data

    async def _fetch(self, upload: Upload, url: str, *, n_bytes_max: int) -> bytes:
        if n_bytes_max <= 0:
            message = f"The pictures together exceed {self._n_bytes_total_max} bytes."
            raise CallRefused(Kind.INVALID, "image_file_too_large", message, param=upload.param)
        try:
            return await self._downloads.fetch(url, n_bytes_max=n_bytes_max, timeout_s=_FETCH_TIMEOUT_S)
        except Rejected as error:
            message = f"{upload.param} could not be used: {error.detail or error.cause}."
            raise CallRefused(Kind.INVALID, "invalid_image_url", message, param=upload.param) from error
        except NotDelivered as error:
            message = f"{upload.param} could not be downloaded: {error.detail or error.cause}."
            raise CallRefused(Kind.INVALID, "failed_to_download_image", message, param=upload.param) from error

    async def _sanitize(self, upload: Upload, data: bytes) -> VerifiedPicture:
        try:
            return await self._pictures.sanitize(data, role=upload.role)
        except BadPicture as error:
            code = _CODES.get(error.cause, "invalid_image")
            message = f"{upload.param} is not a picture that can be used: {error.detail or error.cause}."
            raise CallRefused(Kind.INVALID, code, message, param=upload.param) from error

    async def _store(self, upload: Upload, picture: VerifiedPicture) -> Reference:
        key = f"references/{picture.sha256[:2]}/{picture.sha256}"
        await self._artefacts.put(key, picture.data)
        return Reference(
            artefact_key=key,
            sha256=picture.sha256,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
            n_bytes=len(picture.data),
            role=upload.role,
        )


# Causes of BadPicture in OpenAI's words.
_CODES: Final = {
    "empty": "empty_image_file",
    "too_many_pixels": "image_too_large",
    "too_large": "image_file_too_large",
    "unsupported_type": "unsupported_image_media_type",
    "truncated": "image_parse_error",
}


def _check_mask(references: Sequence[Reference]) -> None:
    mask = next((it for it in references if it.role == "mask"), None)
    first = next((it for it in references if it.role == "image"), None)
    if mask is None or first is None:
        return
    if (mask.width, mask.height) != (first.width, first.height):
        message = (
            f"Expected the mask to be as large as the first picture, {first.width}x{first.height}, "
            f"received {mask.width}x{mask.height}."
        )
        raise CallRefused(Kind.INVALID, "invalid_image", message, param="mask")
