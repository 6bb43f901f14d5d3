"""From an HTTP call to the checked call that is accepted: JSON or form, pictures as files or addresses."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from qraft_contracts.billing import MICROCREDITS_PER_CREDIT
from svc_imagegen.api.fields import Extras, decode_object, invalid, take_fields
from svc_imagegen.api.http import Call
from svc_imagegen.api.multipart import FormFile, read_form
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.validate import (
    EditByAddress,
    EditFields,
    FieldInvalid,
    GenerationFields,
    JobFields,
    PictureAddress,
    PictureFields,
    VariationFields,
    check,
    check_size,
    to_request,
)
from svc_imagegen.usecases.accept import NewCall
from svc_imagegen.usecases.references import Upload

PicturesT = TypeVar("PicturesT", bound=PictureFields)

_JSON_BYTES_MAX: Final = 1 << 20  # of a call without pictures
_INLINE_HASH_BYTES_MAX: Final = 1 << 20
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_IMAGE_FIELD: Final = re.compile(r"image(\[[0-9]{0,2}\])?")
_RETRY_COUNT: Final = re.compile(r"[0-9]{1,4}")


class Intake:
    """Reads the body of each kind of call."""

    def __init__(self, terms: GatewayTerms) -> None:
        self._terms = terms

    async def generation(self, call: Call) -> tuple[GenerationFields, NewCall]:
        """Read `/v1/images/generations`."""
        raw = await decode_object(await call.body(n_bytes_max=_JSON_BYTES_MAX))
        fields, extras = take_fields(GenerationFields, raw)
        return fields, self._new_call(call, fields, Operation.GENERATION, extras, ())

    async def edit(self, call: Call) -> tuple[EditFields, NewCall]:
        """Read `/v1/images/edits`, a form or JSON."""
        if _is_form(call):
            fields, extras, uploads = await self._form(call, EditFields)
            if not any(it.role == "image" for it in uploads):
                raise _missing("image", "Expected at least one picture as `image` or `image[]`.")
            return fields, self._new_call(call, fields, Operation.EDIT, extras, uploads)
        raw = await decode_object(await call.body(n_bytes_max=self._terms.body_bytes_max))
        given, extras = take_fields(EditByAddress, raw)
        uploads = await _addresses(given.images, given.mask)
        return given, self._new_call(call, given, Operation.EDIT, extras, uploads)

    async def variation(self, call: Call) -> tuple[VariationFields, NewCall]:
        """Read `/v1/images/variations`, a form."""
        if not _is_form(call):
            raise CallRefused(Kind.INVALID, "invalid_content_type", "Expected multipart/form-data with an image.")
        raw, files = await self._read(call)
        fields, extras = take_fields(VariationFields, raw, is_form=True)
        uploads = await _files(files)
        if [it.role for it in uploads] != ["image"]:
            raise _missing("image", "Expected exactly one picture as `image`.")
        _ruled(lambda: check_size(fields.size, pixels_max=self._terms.pixels_max))
        request = ImageRequest(
            operation=Operation.VARIATION,
            model=fields.model or "",
            prompt="",
            n=fields.n or 1,
            size=fields.size or "auto",
            end_user=fields.user or "",
            extras=extras,
        )
        return fields, self._as_sent(call, request, uploads)

    async def job(self, call: Call) -> NewCall:
        """Read `/api/jobs`, JSON or a form."""
        if _is_form(call):
            fields, extras, uploads = await self._form(call, JobFields)
        else:
            raw = await decode_object(await call.body(n_bytes_max=self._terms.body_bytes_max))
            fields, extras = take_fields(JobFields, raw)
            uploads = await _addresses(fields.images or (), fields.mask)
        n_pictures = sum(it.role == "image" for it in uploads)
        if uploads and not n_pictures:
            raise CallRefused(Kind.INVALID, "invalid_value", "A mask needs a picture to lie on.", param="mask")
        operation = Operation.EDIT if uploads else Operation.GENERATION
        expected = None if fields.expected_credits is None else _microcredits(fields.expected_credits)
        return self._new_call(
            call, fields, operation, extras, uploads, expected=expected, price_version=fields.price_version
        )

    async def _form(self, call: Call, kind: type[PicturesT]) -> tuple[PicturesT, Extras, tuple[Upload, ...]]:
        raw, files = await self._read(call)
        fields, extras = take_fields(kind, raw, is_form=True)
        return fields, extras, await _files(files)

    async def _read(self, call: Call) -> tuple[dict[str, str], list[FormFile]]:
        chunks = call.chunks(n_bytes_max=self._terms.body_bytes_max)
        form = await read_form(
            chunks, content_type=call.header(b"content-type"), file_bytes_max=self._terms.reference_bytes_max
        )
        return form.fields, form.files

    def _new_call(
        self, call: Call, fields: PictureFields, operation: Operation, extras: Extras, uploads: tuple[Upload, ...],
        *, expected: int | None = None, price_version: int | None = None,
    ) -> NewCall:  # fmt: skip
        _ruled(lambda: check(fields, pixels_max=self._terms.pixels_max))
        request = to_request(fields, operation=operation, extras=extras)
        return self._as_sent(call, request, uploads, expected=expected, price_version=price_version)

    def _as_sent(
        self, call: Call, request: ImageRequest, uploads: tuple[Upload, ...],
        *, expected: int | None = None, price_version: int | None = None,
    ) -> NewCall:  # fmt: skip
        return NewCall(
            key=call.key,
            request=request,
            received_at=call.received_at,
            uploads=uploads,
            idempotency_key=_idempotency_key(call),
            retry_count=_retry_count(call),
            expected_microcredits=expected,
            price_version=price_version,
        )


def _is_form(call: Call) -> bool:
    return call.header(b"content-type").lower().startswith("multipart/form-data")


def _idempotency_key(call: Call) -> str | None:
    raw = call.headers.get(b"idempotency-key")
    if raw is None:
        return None
    text = raw.decode("latin-1")
    if not _IDEMPOTENCY_KEY.fullmatch(text):
        message = "Expected an Idempotency-Key of 1 to 255 printable ASCII characters."
        raise CallRefused(Kind.INVALID, "idempotency_key_invalid", message)
    return text


def _retry_count(call: Call) -> int:
    # Only the stock client's own header; anything else in it is no retry.
    text = call.header(b"x-stainless-retry-count")
    return int(text) if _RETRY_COUNT.fullmatch(text) else 0


async def _files(files: Sequence[FormFile]) -> tuple[Upload, ...]:
    uploads: list[Upload] = []
    n_images = 0
    for file in files:
        if file.name == "mask":
            if any(it.role == "mask" for it in uploads):
                raise CallRefused(Kind.INVALID, "duplicate_parameter", "mask was sent twice.", param="mask")
            uploads.append(Upload("mask", "mask", await _sha256(file.data), file.data))
        elif _IMAGE_FIELD.fullmatch(file.name):
            uploads.append(Upload(f"image[{n_images}]", "image", await _sha256(file.data), file.data))
            n_images += 1
        else:
            message = f"Unknown parameter: {file.name!r}; pictures are `image`, `image[]` or `mask`."
            raise CallRefused(Kind.INVALID, "unknown_parameter", message, param=file.name)
    return tuple(uploads)


async def _addresses(images: Sequence[PictureAddress], mask: PictureAddress | None) -> tuple[Upload, ...]:
    named = [(f"images[{i}]", "image", it) for i, it in enumerate(images)]
    if mask is not None:
        named.append(("mask", "mask", mask))
    uploads: list[Upload] = []
    for param, role, address in named:
        if address.file_id is not None:
            message = "There are no uploaded files here; send the picture as image_url, http(s) or data URL."
            raise CallRefused(Kind.INVALID, "file_id_unsupported", message, param=f"{param}.file_id")
        if address.image_url is None:
            raise _missing(f"{param}.image_url", "Expected an image_url.")
        sha256 = await _sha256(address.image_url.encode())
        uploads.append(Upload(f"{param}.image_url", role, sha256, url=address.image_url))
    return tuple(uploads)


async def _sha256(data: bytes) -> str:
    if len(data) > _INLINE_HASH_BYTES_MAX:
        return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    return hashlib.sha256(data).hexdigest()


def _microcredits(text: str) -> int:
    whole, _, rest = text.partition(".")
    return int(whole) * MICROCREDITS_PER_CREDIT + int(rest.ljust(6, "0") if rest else 0)


def _ruled(rule: Callable[[], None]) -> None:
    try:
        rule()
    except FieldInvalid as error:
        raise invalid(error) from error


def _missing(param: str, message: str) -> CallRefused:
    return CallRefused(Kind.INVALID, "missing_required_parameter", message, param=param)
