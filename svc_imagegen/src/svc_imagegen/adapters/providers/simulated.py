"""The provider that makes nothing and says so: labelled placeholders, for trying the service without any cost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import Final

from svc_imagegen.adapters.providers.simulated_canvas import SIDE_MAX, Drawing, draw
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import Lookup, ProviderAnswer, RawPicture, Rejected
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

PROVIDER_ID: Final = "simulated"
MODEL: Final = "simulated-1"
N_MAX: Final = 10
_SIDE_AUTO: Final = 1_024
_SIDE_MIN: Final = 16
_SEED_MAX: Final = 2**63 - 1
_FORMATS: Final = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
# Everything that this adapter does; all else it certainly does not.
_SUPPORTED: Final = frozenset(
    {
        "generation", "edit", "edit_multi", "mask", "variation", "extra:seed", "size:auto",
        *(f"output_format:{it}" for it in _FORMATS),
        *(f"quality:{it}" for it in ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")),
        *(f"background:{it}" for it in ("auto", "opaque", "transparent")),
    }
)  # fmt: skip


class SimulatedProvider:
    """
    The Provider port without a provider. Pictures depend on prompt, seed and attempt only.

    delay_s: how long an answer takes beyond the drawing, for tests of waiting.
    """

    is_simulated = True

    def __init__(
        self, *, provider_id: str = PROVIDER_ID, models: Sequence[str] = (MODEL,), delay_s: float = 0.0
    ) -> None:
        self._provider_id = provider_id
        self._models = tuple(models)
        self._delay_s = delay_s

    @property
    def provider_id(self) -> str:
        """Return the id under which it is configured."""
        return self._provider_id

    def models(self) -> tuple[str, ...]:
        """Return the models that it pretends to have."""
        return self._models

    def declared(self, model: str, feature: str) -> Support:
        """Return whether it can draw that; it knows of everything."""
        if model not in self._models:
            return Support.UNKNOWN
        is_size = feature.startswith("size:") and feature != "size:auto"
        is_supported = _size_of(feature[5:]) is not None if is_size else feature in _SUPPORTED
        return Support.SUPPORTED if is_supported else Support.UNSUPPORTED

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        """
        Draw the placeholders, in a thread.

        Raises:
            Rejected: for a size, format or number that it does not draw.
        """
        size = _size_of(request.size)
        if size is None:
            raise Rejected(
                "unsupported",
                f"expected auto or WxH of {_SIDE_MIN} to {SIDE_MAX}, received {request.size}",
                param="size",
            )
        if request.output_format not in _FORMATS:
            raise Rejected("unsupported", f"expected {', '.join(_FORMATS)}", param="output_format")
        if not 1 <= request.n <= N_MAX:
            raise Rejected("unsupported", f"expected n of 1 to {N_MAX}, received {request.n}", param="n")
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        data = tuple(it.data for it in references)
        pictures = []
        for index in range(request.n):
            seed = _seed_of(request, attempt_id=attempt_id, index=index)
            pictures.append(RawPicture(await asyncio.to_thread(_make, request, size, data, seed)))
        return ProviderAnswer(tuple(pictures), provider_request_id=f"simulated-{attempt_id}", cost_microusd=0)

    async def look_up(self, provider_request_id: str) -> Lookup:
        """Return unknown: it keeps nothing."""
        return Lookup("unknown", detail=f"a simulated provider keeps no record of {provider_request_id}")

    async def close(self) -> None:
        """Do nothing: there is no connection."""


def _make(request: ImageRequest, size: tuple[int, int], references: Sequence[bytes], seed: int) -> bytes:
    digest = hashlib.sha256(request.prompt.encode("utf-8", "surrogatepass")).hexdigest()
    parts = [f"{size[0]} x {size[1]}", f"seed {seed}", f"prompt {digest[:8]}"]
    if request.operation is not Operation.GENERATION:
        parts.insert(0, request.operation.value)
    drawing = Drawing(
        width=size[0],
        height=size[1],
        prompt=request.prompt,
        seed=seed,
        caption="  ·  ".join(parts),
        is_transparent=request.background == "transparent" and request.output_format != "jpeg",
    )
    picture = draw(drawing, references)
    written = BytesIO()
    quality = 90 if request.output_compression is None else request.output_compression
    if request.output_format == "png":
        picture.save(written, format="PNG", compress_level=1)
    elif request.output_format == "jpeg":
        picture.save(written, format="JPEG", quality=max(1, min(95, quality)))
    else:
        picture.save(written, format="WEBP", quality=quality, method=0)
    return written.getvalue()


def _seed_of(request: ImageRequest, *, attempt_id: str, index: int) -> int:
    """Return the seed that was asked for, counted up for further pictures, or one of the attempt's."""
    asked = request.extras.get("seed")
    if isinstance(asked, int) and not isinstance(asked, bool):
        return abs(asked) % _SEED_MAX + index
    return int.from_bytes(hashlib.sha256(f"{attempt_id}/{index}".encode()).digest()[:4], "big")


def _size_of(text: str) -> tuple[int, int] | None:
    if text == "auto":
        return _SIDE_AUTO, _SIDE_AUTO
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        return None
    if len(width) > 4 or len(height) > 4:
        return None
    sides = int(width), int(height)
    return sides if all(_SIDE_MIN <= side <= SIDE_MAX for side in sides) else None
