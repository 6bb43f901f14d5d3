"""The composition root of the service. The operator's commands, which need no bus, are wired in `__main__`."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from starlette.routing import BaseRoute

from qraft_bus.nats import NatsBus
from qraft_bus.port import Bus
from qraft_bus.settings import BusSettings
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.adapters.postgres_reader import PostgresReader
from svc_billing.adapters.reading import PostgresReading
from svc_billing.adapters.relay import LedgerRelay
from svc_billing.api.routes import AdminApi
from svc_billing.handlers import Questions, UsageHandler
from svc_billing.settings import BillingSettings
from svc_billing.usecases.expire import Expiry
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.report import WriteWeeklyReport

NAME: Final = "svc_billing"
# A batch in progress takes milliseconds; a database that hangs is not waited for.
_DRAIN_TIMEOUT_S: Final = 10.0
# Allocations less deallocations, young collections, middle collections before the next older one is looked at; Python's
# own are 700, 10 and 10.
_GC_THRESHOLDS: Final = (20_000, 20, 20)
# Commands that wait at once from which the relay makes way for them.
_BUSY: Final = 16


class Application:
    """The wired service: start before the bus, background while it runs, stop after it."""

    def __init__(self, common: CommonSettings, settings: BillingSettings, *, bus: Bus, clock: Clock) -> None:
        self.bus = bus
        self.health = Health()
        self.health.set_ready("ledger", False, "the database has not been opened yet")
        self._database = Database(common.postgres_dsn)
        relay = LedgerRelay(self._database, bus=bus, is_busy=lambda: self._ledger.n_waiting >= _BUSY)
        self._ledger = Ledger(
            PostgresStore(self._database), clock=clock, queue_max=settings.n_waiting_max, committed=relay.take
        )
        self._running: asyncio.Task[None] | None = None
        reader, reading = PostgresReader(self._database), PostgresReading(self._database)
        report = WriteWeeklyReport(reading, machine=settings.machine(), clock=clock)
        questions = Questions(self._ledger, reader)
        expiry = Expiry(self._ledger, reader, clock=clock, interval_s=settings.expire_interval_s)
        for answerer in questions.answerers():
            bus.answer(answerer)
        bus.subscribe(UsageHandler(self._ledger).subscription())
        api = AdminApi(self._ledger, reader, reading, report)
        self.routes: list[BaseRoute] = api.routes(token=settings.admin_token)
        self.background = (self._watch_ledger, relay.run, expiry.run)

    async def start(self) -> None:
        """Connect to the database and begin to commit."""
        await self._database.open()
        self._running = asyncio.create_task(self._ledger.run())
        self.health.set_ready("ledger", True)

    async def stop(self) -> None:
        """Stop committing, after the bus has drained, and disconnect."""
        await _end(self._running)
        await self._database.close()

    async def _watch_ledger(self) -> None:
        """
        Wait for the end of the ledger's loop, which is a bug, and raise it.

        The loop is no background task itself: those end before the bus drains, and questions in progress would then
        wait for answers that nobody commits.
        """
        assert self._running is not None, "background runs after start"
        await asyncio.wait({self._running})
        self._running.result()


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def build(common: CommonSettings, settings: BillingSettings) -> Application:
    """Return the service with its real adapters."""
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings(drain_timeout_s=_DRAIN_TIMEOUT_S))
    return Application(common, settings, bus=bus, clock=SystemClock())


def spare_collections() -> None:
    """
    Take what lives as long as the process out of the garbage collector's sight, and let it look less often.

    A full collection over the ninety thousand objects of the modules stops every command (measured on a busy machine:
    240 ms). What a command makes has no cycles; the bounds of the queue bound what waits for a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def run() -> int:
    """Run the service by the environment until it is told to stop; return the exit code."""
    common = CommonSettings()
    application = build(common, BillingSettings())

    async def start() -> None:
        await application.start()
        spare_collections()

    return run_service(
        NAME,
        common,
        bus=application.bus,
        health=application.health,
        background=application.background,
        routes=application.routes,
        on_start=start,
        on_stop=application.stop,
    )
