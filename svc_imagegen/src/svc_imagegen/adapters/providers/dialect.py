"""What differs between image servers, and the pieces that their dialects share."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading, data_items, decode_success
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import Rejected
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

GENERATIONS: Final = "images/generations"
EDITS: Final = "images/edits"
VARIATIONS: Final = "images/variations"
# Fields that change the picture; what a server does not take of them is refused, never dropped.
_WISHES: Final = {"size": "auto", "quality": "auto", "background": "auto", "output_format": "png"}


class Dialect(Protocol):
    """
    How one kind of server is spoken to. extras: the provider fields that it passes on.

    A new kind is one file with one of these, and one line in `build.py`.
    """

    @property
    def extras(self) -> Collection[str]: ...

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the one request to send; raises Rejected for what the server cannot do or would do otherwise."""
        ...

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what an answer holds; raises BadPicture, Uncertain or Rejected."""
        ...

    def declared(self, model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of a feature; of `extra:` only the adapter is asked."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What a server takes, for the checks before anything is sent.

    sends: which of size, quality, background and output_format reach it; n_max: pictures in one call;
    n_references_max: of one edit; support: features that are certain.
    """

    sends: frozenset[str]
    n_max: int
    n_references_max: int
    support: Mapping[str, Support]

    def check(self, request: ImageRequest) -> None:
        """
        Check a request; nothing is ever changed silently.

        Raises:
            Rejected: unsupported, naming the field.
        """
        if not 1 <= request.n <= self.n_max:
            raise unsupported("n", f"expected n of 1 to {self.n_max}, received {request.n}")
        if (n := len(request.pictures)) > self.n_references_max:
            raise unsupported("image", f"expected at most {self.n_references_max} pictures, received {n}")
        feature = request.operation.value
        if self.support.get(feature) is Support.UNSUPPORTED:
            raise unsupported(None, f"the provider has no {feature}")
        if request.mask is not None and self.support.get("mask") is Support.UNSUPPORTED:
            raise unsupported("mask", "the provider takes no mask")
        for name, default in _WISHES.items():
            value = getattr(request, name)
            if self.declared(f"{name}:{value}") is Support.UNSUPPORTED and value != default:
                raise unsupported(name, f"the provider does not take {name} {value}")

    def declared(self, feature: str) -> Support:
        """Return what is certain of a feature: what is never sent is never supported, but its default always."""
        if feature in self.support:
            return self.support[feature]
        name, _, value = feature.partition(":")
        if name in _WISHES and name not in self.sends:
            return Support.SUPPORTED if value == _WISHES[name] else Support.UNSUPPORTED
        return Support.UNKNOWN


def openai_read(answer: Answer, upstream: Upstream) -> Reading:
    """Read an answer as OpenAI and most others give it."""
    decoded = decode_success(answer, upstream)
    return Reading(decoded, data_items(decoded))


def unsupported(param: str | None, detail: str) -> Rejected:
    """Return the refusal of something that this server cannot do."""
    return Rejected("unsupported", detail, param=param)


def full_prompt(request: ImageRequest) -> str:
    """Return the prompt with its text material."""
    return f"{request.prompt}\n\n{request.text_material}" if request.text_material else request.prompt


def pictures_of(references: Sequence[ReferenceBytes]) -> tuple[ReferenceBytes, ...]:
    """Return the references that are no masks."""
    return tuple(it for it in references if it.reference.role == "image")


def mask_of(references: Sequence[ReferenceBytes]) -> ReferenceBytes | None:
    """Return the mask, or None."""
    return next((it for it in references if it.reference.role == "mask"), None)


def data_url(reference: ReferenceBytes) -> str:
    """Return a reference as a data: URL."""
    return f"data:{reference.reference.media_type};base64,{base64.b64encode(reference.data).decode()}"


def sides(size: str) -> tuple[int, int] | None:
    """Return width and height, or None for auto."""
    if size == "auto":
        return None
    width, _, height = size.partition("x")
    return int(width), int(height)


def taken_extras(request: ImageRequest, extras: Collection[str]) -> dict[str, object]:
    """
    Return the provider's own fields.

    Raises:
        Rejected: unsupported, for one that the dialect does not know.
    """
    for name in request.extras:
        if name not in extras:
            raise unsupported(name, f"the provider does not take {name}")
    return dict(request.extras)


def apply_maps(call: Call, config: ProviderConfig) -> Call:
    """Return a call with the configuration's own names and values; a name or value mapped to "" is left out."""
    fields: dict[str, object] = {}
    for name, value in call.fields.items():
        values = config.quality_map if name == "quality" else config.size_map if name == "size" else {}
        mapped = values.get(value, value) if isinstance(value, str) else value
        key = config.field_map.get(name, name)
        if key and (mapped != "" or name == "prompt"):
            fields[key] = mapped
    files = tuple((config.field_map.get(name, name), file) for name, file in call.files)
    return replace(call, fields=fields, files=tuple(it for it in files if it[0]))


def needs_pictures(request: ImageRequest) -> bool:
    """Return whether the operation works on reference pictures."""
    return request.operation is not Operation.GENERATION
