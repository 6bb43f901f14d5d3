"""A gateway over real HTTP with a provider that paints what is asked for, or does not, over the twins of the stores."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from tests.kit.servers import free_port

from qraft_runtime.clock import SystemClock
from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app, serve_http
from qraft_store.artefacts.memory import MemoryArtefactStore
from svc_imagegen.adapters.downloads import GuardedDownloads
from svc_imagegen.adapters.gateway_http import HttpGateway
from svc_imagegen.adapters.guard import AddressPolicy, SystemResolve
from svc_imagegen.adapters.memory import (
    MemoryAssetStore,
    MemoryBilling,
    MemoryCapabilityStore,
    MemoryJobStore,
    MemoryKeyStore,
)
from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.adapters.providers.simulated import SimulatedProvider
from svc_imagegen.api.routes import Gateway, GatewayParts
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.outcome import Lookup, ProviderAnswer, RawPicture, Rejected
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ApiKey, Provider, ReferenceBytes
from svc_imagegen.usecases.accept import AcceptTerms
from svc_imagegen.usecases.acceptance import Refusal
from svc_imagegen.usecases.authenticate import ADMIN, READ, WRITE, new_key_text, sha256_of_key
from svc_imagegen.usecases.confirm import ConfirmMoney
from svc_imagegen.usecases.keep_pictures import KeepPictures
from svc_imagegen.usecases.observe import Observe
from svc_imagegen.usecases.run_job import RunJob, RunTerms

CREDIT = 1_000_000
PRICE = 40 * CREDIT
REFERENCE_PRICE = 5 * CREDIT
ACCOUNT = "acme"


@dataclass
class PaintingProvider:
    """A paid provider. faults: what it does wrong; features: what its adapter declares, unknown otherwise."""

    provider_id: str = "paints"
    is_simulated: bool = False
    faults: frozenset[str] = frozenset()
    features: dict[str, Support] = field(default_factory=dict)
    requests: list[ImageRequest] = field(default_factory=list)

    def models(self) -> tuple[str, ...]:
        return ("oil-1",)

    def declared(self, model: str, feature: str) -> Support:
        return self.features.get(feature, Support.UNKNOWN)

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        self.requests.append(request)
        if "no mask" in self.faults and request.mask is not None:
            raise Rejected("unsupported", "masks are not supported", param="mask")
        if "policy" in self.faults:
            raise Rejected("content_policy", "unsafe")
        width, height = (64, 64) if request.size == "auto" else map(int, request.size.split("x"))
        if "wrong size" in self.faults:
            width += 16
        kind = "PNG" if "wrong format" in self.faults else request.output_format.upper()
        written = io.BytesIO()
        Image.new("RGB", (width, height), (len(references) * 60, 90, 160)).save(written, format=kind)
        return ProviderAnswer((RawPicture(written.getvalue()),), provider_request_id=attempt_id, cost_microusd=9)

    async def look_up(self, provider_request_id: str) -> Lookup:
        return Lookup("unknown")

    async def close(self) -> None:
        return


ALL_SUPPORTED = dict.fromkeys(("generation", "edit", "edit_multi", "mask"), Support.SUPPORTED)


@dataclass
class Stage:
    url: str
    key: str
    billing: MemoryBilling
    capabilities: MemoryCapabilityStore
    artefacts: MemoryArtefactStore
    jobs: MemoryJobStore
    gateway: HttpGateway


@asynccontextmanager
async def staged(*providers: Provider, is_priced: bool = True) -> AsyncIterator[Stage]:
    """Serve while the block runs; the simulated provider comes first."""
    clock, assets, artefacts = SystemClock(), MemoryAssetStore(), MemoryArtefactStore()
    everyone: tuple[Provider, ...] = (SimulatedProvider(), *providers)
    tasks: set[asyncio.Task[Any]] = set()

    def on_told(job: Job, transition: str) -> None:
        if transition == "created":
            task = asyncio.create_task(run_job(job.job_id, is_redelivered=False))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    jobs = MemoryJobStore(assets=assets, on_told=on_told)
    models = [(it.provider_id, model) for it in everyone for model in it.models()]
    billing = MemoryBilling(dict.fromkeys(models, (PRICE, REFERENCE_PRICE)) if is_priced else {})
    billing.grant(ACCOUNT, 100_000 * CREDIT)
    pictures = ProcessPictures(n_workers=2)
    capabilities = MemoryCapabilityStore()
    confirm = ConfirmMoney(jobs=jobs, assets=assets, billing=billing, clock=clock)
    run_job = RunJob(
        RunTerms(worker_id="test"),
        jobs=jobs,
        confirm=confirm,
        keep=KeepPictures(pictures=pictures, artefacts=artefacts),
        observe=Observe(capabilities, clock=clock),
        providers={it.provider_id: it for it in everyone},
        artefacts=artefacts,
        clock=clock,
    )
    keys = MemoryKeyStore()
    text = new_key_text()
    await keys.create(
        ApiKey("key_1", ACCOUNT, "test", frozenset({WRITE, READ, ADMIN}), clock.now(), None), sha256_of_key(text)
    )
    downloads = GuardedDownloads(policy=AddressPolicy(), resolve=SystemResolve())
    parts = GatewayParts(
        keys=keys,
        jobs=jobs,
        assets=assets,
        capabilities=capabilities,
        billing=billing,
        providers=everyone,
        pictures=pictures,
        downloads=downloads,
        artefacts=artefacts,
        changes=jobs.changes,
        clock=clock,
        default_model="simulated-1",
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    gateway = Gateway(parts, terms=GatewayTerms(public_url=url), accept_terms=AcceptTerms())
    app = build_http_app(Health(), gateway.routes())
    async with serve_http(app, host="127.0.0.1", port=port), HttpGateway(url, key=text) as client:
        await _until_listening(client)
        yield Stage(url, text, billing, capabilities, artefacts, jobs, client)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await pictures.close()
    await downloads.close()


async def _until_listening(client: HttpGateway) -> None:
    for _ in range(500):
        try:
            await client.check_key()
        except Refusal:
            await asyncio.sleep(0.01)
            continue
        return
