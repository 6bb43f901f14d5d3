"""
SiliconFlow: own names in both directions.

* `image_size` and `batch_size` instead of size and n. batch_size is Kolors' only; other models make one picture.
* Pictures are in `images[]`, as URLs that live for one hour: fetched at once.
* No edits route: references go to generations as `image`, `image2`, `image3` (Qwen-Image-Edit-2509); these edit models
  take no image_size.
* Errors are `{"code", "message", "data"}`; the trace id is in `x-siliconcloud-trace-id`.

Source: docs.siliconflow.cn/cn/api-reference/images/images-generations.
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
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.openai import declared_extras
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

_IMAGE_NAMES: Final = ("image", "image2", "image3")
_KOLORS: Final = "Kolors"
_EDIT: Final = "Image-Edit"
_MULTI: Final = "Image-Edit-2509"
_RULES: Final = Rules(
    sends=frozenset({"size"}),
    n_max=4,
    n_references_max=len(_IMAGE_NAMES),
    support={
        "generation": Support.SUPPORTED,
        "mask": Support.UNSUPPORTED,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.SUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class SiliconFlowDialect:
    """SiliconFlow's generations, references included."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset({"negative_prompt", "seed", "num_inference_steps", "guidance_scale"})

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        name = model.upstream_name
        inputs = [data_url(it) for it in pictures_of(references)]
        if needs_pictures(request) and not inputs:
            raise unsupported("image", "expected a reference picture, received none")
        if request.n > 1 and _KOLORS not in name:
            raise unsupported("n", "this model of the provider makes one picture a call")
        if request.size != "auto" and _EDIT in name:
            raise unsupported("size", "this model of the provider takes no size")
        fields: dict[str, object] = {
            "model": name,
            "prompt": full_prompt(request),
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if _KOLORS in name:
            fields["batch_size"] = request.n
        if request.size != "auto":
            fields["image_size"] = request.size
        fields.update(zip(_IMAGE_NAMES, inputs, strict=False))
        return Call(GENERATIONS, fields)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what the answer holds."""
        return openai_read(answer, upstream)

    def declared(self, model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain; editing is of the models that have it in their name."""
        name = model.upstream_name
        if feature == "edit" and _EDIT in name:
            return Support.SUPPORTED
        if feature == "edit_multi" and _MULTI in name:
            return Support.SUPPORTED
        if feature.startswith("size:") and feature != "size:auto" and _EDIT in name:
            return Support.UNSUPPORTED
        return _RULES.declared(feature)
