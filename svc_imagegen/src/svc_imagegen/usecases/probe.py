"""
Find out what a provider can do: one cheap call for each feature that nobody knows of, as a job like any other.

The price is told first and nothing is spent without being asked to. Each call is reserved, stored, run and settled like
a customer's; its job is the evidence of the finding.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from qraft_runtime.clock import Clock
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.routing import ModelRoute
from svc_imagegen.domain.sample_pictures import sample_card, sample_mask
from svc_imagegen.ports import ApiKey, Asset, AssetStore, CapabilityStore, JobChanges, JobStore, Provider
from svc_imagegen.usecases.accept import AcceptCall, NewCall
from svc_imagegen.usecases.gate import CapabilityGate
from svc_imagegen.usecases.references import Upload

# What is probed unless a feature is named: the operations, because only they are refused while unknown.
FEATURES: Final = ("generation", "edit", "edit_multi", "mask")
N_STEPS_MAX: Final = 40
PROMPT: Final = "A plain gray circle on a white ground."
_SIZES: Final = ("256x256", "512x512", "1024x1024", "auto")
_QUALITIES: Final = ("low", "standard", "auto")
_MEDIA_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
# Causes by which a provider says that it cannot do this; any other failure says nothing about the feature.
_UNSUPPORTED: Final = frozenset({"unsupported", "bad_request", "wrong_size"})


class ProbingGate(CapabilityGate):
    """Lets a probe through, whose purpose is to ask for what is not known. For the probe's own AcceptCall only."""

    async def check(self, request: ImageRequest, route: ModelRoute, *, uploads: Sequence[Upload]) -> None:
        """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One call to be made, with its price in micro-credits; None: no price is known, so the call is not made."""

    provider: str
    model: str
    feature: str
    request: ImageRequest
    n_references: int
    microcredits: int | None


class Probe:
    """The use case. accept: wired with a ProbingGate; gate: the customers' one, which is told of new findings."""

    def __init__(
        self,
        *,
        accept: AcceptCall,
        gate: CapabilityGate,
        providers: Sequence[Provider],
        capabilities: CapabilityStore,
        jobs: JobStore,
        assets: AssetStore,
        changes: JobChanges,
        clock: Clock,
    ) -> None:
        self._accept = accept
        self._gate = gate
        self._providers = {it.provider_id: it for it in providers}
        self._capabilities = capabilities
        self._jobs = jobs
        self._assets = assets
        self._changes = changes
        self._clock = clock

    async def plan(self, provider_id: str, *, model: str | None, feature: str | None) -> tuple[ProbeStep, ...]:
        """
        Return the calls that would be made and what each costs. Nothing is spent.

        Args:
            provider_id: a configured provider.
            model: one of its models; None = all of them.
            feature: probed even if it is known; None = every one of FEATURES that is not known.

        Raises:
            CallRefused: an unknown provider or model, or a feature that no probe exists for.
            Transient: billing or the database is away.
        """
        provider = self._providers.get(provider_id)
        if provider is None or (model is not None and model not in provider.models()):
            message = "There is no such model of such a provider; GET /api/providers lists them."
            raise CallRefused(Kind.MISSING, "model_not_found", message, param="model")
        steps: list[ProbeStep] = []
        for name in provider.models() if model is None else (model,):
            for asked in FEATURES if feature is None else (feature,):
                is_wanted = feature is not None or (
                    await self._gate.support(provider_id, name, asked) is Support.UNKNOWN
                )
                if is_wanted and len(steps) < N_STEPS_MAX:
                    steps.append(await self._step(provider_id, name, asked))
        return tuple(steps)

    async def start(self, step: ProbeStep, key: ApiKey) -> Job:
        """
        Make the job of one step, paid by the key's account.

        Raises:
            CallRefused: no price, no credits.
            Transient: a part that is needed is away.
        """
        call = NewCall(
            key=key,
            request=step.request,
            received_at=self._clock.now(),
            uploads=_uploads(step),
            # Never joins another call: the finding has to be this job's own.
            idempotency_key=f"probe-{secrets.token_hex(16)}",
            expected_microcredits=step.microcredits,
        )
        return (await self._accept(call)).job

    async def finish(self, step: ProbeStep, job_id: str, *, timeout_s: float) -> Capability | None:
        """Wait for the job's end and record what it proves; None if it proves nothing, or has no end in time."""
        try:
            async with asyncio.timeout(timeout_s):
                job = await self._ended(job_id)
        except TimeoutError:
            return None
        support = _support(step, job, await self._assets.of_job(job_id))
        if support is Support.UNKNOWN:
            return None
        finding = Capability(
            provider=step.provider,
            model=step.model,
            feature=step.feature,
            support=support,
            evidence=f"probed {job_id}",
            found_at=self._clock.now(),
        )
        await self._capabilities.record(finding)
        self._gate.forget()
        return finding

    async def _ended(self, job_id: str) -> Job:
        changes = cast("AsyncGenerator[None]", self._changes.watch(job_id))
        async with aclosing(changes):
            async for _ in changes:
                job = await self._jobs.get(job_id)
                if job is not None and job.is_final:
                    return job
        raise AssertionError("a watch has no end")

    async def _step(self, provider_id: str, model: str, feature: str) -> ProbeStep:
        """Return the cheapest call that uses the feature."""
        n_references = {"edit": 1, "edit_multi": 2, "mask": 1, "variation": 1}.get(feature, 0)
        best: ProbeStep | None = None
        for request in _requests(f"{provider_id}/{model}", feature):
            try:
                _, estimate = await self._accept.estimate(request, n_references=n_references)
            except CallRefused:
                continue  # no price for this size and quality
            price = estimate.total_microcredits
            if best is None or best.microcredits is None or price < best.microcredits:
                best = ProbeStep(provider_id, model, feature, request, n_references, price)
        if best is None:
            request = _requests(f"{provider_id}/{model}", feature)[0]
            best = ProbeStep(provider_id, model, feature, request, n_references, None)
        return best


def _requests(model: str, feature: str) -> list[ImageRequest]:
    """Return the ways to ask for a feature, over the sizes and qualities that may have a price."""
    kind, _, value = feature.partition(":")
    if kind in ("edit", "edit_multi", "mask"):
        operation = Operation.EDIT
    elif kind == "variation":
        operation = Operation.VARIATION
    elif kind == "generation" or (kind in ("size", "quality", "background", "output_format") and value):
        operation = Operation.GENERATION
    else:
        message = (
            f"Expected one of {', '.join(FEATURES)}, variation, size:…, quality:…, background:… or output_format:…."
        )
        raise CallRefused(Kind.INVALID, "invalid_value", message, param="feature")
    return [
        ImageRequest(
            operation=operation,
            model=model,
            prompt="" if operation is Operation.VARIATION else PROMPT,
            size=size,
            quality=quality,
            background=value if kind == "background" else "auto",
            output_format=value if kind == "output_format" else "png",
        )
        for size in ((value,) if kind == "size" else _SIZES)
        for quality in ((value,) if kind == "quality" else _QUALITIES)
    ]


def _uploads(step: ProbeStep) -> tuple[Upload, ...]:
    pictures = [sample_card(hue=i) for i in range(step.n_references)]
    uploads = [Upload(f"image[{i}]", "image", hashlib.sha256(it).hexdigest(), it) for i, it in enumerate(pictures)]
    if step.feature == "mask":
        mask = sample_mask()
        uploads.append(Upload("mask", "mask", hashlib.sha256(mask).hexdigest(), mask))
    return tuple(uploads)


def _support(step: ProbeStep, job: Job, assets: Sequence[Asset]) -> Support:
    if job.is_simulated:
        return Support.UNKNOWN  # a placeholder proves nothing about anything
    if job.state is JobState.FAILED and job.cause in _UNSUPPORTED:
        return Support.UNSUPPORTED
    if job.state is not JobState.SUCCEEDED or not assets:
        return Support.UNKNOWN
    kind, _, value = step.feature.partition(":")
    # A provider that takes the field and makes something else does not support it.
    if kind == "output_format" and assets[0].media_type != _MEDIA_TYPES.get(value):
        return Support.UNSUPPORTED
    if kind == "size" and value != "auto" and f"{assets[0].width}x{assets[0].height}" != value:
        return Support.UNSUPPORTED
    return Support.SUPPORTED
