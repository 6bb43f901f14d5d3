"""
xAI (Grok Imagine): a shape instead of a size, JSON instead of forms, and input pictures that cost money.

* size is not taken: `aspect_ratio` and `resolution` (1k, 2k) are sent for sizes of exactly a known ratio; the pixels
  may differ from what was asked, so no size is declared as supported.
* Edits are JSON only: `image` for one, `images` for more, each `{"url", "type": "image_url"}`. Every input picture is
  billed: the price list needs a per_reference price.
* base64 may come as a data: URL. URLs are temporary.
* The cost of the call is told: `usage.cost_in_usd_ticks`, 10,000,000,000 ticks a dollar.

Source: docs.x.ai, image generation and the reference of /v1/images/{generations,edits}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading, microusd
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import (
    EDITS,
    GENERATIONS,
    Rules,
    data_url,
    full_prompt,
    mask_of,
    openai_read,
    pictures_of,
    sides,
    taken_extras,
    unsupported,
)
from svc_imagegen.adapters.providers.openai import declared_extras
from svc_imagegen.adapters.providers.upstream import Call, Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

_MICROUSD_PER_TICK: Final = Decimal(1) / Decimal(10_000)
_RATIOS: Final = {
    Decimal(width) / Decimal(height): f"{width}:{height}"
    for width, height in (
        ("1", "1"), ("3", "4"), ("4", "3"), ("9", "16"), ("16", "9"), ("2", "3"), ("3", "2"), ("9", "19.5"),
        ("19.5", "9"), ("9", "20"), ("20", "9"), ("1", "2"), ("2", "1"),
    )
}  # fmt: skip
_SIDE_1K_MAX: Final = 1_536
_RULES: Final = Rules(
    sends=frozenset({"size", "quality"}),
    n_max=10,
    n_references_max=3,
    support={
        "generation": Support.SUPPORTED,
        "edit": Support.SUPPORTED,
        "edit_multi": Support.SUPPORTED,
        "mask": Support.UNKNOWN,
        "variation": Support.UNSUPPORTED,
        "size:auto": Support.SUPPORTED,
        "quality:auto": Support.SUPPORTED,
        "quality:xhigh": Support.UNSUPPORTED,
        "quality:max": Support.UNSUPPORTED,
        "quality:standard": Support.UNSUPPORTED,
        "quality:hd": Support.UNSUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class XaiDialect:
    """xAI's images interface."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset()

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        fields: dict[str, object] = {
            "model": model.upstream_name,
            "prompt": full_prompt(request),
            "n": request.n,
            "response_format": "b64_json",
            **_shape(request.size),
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        if request.quality != "auto":
            fields["quality"] = request.quality
        if request.end_user:
            fields["user"] = request.end_user
        if request.operation is Operation.GENERATION:
            return Call(GENERATIONS, fields)
        inputs = [_input(it) for it in pictures_of(references)]
        if not inputs:
            raise unsupported("image", "expected a reference picture, received none")
        fields.update({"image": inputs[0]} if len(inputs) == 1 else {"images": inputs})
        if (mask := mask_of(references)) is not None:
            fields["mask"] = _input(mask)
        return Call(EDITS, fields)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """Return the answer with its cost."""
        reading = openai_read(answer, upstream)
        usage = reading.decoded.get("usage")
        ticks = usage.get("cost_in_usd_ticks") if isinstance(usage, dict) else None
        cost = microusd(ticks, per=_MICROUSD_PER_TICK) if isinstance(ticks, int) else None
        return replace(reading, cost_microusd=cost)

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain; a size only as far as its ratio exists."""
        name, _, value = feature.partition(":")
        if name == "size" and value != "auto" and _ratio(value) is None:
            return Support.UNSUPPORTED
        return _RULES.declared(feature)


def _shape(size: str) -> dict[str, object]:
    asked = sides(size)
    if asked is None:
        return {}
    ratio = _ratio(size)
    if ratio is None:
        raise unsupported("size", f"expected one of the provider's shapes ({', '.join(_RATIOS.values())}), got {size}")
    return {"aspect_ratio": ratio, "resolution": "1k" if max(asked) <= _SIDE_1K_MAX else "2k"}


def _ratio(size: str) -> str | None:
    asked = sides(size)
    return None if asked is None else _RATIOS.get(Decimal(asked[0]) / Decimal(asked[1]))


def _input(reference: ReferenceBytes) -> dict[str, str]:
    return {"url": data_url(reference), "type": "image_url"}
