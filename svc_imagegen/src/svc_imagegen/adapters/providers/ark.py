"""
Volcengine Ark and BytePlus (Seedream): one route for everything.

* The base URL ends in /api/v3; there is no /v1 and no edits route. References go to generations as `image`, a string
  for one and a list for more.
* size is `1K`, `2K`, `4K` or WxH; auto is left out, which means 2048x2048.
* More than one picture is `sequential_image_generation` auto with `max_images`: the model may make fewer, and
  inputs and outputs together are at most 15.
* `watermark` is true unless told otherwise. Some models tell output_format apart (5.0), older ones give JPEG.
* usage is {generated_images, output_tokens, total_tokens}. A picture that failed is an entry with `error` in data.

Source: volcengine.com/docs/82379/1541523 (2026-05-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.openai import declared_extras
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

_N_TOGETHER_MAX: Final = 15
_RULES: Final = Rules(
    sends=frozenset({"size", "output_format"}),
    n_max=_N_TOGETHER_MAX,
    n_references_max=14,
    support={
        "generation": Support.SUPPORTED,
        "mask": Support.UNSUPPORTED,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.SUPPORTED,
        "output_format:png": Support.SUPPORTED,
        "output_format:webp": Support.UNSUPPORTED,
    },
)
_TAKES_REFERENCES: Final = ("seedream-4", "seedream-5")
_TAKES_FORMAT: Final = "seedream-5"


@dataclass(frozen=True, slots=True)
class ArkDialect:
    """Ark's generations, references included."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset({"seed", "guidance_scale"})

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        inputs = [data_url(it) for it in pictures_of(references)]
        if needs_pictures(request) and not inputs:
            raise unsupported("image", "expected a reference picture, received none")
        if request.n + len(inputs) > _N_TOGETHER_MAX:
            raise unsupported("n", f"expected at most {_N_TOGETHER_MAX} input and output pictures together")
        fields: dict[str, object] = {
            "model": model.upstream_name,
            "prompt": full_prompt(request),
            "response_format": "b64_json",
            "watermark": False,
            "sequential_image_generation": "disabled" if request.n == 1 else "auto",
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if request.n > 1:
            fields["sequential_image_generation_options"] = {"max_images": request.n}
        if request.size != "auto":
            fields["size"] = request.size
        if _TAKES_FORMAT in model.upstream_name:
            fields["output_format"] = request.output_format
        if inputs:
            fields["image"] = inputs[0] if len(inputs) == 1 else inputs
        return Call(GENERATIONS, fields)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return the answer with the entries that did not fail."""
        reading = openai_read(answer, upstream)
        made = [it for it in reading.items if not (isinstance(it, dict) and it.get("error"))]
        return replace(reading, items=made)

    def declared(self, model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain; references are of Seedream 4 and 5."""
        if feature in ("edit", "edit_multi") and any(it in model.upstream_name for it in _TAKES_REFERENCES):
            return Support.SUPPORTED
        return _RULES.declared(feature)
