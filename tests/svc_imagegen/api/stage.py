"""
The gateway as a client meets it: real HTTP, real picture checks, the real worker, over the twins of store and ledger.

It runs in a thread with a loop of its own, so that the synchronous `openai` client can be used from a test.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

import httpx
import msgspec
from PIL import Image
from tests.kit.servers import free_port

from qraft_contracts.billing import OK, BillingReply
from qraft_runtime.clock import SystemClock
from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app, serve_http
from qraft_store.artefacts.memory import MemoryArtefactStore
from svc_imagegen.adapters.assets_rows import PostgresAssetStore
from svc_imagegen.adapters.capabilities_postgres import PostgresCapabilityStore
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.downloads import GuardedDownloads
from svc_imagegen.adapters.guard import AddressPolicy, SystemResolve
from svc_imagegen.adapters.jobs_changes import PostgresJobChanges
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.adapters.jobs_rows import Row
from svc_imagegen.adapters.keys_postgres import PostgresKeyStore
from svc_imagegen.adapters.memory import (
    MemoryAssetStore,
    MemoryBilling,
    MemoryCapabilityStore,
    MemoryJobChanges,
    MemoryJobStore,
    MemoryKeyStore,
)
from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.adapters.providers.simulated import SimulatedProvider
from svc_imagegen.api.routes import Gateway, GatewayParts
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.job import Job
from svc_imagegen.domain.outcome import (
    Lookup,
    NotDelivered,
    ProviderAnswer,
    RawPicture,
    Rejected,
    Uncertain,
)
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.domain.transitions import Change
from svc_imagegen.ports import ApiKey, AssetStore, CapabilityStore, JobChanges, JobStore, KeyStore, ReferenceBytes
from svc_imagegen.usecases.accept import AcceptTerms
from svc_imagegen.usecases.authenticate import READ, WRITE, new_key_text, sha256_of_key
from svc_imagegen.usecases.confirm import ConfirmMoney
from svc_imagegen.usecases.keep_pictures import KeepPictures
from svc_imagegen.usecases.observe import Observe
from svc_imagegen.usecases.run_job import RunJob, RunTerms

ResultT = TypeVar("ResultT")

CREDIT = 1_000_000
PRICE = 40 * CREDIT
REFERENCE_PRICE = 5 * CREDIT
_numbers = count(1)


def png(width: int = 16, height: int = 16, *, mode: str = "RGB", color: str = "teal") -> bytes:
    written = io.BytesIO()
    Image.new(mode, (width, height), color).save(written, format="PNG")
    return written.getvalue()


class ScriptedProvider:
    """
    A paid provider that does what the prompt says: `hold` waits for `let_go`, `policy`, `uncertain`, `refused`, `html`.

    pic-1 can do everything; nothing is known of pic-unknown; pic-plain only generates; pic-unpriced has no price.
    """

    provider_id = "scripted"
    is_simulated = False

    def __init__(self) -> None:
        self.n_calls: Counter[str] = Counter()
        self.requests: list[tuple[ImageRequest, list[bytes]]] = []
        self._let_go = asyncio.Event()

    def models(self) -> tuple[str, ...]:
        return ("pic-1", "gpt-image-2", "pic-unknown", "pic-plain", "pic-unpriced", "simulated-1")

    def declared(self, model: str, feature: str) -> Support:
        if model == "pic-unknown":
            return Support.UNKNOWN
        if model == "pic-plain":
            return Support.SUPPORTED if feature == "generation" or ":" in feature else Support.UNSUPPORTED
        if feature.startswith("extra:"):
            return Support.SUPPORTED if feature == "extra:seed" else Support.UNKNOWN
        return Support.SUPPORTED

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        self.n_calls[request.prompt] += 1
        self.requests.append((request, [it.data for it in references]))
        match request.prompt.split(" ")[0]:
            case "hold":
                await self._let_go.wait()
            case "policy":
                raise Rejected("content_policy", "unsafe prompt", param="prompt")
            case "refused":
                raise Rejected("bad_request", "no such style")
            case "uncertain":
                raise Uncertain("provider_error", "the provider answered 502")
            case "unreached":
                raise NotDelivered("not_connected")
            case "html":
                return ProviderAnswer((RawPicture(b"<html>sorry</html>"),))
        width, height = (16, 16) if request.size == "auto" else map(int, request.size.split("x"))
        pictures = tuple(RawPicture(png(width + i, height)) for i in range(request.n))
        return ProviderAnswer(pictures, provider_request_id=attempt_id, cost_microusd=40_000)

    async def look_up(self, provider_request_id: str) -> Lookup:
        return Lookup("unknown")

    async def close(self) -> None:
        return

    def let_go(self) -> None:
        self._let_go.set()
        self._let_go = asyncio.Event()


class TerseBilling(MemoryBilling):
    """The ledger's twin, whose refusals hold no price: neither do those of svc_billing."""

    async def reserve(self, **command: Any) -> BillingReply:
        reply = await super().reserve(**command)
        return reply if reply.outcome == OK else msgspec.structs.replace(reply, estimate=None)


@dataclass(frozen=True)
class Person:
    """An account with a key of its own."""

    account_id: str
    key_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@dataclass
class Stage:
    """A running gateway with its worker."""

    loop: asyncio.AbstractEventLoop
    url: str
    keys: KeyStore
    jobs: JobStore
    assets: AssetStore
    billing: MemoryBilling
    provider: ScriptedProvider
    gateway: Gateway

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=10)  # one for many calls: each reads the certificates

    def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run something on the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def person(
        self, *, n_credits: int = 1_000, scopes: Sequence[str] = (WRITE, READ), account_id: str | None = None
    ) -> Person:
        number = next(_numbers)
        account_id = account_id or f"account-{number}"
        text = new_key_text()
        key = ApiKey(f"key_{number}", account_id, "test", frozenset(scopes), SystemClock().now(), None)
        self.call(self.keys.create(key, sha256_of_key(text)))
        if n_credits:
            self.billing.grant(account_id, n_credits * CREDIT)
        return Person(account_id, key.key_id, text)

    def jobs_of(self, person: Person) -> list[Job]:
        return list(self.call(self.jobs.list_jobs(person.account_id, limit=1_000, before=None)))

    def holds_of(self, person: Person) -> list[Any]:
        return [it for it in self.billing.holds if it.account_id == person.account_id]

    def let_go(self) -> None:
        """Let every provider call that holds go on."""
        self.loop.call_soon_threadsafe(self.provider.let_go)


@contextmanager
def staged(
    terms: GatewayTerms | None = None, *, is_worked: bool = True, postgres_dsn: str | None = None
) -> Iterator[Stage]:
    """Run a gateway while the block runs. is_worked False: nothing takes up the jobs; without a DSN on the twins."""
    started: list[Stage] = []
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(
            lambda: asyncio.run(_serve(terms or GatewayTerms(), is_worked, postgres_dsn, started, stop))
        )
        try:
            while not started:
                if serving.done():
                    serving.result()
                time.sleep(0.01)
            yield started[0]
        finally:
            stop.set()
    serving.result()


async def _serve(
    terms: GatewayTerms, is_worked: bool, dsn: str | None, started: list[Stage], stop: threading.Event
) -> None:
    clock, artefacts = SystemClock(), MemoryArtefactStore()
    provider, simulated = ScriptedProvider(), SimulatedProvider()
    tasks: set[asyncio.Task[Any]] = set()

    def run(job_id: str) -> None:
        if is_worked:
            task = asyncio.create_task(run_job(job_id, is_redelivered=False))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    stores = _memory_stores(run) if dsn is None else await _postgres_stores(dsn, run)
    jobs, assets = stores.jobs, stores.assets
    priced = [("scripted", it) for it in provider.models() if it != "pic-unpriced"] + [("simulated", "simulated-1")]
    billing = TerseBilling(dict.fromkeys(priced, (PRICE, REFERENCE_PRICE)))
    pictures = ProcessPictures(n_workers=1)
    confirm = ConfirmMoney(jobs=jobs, assets=assets, billing=billing, clock=clock)
    run_job = RunJob(
        RunTerms(worker_id="test"),
        jobs=jobs,
        confirm=confirm,
        keep=KeepPictures(pictures=pictures, artefacts=artefacts),
        observe=Observe(stores.capabilities, clock=clock),
        providers={"scripted": provider, "simulated": simulated},
        artefacts=artefacts,
        clock=clock,
    )
    downloads = GuardedDownloads(policy=AddressPolicy(), resolve=SystemResolve())
    parts = GatewayParts(
        keys=stores.keys,
        jobs=jobs,
        assets=assets,
        capabilities=stores.capabilities,
        billing=billing,
        providers=(simulated, provider),
        pictures=pictures,
        downloads=downloads,
        artefacts=artefacts,
        changes=stores.changes,
        clock=clock,
        default_model="simulated-1",
        confirm=confirm,
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    gateway = Gateway(parts, terms=replace(terms, public_url=url), accept_terms=AcceptTerms())
    async with serve_http(build_http_app(Health(), gateway.routes()), host="127.0.0.1", port=port):
        await _until_listening(port)
        loop = asyncio.get_running_loop()
        started.append(Stage(loop, url, stores.keys, jobs, assets, billing, provider, gateway))
        while not stop.is_set():
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await pictures.close()
    await downloads.close()
    await stores.close()


@dataclass(frozen=True)
class Stores:
    """What may be a twin or the real one."""

    keys: KeyStore
    jobs: JobStore
    assets: AssetStore
    capabilities: CapabilityStore
    changes: JobChanges
    close: Callable[[], Coroutine[Any, Any, None]]


def _memory_stores(run: Callable[[str], None]) -> Stores:
    def on_told(job: Job, transition: str) -> None:
        if transition == "created":
            run(job.job_id)

    async def close() -> None:
        return

    assets, changes = MemoryAssetStore(), MemoryJobChanges(poll_s=0.2)
    jobs = MemoryJobStore(assets=assets, changes=changes, on_told=on_told)
    return Stores(MemoryKeyStore(), jobs, assets, MemoryCapabilityStore(), changes, close)


async def _postgres_stores(dsn: str, run: Callable[[str], None]) -> Stores:
    def on_stored(found: Sequence[Change], told: Sequence[Row]) -> None:
        changes.announce([it.job for it in found])
        for row in told:
            if row[1].startswith("imagejob.created."):
                run(row[6].removeprefix("job/"))

    async def close() -> None:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await jobs.close()
        await database.close()

    database = Database(dsn)
    await database.open()
    changes = PostgresJobChanges(database)
    jobs = PostgresJobStore(database, stored=on_stored)
    listening = asyncio.create_task(changes.run())
    capabilities = PostgresCapabilityStore(database)
    return Stores(PostgresKeyStore(database), jobs, PostgresAssetStore(database), capabilities, changes, close)


async def _until_listening(port: int) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return
