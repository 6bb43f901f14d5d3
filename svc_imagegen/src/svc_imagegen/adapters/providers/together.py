"""
Together AI: FLUX and others by width, height and steps.

* `width` and `height` instead of size (left out for auto: 1024x1024); n is 1–4.
* `response_format` is `base64`, not b64_json; data[] has `index`, and the answer id and model.
* No edits route: one reference goes to generations as `image_url`, more as `reference_images`; which models look at
  them is not told by the interface: unknown until it is probed.

Source: docs.together.ai/docs/images-overview and /reference/post-images-generations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import (
    GENERATIONS,
    Rules,
    data_url,
    full_prompt,
    needs_pictures,
    openai_read,
    pictures_of,
    sides,
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.openai import declared_extras
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

_RULES: Final = Rules(
    sends=frozenset({"size", "output_format"}),
    n_max=4,
    n_references_max=8,
    support={
        "generation": Support.SUPPORTED,
        "mask": Support.UNSUPPORTED,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.SUPPORTED,
        "output_format:png": Support.SUPPORTED,
        "output_format:jpeg": Support.SUPPORTED,
        "output_format:webp": Support.UNSUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class TogetherDialect:
    """Together's generations, references included."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset({"steps", "seed", "negative_prompt", "guidance_scale"})

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        inputs = [data_url(it) for it in pictures_of(references)]
        if needs_pictures(request) and not inputs:
            raise unsupported("image", "expected a reference picture, received none")
        fields: dict[str, object] = {
            "model": model.upstream_name,
            "prompt": full_prompt(request),
            "n": request.n,
            "response_format": "base64",
            "output_format": request.output_format,
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if (size := sides(request.size)) is not None:
            fields["width"], fields["height"] = size
        if inputs:
            fields.update({"image_url": inputs[0]} if len(inputs) == 1 else {"reference_images": inputs})
        return Call(GENERATIONS, fields)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return the answer, its entries in the order of their index."""
        reading = openai_read(answer, upstream)
        if all(isinstance(it, dict) and isinstance(it.get("index"), int) for it in reading.items):
            reading.items.sort(key=lambda it: int(it["index"]))
        return reading

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of the interface; what its models can do is not."""
        return _RULES.declared(feature)
