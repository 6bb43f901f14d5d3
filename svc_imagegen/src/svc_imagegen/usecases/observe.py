"""What a job that went well proves about its provider."""

from __future__ import annotations

from typing import Final

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_telemetry import logs
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import CapabilityStore

_N_KNOWN_MAX: Final = 4_096


def features_of(request: ImageRequest) -> tuple[str, ...]:
    """Return the features that a request uses, as capabilities name them."""
    features = [request.operation.value]
    if len(request.pictures) > 1:
        features.append("edit_multi")
    if request.mask is not None:
        features.append("mask")
    features.extend(f"{name}:{getattr(request, name)}" for name in ("size", "quality", "background", "output_format"))
    return tuple(features)


class Observe:
    """Records `observed` findings. A simulated job proves nothing, and its adapter knows what it can anyway."""

    def __init__(self, capabilities: CapabilityStore, *, clock: Clock) -> None:
        self._capabilities = capabilities
        self._clock = clock
        self._known: dict[tuple[str, str, str], None] = {}

    async def __call__(self, job: Job) -> None:
        """
        Note the features of a job whose pictures were verified. A store that is away costs the finding, nothing else.

        A provider that takes a field may still ignore it, so that only operations and references count here: their
        lack shows as an error. Sizes, qualities and formats are left to a probe, which looks at the picture.
        """
        if job.is_simulated:
            return
        for feature in features_of(job.request):
            key = (job.provider, job.request.model, feature)
            if ":" in feature or key in self._known:
                continue
            try:
                await self._note(job, feature)
            except Transient as error:
                logs.get().warning("capability.not_noted", job_id=job.job_id, reason=error.reason)
                return
            if len(self._known) >= _N_KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[key] = None

    async def _note(self, job: Job, feature: str) -> None:
        if await self._capabilities.support(job.provider, job.request.model, feature) is Support.SUPPORTED:
            return
        await self._capabilities.record(
            Capability(
                provider=job.provider,
                model=job.request.model,
                feature=feature,
                support=Support.SUPPORTED,
                evidence=f"observed {job.job_id}",
                found_at=self._clock.now(),
            )
        )
