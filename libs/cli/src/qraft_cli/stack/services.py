"""The services of the local stack, in two parts that run without each other: the quant line and the image studio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

QUANT: Final = "quant"
STUDIO: Final = "studio"
PARTS: Final = (QUANT, STUDIO)


@dataclass(frozen=True, slots=True)
class Service:
    """One process of a part. port: of its HTTP server, where it is free. settings: beside those of the whole stack."""

    name: str
    module: str
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)


def _line(*names: str) -> tuple[Service, ...]:
    return tuple(Service(name, name, 8700 + i) for i, name in enumerate(names))


# In the order of the flow, so that a consumer is there before its producer.
QUANT_LINE: Final = _line("svc_execution", "svc_allocator", "svc_inference", "svc_features", "svc_ingest")
IMAGE_STUDIO: Final = (
    Service("svc_billing", "svc_billing", 8711),
    Service("svc_imagegen", "svc_imagegen", 8710, {"QRAFT_IMAGEGEN_ROLES": "gateway"}),
    Service("svc_imagegen-worker", "svc_imagegen", 8712, {"QRAFT_IMAGEGEN_ROLES": "worker"}),
)
OF_PART: Final[Mapping[str, tuple[Service, ...]]] = {QUANT: QUANT_LINE, STUDIO: IMAGE_STUDIO}
ALL_SERVICES: Final[Mapping[str, Service]] = {it.name: it for it in (*QUANT_LINE, *IMAGE_STUDIO)}
# The quant line by name; what the survival tests kill.
SERVICES: Final = tuple(it.name for it in QUANT_LINE)
