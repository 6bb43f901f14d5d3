"""
Gemini's OpenAI-compatible layer: generations for some models.

* The base URL ends in /v1beta/openai. /images/generations works for some models and is a 404 for others that /models
  lists (discuss.ai.google.dev 180711): generation is unknown until it is probed or declared.
* Parameters that it does not know are ignored, so only prompt, model, n, size and response_format are sent, and every
  other wish is refused. There are no edits here; those need generateContent.

Source: ai.google.dev/gemini-api/docs/openai.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import GENERATIONS, Rules, full_prompt, openai_read, taken_extras
from svc_imagegen.adapters.providers.openai import declared_extras
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

_RULES: Final = Rules(
    sends=frozenset({"size"}),
    n_max=10,
    n_references_max=0,
    support={
        "edit": Support.UNSUPPORTED,
        "edit_multi": Support.UNSUPPORTED,
        "mask": Support.UNSUPPORTED,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.SUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class GeminiDialect:
    """Gemini's compatible generations."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset()

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        assert not references, "an edit was refused above"
        fields: dict[str, object] = {
            "model": model.upstream_name,
            "prompt": full_prompt(request),
            "n": request.n,
            "response_format": "b64_json",
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if request.size != "auto":
            fields["size"] = request.size
        return Call(GENERATIONS, fields)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what the answer holds."""
        return openai_read(answer, upstream)

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of the layer; which models it serves is not."""
        return _RULES.declared(feature)
