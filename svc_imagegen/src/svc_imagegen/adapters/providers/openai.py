"""
OpenAI itself and whoever speaks as it does: generations as JSON, edits as multipart (or JSON), base64 or URLs.

OpenAI's GPT image models always answer base64 and refuse `response_format`, so it is sent only where configured.
Source: openai/openai-openapi 2.3.0 and openai-python 3.52.0; DALL·E and with it variations ended in May 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import (
    EDITS,
    GENERATIONS,
    VARIATIONS,
    Rules,
    data_url,
    full_prompt,
    mask_of,
    openai_read,
    pictures_of,
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

N_MAX: Final = 10
N_REFERENCES_MAX: Final = 16
_OPENAI_HOST: Final = "https://api.openai.com/"
_RULES: Final = Rules(
    sends=frozenset({"size", "quality", "background", "output_format"}),
    n_max=N_MAX,
    n_references_max=N_REFERENCES_MAX,
    support={"generation": Support.SUPPORTED},
)
# Only of OpenAI's own server and its GPT image models is this known; any other server may be anything.
_GPT_IMAGE: Final = {
    "edit": Support.SUPPORTED,
    "edit_multi": Support.SUPPORTED,
    "mask": Support.SUPPORTED,
    "variation": Support.UNSUPPORTED,
    "size:auto": Support.SUPPORTED,
    "size:1024x1024": Support.SUPPORTED,
    "size:1536x1024": Support.SUPPORTED,
    "size:1024x1536": Support.SUPPORTED,
    "quality:auto": Support.SUPPORTED,
    "quality:low": Support.SUPPORTED,
    "quality:medium": Support.SUPPORTED,
    "quality:high": Support.SUPPORTED,
}


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """The wire format of OpenAI's images interface."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset()

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request; default values are left out, so that the server's own defaults stay its own."""
        _RULES.check(request)
        fields = {"model": model.upstream_name, **scalar_fields(request)}
        if self.config.response_format:
            fields["response_format"] = self.config.response_format
        fields.update(taken_extras(request, declared_extras(model, self.extras)))
        match request.operation:
            case Operation.GENERATION:
                return Call(GENERATIONS, fields)
            case Operation.VARIATION:
                fields.pop("prompt", None)
                return Call(VARIATIONS, fields, files=one_picture(references))
            case _ if self.config.edit_body == "json":
                return Call(EDITS, {**fields, **json_references(references)})
            case _:
                return Call(EDITS, fields, files=multipart_references(references, name=self.config.image_field))

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what the answer holds."""
        return openai_read(answer, upstream)

    def declared(self, model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of OpenAI's own models; of other servers only that they generate."""
        name = model.upstream_name
        is_gpt_image = name.startswith(("gpt-image", "chatgpt-image"))
        if self.config.base_url.startswith(_OPENAI_HOST) and is_gpt_image and feature in _GPT_IMAGE:
            return _GPT_IMAGE[feature]
        return _RULES.declared(feature)


def scalar_fields(request: ImageRequest) -> dict[str, object]:
    """Return prompt, n and those wishes that are no defaults, under OpenAI's names."""
    fields: dict[str, object] = {"prompt": full_prompt(request), "n": request.n}
    defaults = {"size": "auto", "quality": "auto", "background": "auto", "output_format": "png", "moderation": "auto"}
    for name, default in defaults.items():
        if (value := getattr(request, name)) != default:
            fields[name] = value
    if request.output_compression is not None:
        fields["output_compression"] = request.output_compression
    if request.operation is Operation.EDIT and request.input_fidelity is not None:
        fields["input_fidelity"] = request.input_fidelity
    if request.operation is not Operation.GENERATION:
        fields.pop("moderation", None)  # the edits form has none
    if request.end_user:
        fields["user"] = request.end_user
    return fields


def multipart_references(
    references: Sequence[ReferenceBytes], *, name: str = "auto", mask_name: str = "mask"
) -> tuple[tuple[str, ReferenceBytes], ...]:
    """
    Return the files of an edit. name auto: `image` for one, repeated `image[]` for more, as OpenAI's client has it.

    Raises:
        Rejected: bad_request if there is no picture.
    """
    pictures = pictures_of(references)
    if not pictures:
        raise unsupported("image", "expected a reference picture, received none")
    field = ("image" if len(pictures) == 1 else "image[]") if name == "auto" else name
    files = tuple((field, it) for it in pictures)
    mask = mask_of(references)
    return files if mask is None else (*files, (mask_name, mask))


def one_picture(references: Sequence[ReferenceBytes]) -> tuple[tuple[str, ReferenceBytes], ...]:
    """Return the one file of a variation."""
    pictures = pictures_of(references)
    if len(pictures) != 1:
        raise unsupported("image", f"expected one picture, received {len(pictures)}")
    return (("image", pictures[0]),)


def json_references(references: Sequence[ReferenceBytes]) -> dict[str, object]:
    """Return the references of the JSON twin of edits: `images` and `mask` with data: URLs."""
    fields: dict[str, object] = {"images": [{"image_url": data_url(it)} for it in pictures_of(references)]}
    if (mask := mask_of(references)) is not None:
        fields["mask"] = {"image_url": data_url(mask)}
    return fields


def declared_extras(model: ModelConfig, extras: frozenset[str]) -> frozenset[str]:
    """Return the extras of the dialect with those that the configuration adds as `extra:<name>`."""
    return extras | {it.removeprefix("extra:") for it in model.supports if it.startswith("extra:")}
