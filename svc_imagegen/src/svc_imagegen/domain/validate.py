"""
The fields of an image call and their rules, one table for all paths: JSON, forms, the job API, the OpenAPI document.

The types say what one field may be; `check` says what fields may not be together. What a certain provider supports is
no rule of this file: that is a capability.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec

from svc_imagegen.domain.request import ImageRequest, Operation

N_PICTURES_MAX: Final = 10  # OpenAI's own limit
PROMPT_CHARS_MAX: Final = 32_000  # OpenAI's limit of its image models
N_EXTRAS_MAX: Final = 16
EXTRA_CHARS_MAX: Final = 2_000
SIDE_PX_MAX: Final = 16_384
_EXTRA_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
# OpenAI's own image models always answer base64 and refuse the parameter; other names may be given a URL.
_BASE64_ONLY: Final = ("gpt-image", "chatgpt-image")

Prompt = Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_CHARS_MAX)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=1, le=N_PICTURES_MAX)]
Size = Annotated[str, msgspec.Meta(pattern=r"^(auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4})$")]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
ADDRESS_CHARS_MAX: Final = 20_971_520  # OpenAI's limit
EndUser = Annotated[str, msgspec.Meta(max_length=512)]


class PictureFields(msgspec.Struct, frozen=True, kw_only=True):
    """What every call with a prompt has. null means the default, as everywhere in OpenAI's interface."""

    prompt: Prompt
    model: ModelName | None = None
    n: Count | None = None
    size: Size | None = None
    quality: Quality | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    user: EndUser | None = None
    safety_identifier: EndUser | None = None


class GenerationFields(PictureFields, frozen=True, kw_only=True):
    """Fields of `/v1/images/generations`. Fewer partial pictures than asked for may come, here always none."""

    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=3)] | None = None


class EditFields(GenerationFields, frozen=True, kw_only=True):
    """Fields of `/v1/images/edits` as a form, files aside."""

    input_fidelity: Literal["high", "low"] | None = None


class PictureAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture by its http(s) or data URL. There are no uploaded files here: file_id is refused."""

    image_url: Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_CHARS_MAX)] | None = None
    file_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None


Addresses = Annotated[tuple[PictureAddress, ...], msgspec.Meta(min_length=1, max_length=64)]


class EditByAddress(EditFields, frozen=True, kw_only=True):
    """Fields of `/v1/images/edits` as JSON."""

    images: Addresses
    mask: PictureAddress | None = None


class JobFields(PictureFields, frozen=True, kw_only=True):
    """
    Fields of `/api/jobs`, files aside. With pictures the job is an edit, without them a generation.

    expected_credits and price_version: what was shown to the person, from `/api/estimate`; another price is refused.
    """

    input_fidelity: Literal["high", "low"] | None = None
    text_material: Annotated[str, msgspec.Meta(max_length=PROMPT_CHARS_MAX)] | None = None
    images: Addresses | None = None
    mask: PictureAddress | None = None
    expected_credits: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")] | None = None
    price_version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class EstimateFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of `/api/estimate`."""

    model: ModelName | None = None
    operation: Literal["generation", "edit", "variation"] = "generation"
    n: Count | None = None
    size: Size | None = None
    quality: Quality | None = None
    n_references: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class VariationFields(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of `/v1/images/variations`, the picture aside."""

    model: ModelName | None = None
    n: Count | None = None
    size: Size | None = None
    response_format: Literal["b64_json", "url"] | None = None
    user: EndUser | None = None


class FieldInvalid(Exception):
    """A field of a call is not what it may be. param: the field as the client named it; code as OpenAI names it."""

    def __init__(self, param: str | None, code: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.message = message


def check(fields: PictureFields, *, pixels_max: int) -> None:
    """
    Check the fields against each other.

    Raises:
        FieldInvalid: naming the field to change.
    """
    check_size(fields.size, pixels_max=pixels_max)
    output_format = fields.output_format or "png"
    if fields.background == "transparent" and output_format == "jpeg":
        raise FieldInvalid("background", "invalid_value", "A transparent background needs output_format png or webp.")
    if fields.output_compression not in (None, 100) and output_format == "png":
        raise FieldInvalid(
            "output_compression",
            "invalid_value",
            "output_compression needs output_format jpeg or webp; a png has none.",
        )
    if not fields.prompt.strip():
        raise FieldInvalid("prompt", "invalid_value", "Expected a prompt with some text, received only white space.")


def check_size(size: str | None, *, pixels_max: int) -> None:
    """
    Check that a picture of this size could be verified here.

    Raises:
        FieldInvalid: if a side or the number of pixels is beyond what is decoded.
    """
    if size is None or size == "auto":
        return
    width, height = map(int, size.split("x"))
    if max(width, height) > SIDE_PX_MAX or width * height > pixels_max:
        raise FieldInvalid("size", "invalid_value", f"Expected a size of at most {pixels_max} pixels, received {size}.")


def check_response_format(response_format: str | None, *, model: str) -> None:
    """
    Check that the model's answer may be a URL.

    Raises:
        FieldInvalid: for models that always answer base64.
    """
    if response_format == "url" and model.startswith(_BASE64_ONLY):
        raise FieldInvalid(
            "response_format", "invalid_value", f"The model {model} answers b64_json only; omit the field."
        )


def check_extras(extras: dict[str, object]) -> dict[str, str | int | float | bool]:
    """
    Return the fields that no table knows, if a provider could take them; the capability gate decides whether it does.

    Raises:
        FieldInvalid: for a name or a value that no provider field has.
    """
    checked: dict[str, str | int | float | bool] = {}
    for name, value in extras.items():
        if not _EXTRA_NAME.fullmatch(name) or len(extras) > N_EXTRAS_MAX:
            raise FieldInvalid(name[:80], "unknown_parameter", f"Unknown parameter: {name[:80]!r}.")
        if value is None:
            continue
        if not isinstance(value, str | int | float | bool) or (isinstance(value, str) and len(value) > EXTRA_CHARS_MAX):
            raise FieldInvalid(name, "invalid_type", f"Expected {name} to be a short text, a number or a boolean.")
        checked[name] = value
    return checked


def to_request(
    fields: PictureFields,
    *,
    operation: Operation,
    extras: dict[str, str | int | float | bool],
) -> ImageRequest:
    """Return the request without references, its defaults filled in; model is "" where the client left it to us."""
    return ImageRequest(
        operation=operation,
        model=fields.model or "",
        prompt=fields.prompt,
        n=fields.n or 1,
        size=fields.size or "auto",
        quality=fields.quality or "auto",
        background=fields.background or "auto",
        output_format=fields.output_format or "png",
        output_compression=fields.output_compression,
        moderation=fields.moderation or "auto",
        input_fidelity=fields.input_fidelity if isinstance(fields, EditFields | JobFields) else None,
        text_material=(fields.text_material or "") if isinstance(fields, JobFields) else "",
        end_user=fields.safety_identifier or fields.user or "",
        extras=extras,
    )
