"""
Azure OpenAI: OpenAI's format on another path, with another header.

* `openai/deployments/{deployment}/images/{generations,edits}?api-version=…` below the resource's address; `upstream` is
  the name of the deployment, which also names the model: no model field.
* The key goes into the header `api-key`.
* A refused prompt is a 400 with code contentFilter, or an inner error ResponsibleAIPolicyViolation (errors.py).
* A 408 is Azure's own time limit and says nothing of what the model did: uncertain.

Source: learn.microsoft.com, Azure OpenAI image generation, api-version 2025-04-01-preview.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import openai_read
from svc_imagegen.adapters.providers.openai import OpenAIDialect
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

_SUPPORT: Final = {"variation": Support.UNSUPPORTED}


@dataclass(frozen=True, slots=True)
class AzureDialect:
    """OpenAI's dialect on the path of a deployment."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset()

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return OpenAI's request, moved."""
        call = OpenAIDialect(self.config, self.extras).call(model, request, references)
        fields = {name: value for name, value in call.fields.items() if name != "model"}
        deployment = quote(model.upstream_name, safe="")
        version = quote(self.config.api_version, safe="")
        return Call(f"openai/deployments/{deployment}/{call.path}?api-version={version}", fields, files=call.files)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return what the answer holds."""
        return openai_read(answer, upstream)

    def declared(self, model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain of a deployment, whose name says nothing of its model."""
        return _SUPPORT.get(feature) or OpenAIDialect(self.config, self.extras).declared(model, feature)
