"""
vLLM-Omni: one model a server, base64 only.

* `response_format` url is an error; b64_json is asked for. There is no usage.
* A model name other than the served one is a 400.
* Errors are `{"error": {…}}` with a number as code, in versions of 2025 FastAPI's `{"detail": …}` (errors.py has both).
* Edits take `image` and `image[]`; the mask is called `mask_image`. Whether the served model edits depends on the model
  (two inputs gave back the second one, vllm-omni#2541): unknown until it is probed.
* quality and background are not taken.

Source: vllm-omni 0.30.0, entrypoints/openai/image_api.
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
    sends=frozenset({"size", "output_format"}),
    n_max=10,
    n_references_max=16,
    support={"generation": Support.SUPPORTED, "variation": Support.UNSUPPORTED},
)
_EXTRAS: Final = frozenset(
    {"negative_prompt", "num_inference_steps", "guidance_scale", "true_cfg_scale", "seed", "strength"}
)


@dataclass(frozen=True, slots=True)
class VllmOmniDialect:
    """vLLM-Omni's images interface."""

    config: ProviderConfig
    extras: frozenset[str] = _EXTRAS

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        fields = {
            "model": model.upstream_name,
            **scalar_fields(request),
            "response_format": "b64_json",
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        for name in ("moderation", "input_fidelity"):
            fields.pop(name, None)
        if request.operation is Operation.GENERATION:
            return Call(GENERATIONS, fields)
        files = multipart_references(references, name=self.config.image_field, mask_name="mask_image")
        return Call(EDITS, fields, files=files)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what the answer holds."""
        return openai_read(answer, upstream)

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of the server; what its model can do is not."""
        return _RULES.declared(feature)
