"""The whole job line in one process: real use cases and stores, a provider that follows a script."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.svc_imagegen.jobs.kit import T0, accept, make_job

from qraft_contracts.billing import PricedItem
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.artefacts.port import ArtefactStore
from svc_imagegen.adapters.memory import MemoryBilling, MemoryCapabilityStore, MemoryTurn
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.job import Job, hold_id_of
from svc_imagegen.domain.outcome import BadPicture, Lookup, ProviderAnswer, ProviderOutcome, RawPicture
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import AssetStore, JobStore, ReferenceBytes, VerifiedPicture
from svc_imagegen.usecases.confirm import ConfirmMoney
from svc_imagegen.usecases.keep_pictures import KeepPictures
from svc_imagegen.usecases.observe import Observe
from svc_imagegen.usecases.run_job import RunJob, RunTerms
from svc_imagegen.usecases.sweep import Sweep, SweepTerms

PER_IMAGE = 10_000
FUNDS = 1_000_000


def png(shade: int = 0) -> bytes:
    """A whole 1 × 1 picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((0, shade % 256)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def answer(*shades: int, cost_microusd: int | None = 7) -> ProviderAnswer:
    return ProviderAnswer(
        pictures=tuple(RawPicture(png(it)) for it in shades), provider_request_id="p-1", cost_microusd=cost_microusd
    )


class SignedPictures:
    """The Pictures port for tests of the line: a PNG signature is a picture. The real one has its own tests."""

    async def verify(self, data: bytes) -> VerifiedPicture:
        if not data.startswith(b"\x89PNG"):
            raise BadPicture("bad_picture", "no PNG")
        return VerifiedPicture(data, "image/png", 1, 1, hashlib.sha256(data).hexdigest())

    async def sanitize(self, data: bytes, *, role: str) -> VerifiedPicture:
        return await self.verify(data)


@dataclass
class SteppedClock:
    """A clock that is moved by hand."""

    at: datetime = T0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - T0).total_seconds()

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


Script = ProviderAnswer | ProviderOutcome | Exception | Callable[[], Awaitable[ProviderAnswer]]


@dataclass
class ScriptedProvider:
    """The Provider port: the next line of the script is the outcome of the next call, the last one of all others."""

    script: list[Script] = field(default_factory=lambda: [answer(1, 2)])
    lookups: list[Lookup | Exception] = field(default_factory=lambda: [Lookup("unknown")])
    provider_id: str = "simulated"
    is_simulated: bool = True
    calls: Counter[str] = field(default_factory=Counter)  # by attempt id
    looked_up: list[str] = field(default_factory=list)

    def models(self) -> tuple[str, ...]:
        return ("simulated-1",)

    def declared(self, model: str, feature: str) -> Support:
        return Support.SUPPORTED

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        self.calls[attempt_id] += 1
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return line if isinstance(line, ProviderAnswer) else await line()

    async def look_up(self, provider_request_id: str) -> Lookup:
        self.looked_up.append(provider_request_id)
        line = self.lookups.pop(0) if len(self.lookups) > 1 else self.lookups[0]
        if isinstance(line, Exception):
            raise line
        return line

    async def close(self) -> None:
        return None


@dataclass
class Line:
    """Everything between an accepted job and its end."""

    jobs: JobStore
    assets: AssetStore
    clock: SteppedClock = field(default_factory=SteppedClock)
    provider: ScriptedProvider = field(default_factory=ScriptedProvider)
    artefacts: ArtefactStore = field(default_factory=MemoryArtefactStore)
    terms: RunTerms = field(default_factory=lambda: RunTerms(worker_id="w1"))

    def __post_init__(self) -> None:
        self.billing = MemoryBilling({("simulated", "simulated-1"): (PER_IMAGE, 0)}, clock=self.clock)
        self.billing.grant("acme", FUNDS)
        self.confirm = ConfirmMoney(jobs=self.jobs, assets=self.assets, billing=self.billing, clock=self.clock)
        self.capabilities = MemoryCapabilityStore()
        keep = KeepPictures(pictures=SignedPictures(), artefacts=self.artefacts)
        providers = {self.provider.provider_id: self.provider}
        self.run_job = RunJob(
            self.terms, jobs=self.jobs, confirm=self.confirm, keep=keep, providers=providers,
            observe=Observe(self.capabilities, clock=self.clock), artefacts=self.artefacts, clock=self.clock,
        )  # fmt: skip
        self.sweep = Sweep(
            SweepTerms(), jobs=self.jobs, billing=self.billing, confirm=self.confirm, keep=keep, providers=providers,
            turn=MemoryTurn(), clock=self.clock,
        )  # fmt: skip

    async def accept(self, job: Job | None = None) -> Job:
        """Hold the credits and store the job, as the gateway does."""
        job = job or make_job(created_at=self.clock.now(), deadline_at=self.clock.now() + timedelta(seconds=660))
        item = PricedItem(job.provider, job.request.model, job.request.operation.value, "auto", "auto", job.request.n)
        reply = await self.billing.reserve(account_id=job.account_id, job_id=job.job_id, item=item, lease_s=172_800)
        assert reply.outcome == "ok", reply
        return await accept(self.jobs, job)

    async def run(self, job: Job, *, is_redelivered: bool = False) -> float | None:
        return await self.run_job(job.job_id, is_redelivered=is_redelivered)

    async def job(self, job: Job) -> Job:
        found = await self.jobs.get(job.job_id)
        assert found is not None
        return found

    async def findings(self, job: Job) -> list[str]:
        return [finding for _, finding, _ in await self.jobs.audit(job.job_id)]

    async def available(self) -> int:
        reply = await self.billing.balance("acme")
        assert reply.balance is not None
        return reply.balance.available_microcredits

    def hold_state(self, job: Job) -> str:
        hold = self.billing.hold(hold_id_of(job.job_id))
        assert hold is not None
        return hold.state


async def hang() -> ProviderAnswer:
    await asyncio.sleep(3_600)
    raise AssertionError("nobody waits this long")
