"""
SGLang diffusion: close to OpenAI, with traps.

* `response_format` url gives a relative `/v1/images/{id}/content`, or a cloud URL; b64_json is asked for, and a
  relative address is read against the server's origin.
* n is clamped to 1–10 silently: more is refused here. `file_path`, a path on the server, is not kept.
* `revised_prompt` repeats the prompt and says nothing: dropped.
* LoRA is a state of the whole server (/v1/set_lora) and no field of a call: one LoRA set a replica, no extra here.

Source: sgl-project/sglang python/sglang/multimodal_gen/runtime/entrypoints/openai/image_api.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import EDITS, GENERATIONS, Rules, openai_read, taken_extras
from svc_imagegen.adapters.providers.openai import declared_extras, multipart_references, scalar_fields
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

_RULES: Final = Rules(
    sends=frozenset({"size", "background", "output_format"}),
    n_max=10,
    n_references_max=16,
    support={
        "generation": Support.SUPPORTED,
        "variation": Support.UNSUPPORTED,
        "mask": Support.UNSUPPORTED,
    },
)
_EXTRAS: Final = frozenset({"negative_prompt", "num_inference_steps", "guidance_scale", "seed"})


@dataclass(frozen=True, slots=True)
class SGLangDialect:
    """SGLang's images interface."""

    config: ProviderConfig
    extras: frozenset[str] = _EXTRAS

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        fields = {
            "model": model.upstream_name,
            **scalar_fields(request),
            "response_format": self.config.response_format or "b64_json",
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        for name in ("moderation", "input_fidelity"):
            fields.pop(name, None)
        if request.operation is Operation.GENERATION:
            return Call(GENERATIONS, fields)
        return Call(EDITS, fields, files=multipart_references(references, name=self.config.image_field))

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return the answer without the repeated prompt."""
        reading = openai_read(answer, upstream)
        for item in reading.items:
            if isinstance(item, dict):
                item.pop("revised_prompt", None)
        return reading

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of the server; whether its model edits is not."""
        return _RULES.declared(feature)
