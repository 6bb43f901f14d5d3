"""
LocalAI. It changes requests silently, so what it would change is refused before it is sent.

* It splits the prompt at the first `|`; what follows becomes the negative prompt. There is no escape: refused.
* A size without `x`, such as auto, becomes 512x512: a size is always asked for.
* Pictures come as URLs of its own (`/generated-images/…`) unless base64 is asked for.
* There is no /images/edits: references go to generations as `ref_images`, a mask to /images/inpainting. A reference
  that it cannot decode is dropped and the picture made without it; ours were re-encoded, so they decode. Whether the
  model behind looks at references at all, nobody says: edit stays unknown until it is probed.
* Its usage counters are always zero and are not kept.

Source: mudler/LocalAI core/http/endpoints/openai/image.go and core/http/routes/openai.go @82c191a.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import (
    GENERATIONS,
    Rules,
    full_prompt,
    mask_of,
    openai_read,
    pictures_of,
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.openai import declared_extras, one_picture
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

INPAINTING: Final = "images/inpainting"
_RULES: Final = Rules(
    sends=frozenset({"size"}),
    n_max=10,
    n_references_max=16,
    support={
        "generation": Support.SUPPORTED,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.UNSUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class LocalAIDialect:
    """LocalAI's generations and inpainting."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset({"step", "mode"})

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        prompt = full_prompt(request)
        if "|" in prompt:
            raise unsupported("prompt", "the provider reads what follows a | as the negative prompt; write it without")
        if request.size == "auto":
            raise unsupported("size", "the provider turns auto into 512x512; name a size")
        fields: dict[str, object] = {
            "model": model.upstream_name,
            "prompt": prompt,
            "n": request.n,
            "size": request.size,
            "response_format": "b64_json",
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if request.operation is Operation.GENERATION:
            return Call(GENERATIONS, fields)
        if (mask := mask_of(references)) is not None:
            return Call(INPAINTING, fields, files=(*one_picture(references), ("mask", mask)))
        raw = [base64.b64encode(it.data).decode() for it in pictures_of(references)]
        return Call(GENERATIONS, {**fields, "ref_images": raw})

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return the answer without its empty counters."""
        reading = openai_read(answer, upstream)
        reading.decoded.pop("usage", None)
        return reading

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of the server; what its models can do is not."""
        return _RULES.declared(feature)
