"""The composition root: the only file that names concrete adapters."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from starlette.routing import BaseRoute

from qraft_bus.nats import NatsBus
from qraft_bus.port import Bus
from qraft_bus.settings import BusSettings
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import Background, run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters.assets_rows import PostgresAssetStore
from svc_imagegen.adapters.billing_bus import BusBilling
from svc_imagegen.adapters.capabilities_postgres import PostgresCapabilityStore
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.downloads import GuardedDownloads
from svc_imagegen.adapters.guard import AddressPolicy, SystemResolve
from svc_imagegen.adapters.jobs_changes import PostgresJobChanges
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.adapters.jobs_rows import Row
from svc_imagegen.adapters.jobs_turn import PostgresTurn
from svc_imagegen.adapters.keys_postgres import PostgresKeyStore
from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.adapters.providers.build import build_providers
from svc_imagegen.adapters.providers.config import load_config
from svc_imagegen.adapters.teller import Published, Teller
from svc_imagegen.api.console import Desk
from svc_imagegen.api.routes import Gateway, GatewayParts
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.transitions import Change
from svc_imagegen.handlers import CreatedJobs, Queue
from svc_imagegen.ports import Provider
from svc_imagegen.settings import GATEWAY, ImagegenSettings
from svc_imagegen.usecases.accept import AcceptTerms
from svc_imagegen.usecases.confirm import ConfirmMoney
from svc_imagegen.usecases.keep_pictures import KeepPictures
from svc_imagegen.usecases.observe import Observe
from svc_imagegen.usecases.run_job import RunJob, RunTerms
from svc_imagegen.usecases.sweep import Sweep, SweepTerms

NAME: Final = "svc_imagegen"
_DRAIN_MARGIN_S: Final = 10.0  # to flush and disconnect after the last call
_N_SIMULATED_CONCURRENT: Final = 64  # not in the providers file, and nothing is saved by fewer
_CALL_S_MIN: Final = 120.0  # the pace of the slowest models; a call is not begun with less time left
_HOLD_MARGIN_S: Final = 86_400  # a hold outlives every job that could be open
_N_DECODERS_MAX: Final = 4
_N_OBJECTS_BETWEEN_COLLECTIONS: Final = 10_000


class Application:
    """The wired service: start before the bus, background while it runs, stop after it."""

    def __init__(self, common: CommonSettings, settings: ImagegenSettings, *, bus: Bus, clock: Clock) -> None:
        self.bus = bus
        self.health = Health()
        self.health.set_ready("database", False, "the database has not been opened yet")
        self._database = Database(common.postgres_dsn)
        self._changes = PostgresJobChanges(self._database, n_waiters_max=2 * settings.n_waiting_max)
        self._pictures = ProcessPictures(
            n_workers=min(_N_DECODERS_MAX, os.cpu_count() or 1), n_pixels_max=settings.pixels_max
        )
        published = Published()
        self._teller = Teller(self._database, bus=bus, published=published)
        self.jobs = PostgresJobStore(self._database, stored=self._on_stored, published=published)
        self.assets = PostgresAssetStore(self._database)
        self.keys = PostgresKeyStore(self._database)
        self.capabilities = PostgresCapabilityStore(self._database)
        self.billing = BusBilling(bus)
        self.artefacts = ObjectArtefactStore(common.artefacts)
        self._resolve = SystemResolve()
        self.providers = build_providers(settings.providers, environ=os.environ, resolve=self._resolve, clock=clock)
        confirm = ConfirmMoney(jobs=self.jobs, assets=self.assets, billing=self.billing, clock=clock)
        keep = KeepPictures(pictures=self._pictures, artefacts=self.artefacts)
        call_s_min = min(_CALL_S_MIN, settings.job_timeout_s / 2)
        self.sweep = Sweep(
            SweepTerms(
                interval_s=settings.sweep_interval_s,
                uncertain_deadline_s=settings.uncertain_deadline_s,
                call_s_min=call_s_min,
                orphan_after_s=settings.orphan_after_s,
                check_first_s=settings.check_first_s,
            ),
            jobs=self.jobs, billing=self.billing, confirm=confirm, keep=keep, providers=self.providers,
            turn=PostgresTurn(self._database), clock=clock,
        )  # fmt: skip
        self.routes: list[BaseRoute] = []
        self.background: list[Background] = [self._teller.run]
        if settings.is_gateway:
            self.routes = self._gateway(settings, confirm=confirm, clock=clock).routes()
            self.background += [self.sweep.run, self._changes.run]
        if settings.is_worker:
            run_job = RunJob(
                RunTerms(
                    worker_id=_worker_id(),
                    lease_s=settings.lease_s,
                    call_s_min=call_s_min,
                    check_first_s=settings.check_first_s,
                ),
                jobs=self.jobs, confirm=confirm, keep=keep, observe=Observe(self.capabilities, clock=clock),
                providers=self.providers, artefacts=self.artefacts, clock=clock,
            )  # fmt: skip
            CreatedJobs(run_job).subscribe(bus, _queues(settings, self.providers))

    async def start(self) -> None:
        """Connect to the database and start the decoders."""
        await self.open_database()
        await self._pictures.open()
        # What the imports left is never garbage; looking through it again and again cost a tenth of the gateway's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_N_OBJECTS_BETWEEN_COLLECTIONS)

    async def open_database(self) -> None:
        """Connect to the database; decoders start when the first picture comes."""
        await self._database.open()
        self.health.set_ready("database", True)

    async def stop(self) -> None:
        """Let the last changes be stored, and let go of everything."""
        await self.jobs.close()
        await self._pictures.close()
        await asyncio.gather(*(it.close() for it in self.providers.values()))
        await self._database.close()

    def _gateway(self, settings: ImagegenSettings, *, confirm: ConfirmMoney, clock: Clock) -> Gateway:
        parts = GatewayParts(
            keys=self.keys,
            jobs=self.jobs,
            assets=self.assets,
            capabilities=self.capabilities,
            billing=self.billing,
            providers=list(self.providers.values()),
            pictures=self._pictures,
            downloads=GuardedDownloads(policy=AddressPolicy(), resolve=self._resolve),
            artefacts=self.artefacts,
            changes=self._changes,
            clock=clock,
            default_model=settings.default_model,
            confirm=confirm,
        )
        return Gateway(parts, terms=_gateway_terms(settings), accept_terms=_accept_terms(settings))

    def _on_stored(self, changes: Sequence[Change], rows: Sequence[Row]) -> None:
        self._changes.announce([it.job for it in changes if not it.is_quiet])
        if rows:
            self._teller.tell(rows)


def _gateway_terms(settings: ImagegenSettings) -> GatewayTerms:
    return GatewayTerms(
        sync_window_s=settings.sync_window_s,
        stream_window_s=settings.job_timeout_s + 60,
        n_waiting_max=settings.n_waiting_max,
        body_bytes_max=settings.body_bytes_max,
        reference_bytes_max=settings.reference_bytes_max,
        references_max=settings.references_max,
        pixels_max=settings.pixels_max,
        public_url=settings.public_url,
    )


def _accept_terms(settings: ImagegenSettings) -> AcceptTerms:
    return AcceptTerms(
        job_timeout_s=settings.job_timeout_s,
        hold_lease_s=int(settings.uncertain_deadline_s) + _HOLD_MARGIN_S,
        join_window_s=settings.join_window_s,
    )


def _queues(settings: ImagegenSettings, providers: Mapping[str, Provider]) -> list[Queue]:
    caps = {it.id: it.n_concurrent for it in load_config(settings.providers).provider}
    return [Queue(it, caps.get(it, _N_SIMULATED_CONCURRENT), settings.ack_wait_s) for it in providers]


def _worker_id() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def build(common: CommonSettings, settings: ImagegenSettings) -> Application:
    """Return the service with its real adapters."""
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings(drain_timeout_s=settings.drain_s))
    return Application(common, settings, bus=bus, clock=SystemClock())


def run() -> int:
    """Run the service by the environment until it is told to stop; return the exit code."""
    common, settings = CommonSettings(), ImagegenSettings()
    application = build(common, settings)
    return run_service(
        NAME,
        common,
        bus=application.bus,
        health=application.health,
        background=application.background,
        routes=application.routes,
        on_start=application.start,
        on_stop=application.stop,
        drain_timeout_s=settings.drain_s + _DRAIN_MARGIN_S,
    )


@asynccontextmanager
async def open_desk(*, needs_bus: bool) -> AsyncIterator[Desk]:
    """
    Yield what the operator's sub-commands work on; the bus only for those that ask billing.

    Raises:
        Transient: if the database or the bus is away.
    """
    application = build(CommonSettings(), ImagegenSettings(roles=frozenset({GATEWAY})))
    try:
        with as_transient():
            await application.open_database()
    except psycopg.OperationalError as error:  # out of the migration, which comes first
        raise Transient("postgres_away", " ".join(str(error).split())) from error
    if needs_bus:
        await application.bus.start()
    try:
        yield Desk(
            jobs=application.jobs,
            assets=application.assets,
            keys=application.keys,
            capabilities=application.capabilities,
            providers=application.providers,
            sweep=application.sweep,
            clock=SystemClock(),
        )
    finally:
        if needs_bus:
            await application.bus.drain()
        await application.stop()
