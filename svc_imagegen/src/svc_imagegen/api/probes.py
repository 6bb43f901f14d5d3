"""Finding out what a provider can do, for administrators: the price first, the calls only when they are asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs
from svc_imagegen.api.fields import decode_object, take_exactly
from svc_imagegen.api.http import Answer, Call
from svc_imagegen.domain.failures import CallRefused, Kind, credits_text
from svc_imagegen.usecases.probe import Probe, ProbeStep

_BODY_BYTES_MAX: Final = 64 * 1024
_N_OPEN_MAX: Final = 80  # findings that are waited for, of all calls together
_NO_STORE: Final = ((b"cache-control", b"no-store"),)


class ProbeFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to probe. spend false: only tell what it would cost. feature: also one that is known."""

    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=31)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    feature: Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}(:[A-Za-z0-9_]{1,40})?$")] | None = None
    spend: bool = False


class ProbeView(msgspec.Struct, frozen=True):
    """One call. credits null: no price is known, so it is not made. refusal: why a call was not made, else ""."""

    provider: str
    model: str
    feature: str
    size: str
    quality: str
    credits: str | None
    job_id: str | None
    refusal: str


class ProbeList(msgspec.Struct, frozen=True):
    """What is unknown, what finding out costs at most, and the jobs that do. No line: everything is known."""

    data: tuple[ProbeView, ...]
    total_credits: str
    is_spending: bool


@dataclass(slots=True)
class ProbeCalls:
    """The handler. finding_timeout_s: how long a job's end is waited for, longer than a job may take."""

    probe: Probe
    finding_timeout_s: float
    _open: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def create(self, call: Call) -> Answer:
        """`POST /api/probes`."""
        fields = take_exactly(ProbeFields, await decode_object(await call.body(n_bytes_max=_BODY_BYTES_MAX)))
        steps = await self.probe.plan(fields.provider, model=fields.model, feature=fields.feature)
        if fields.spend and len(self._open) + len(steps) > _N_OPEN_MAX:
            raise CallRefused(Kind.BUSY, "too_many_probes", "Other probes are under way.", retry_after_s=30)
        views = [await self._start(it, call) if fields.spend else _view(it) for it in steps]
        total = credits_text(sum(it.microcredits or 0 for it in steps))
        body = msgspec.json.encode(ProbeList(tuple(views), total, fields.spend))
        return Answer(202 if fields.spend else 200, body, _NO_STORE)

    async def _start(self, step: ProbeStep, call: Call) -> ProbeView:
        if step.microcredits is None:
            return _view(step, refusal="no price is known")
        try:
            job = await self.probe.start(step, call.key)
        except CallRefused as refusal:
            return _view(step, refusal=f"{refusal.code}: {refusal.message}")
        task = asyncio.create_task(self._finish(step, job.job_id))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return _view(step, job_id=job.job_id)

    async def _finish(self, step: ProbeStep, job_id: str) -> None:
        """Wait for a job and record its finding. A gateway that ends before loses the finding, never the job."""
        try:
            finding = await self.probe.finish(step, job_id, timeout_s=self.finding_timeout_s)
        except Transient as error:
            logs.get().warning("probe.finding_lost", job_id=job_id, reason=error.reason)
            return
        support = finding.support.value if finding else "unknown"
        logs.get().info("probe.done", job_id=job_id, provider=step.provider, feature=step.feature, support=support)


def _view(step: ProbeStep, *, job_id: str | None = None, refusal: str = "") -> ProbeView:
    return ProbeView(
        provider=step.provider,
        model=step.model,
        feature=step.feature,
        size=step.request.size,
        quality=step.request.quality,
        credits=None if step.microcredits is None else credits_text(step.microcredits),
        job_id=job_id,
        refusal=refusal,
    )
