"""The composition root: the only file that names concrete adapters."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from qraft_bus.nats import NatsBus
from qraft_bus.outbox import OutboxRelay
from qraft_bus.port import Bus, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.arrow_schemas import BARS_SCHEMA
from qraft_contracts.subjects import TARGETS_PAPER, bars_subject
from qraft_contracts.targets import Targets
from qraft_quant.costs import CostModel
from qraft_quant.execution import fill_rates
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.port import BarStore
from qraft_store.lake import open_bars
from qraft_web import static_dir
from svc_execution.adapters.database import SCHEMA, Database
from svc_execution.adapters.desk_reader import StoredDesk
from svc_execution.adapters.history import BarStoreHistory
from svc_execution.adapters.journal import PostgresJournal
from svc_execution.adapters.telling_bus import TellingBus
from svc_execution.api.desk import Desk
from svc_execution.api.events import Broadcast
from svc_execution.api.feed import DeskFeed
from svc_execution.api.routes import DeskRoutes
from svc_execution.domain.decide import OrderRules
from svc_execution.domain.refusals import VenueLimits
from svc_execution.handlers import EventMerge
from svc_execution.settings import ExecutionSettings
from svc_execution.usecases import AccountTerms, PaperAccount

NAME: Final = "svc_execution"
BARS_DURABLE: Final = "execution-bars"
TARGETS_DURABLE: Final = "execution-targets"

# A handler in progress either commits, which takes milliseconds, or waits for the other stream, which a draining bus
# brings no more. Its message stays unacknowledged and comes again.
_DRAIN_TIMEOUT_S: Final = 2.0
# No bar and no targets message is ever poison: skipping one would change the account without anybody saying so.
# A message that ends the process each time keeps the service down, in sight.
_MAX_DELIVERIES: Final = 1_000_000


class Application:
    """The wired service: start before the bus, background while it runs, stop after it."""

    def __init__(
        self, common: CommonSettings, settings: ExecutionSettings, *, bus: Bus, store: BarStore, clock: Clock
    ) -> None:
        market, interval = common.market, common.interval
        self.bus = bus
        self.health = Health()
        self.health.set_ready("journal", False, "the journal has not been read yet")
        self._database = Database(common.postgres_dsn)
        self._relay: OutboxRelay | None = None
        broadcast = Broadcast(n_clients_max=settings.n_event_clients_max)
        self.feed = DeskFeed(clock=clock, broadcast=broadcast)
        self.account = PaperAccount(
            _terms(common, settings),
            journal=PostgresJournal(self._database, committed=self._wake_relay),
            history=BarStoreHistory(store, market=market, interval=interval),
            told=self.feed,
        )
        self.merge = EventMerge(self.account, clock=clock, targets_deadline_s=settings.targets_deadline_s)
        reader = StoredDesk(self._database, store, market=market, interval=interval, start_cash=settings.start_cash)
        desk = Desk(reader, self.feed, market=market, interval=interval, symbols=lambda: self.account.symbols)
        self.routes: list[BaseRoute] = DeskRoutes(desk, reader, broadcast, web_static=static_dir()).routes()
        self.background = (self.merge.watch_deadline, self._run_relay)
        for subscription in _subscriptions(self.merge, interval):
            bus.subscribe(subscription)

    async def start(self) -> None:
        """Connect to the database and rebuild the account; raises JournalMismatch if the journal is not whole."""
        await self._database.open()
        await self.account.recover()
        self.health.set_ready("journal", True)

    async def stop(self) -> None:
        """Disconnect from the database."""
        await self._database.close()

    async def _run_relay(self) -> None:
        bus = TellingBus(self.bus, published=self.feed.published)
        self._relay = OutboxRelay(self._database.trade, schema=SCHEMA, bus=bus)
        await self._relay.run()

    def _wake_relay(self) -> None:
        if self._relay is not None:
            self._relay.wake()


def _terms(common: CommonSettings, settings: ExecutionSettings) -> AccountTerms:
    return AccountTerms(
        market=common.market,
        interval=common.interval,
        start_cash=settings.start_cash,
        rates=fill_rates(CostModel()),
        rules=OrderRules(
            band=settings.rebalance_band,
            min_notional=settings.min_notional,
            venue=VenueLimits(symbol_cap=settings.symbol_cap, gross_max=settings.gross_max),
        ),
    )


def _subscriptions(merge: EventMerge, interval: str) -> tuple[Subscription, ...]:
    return (
        Subscription(
            subject=bars_subject(interval), durable=BARS_DURABLE, handler=merge.on_bars, schemas=(BARS_SCHEMA,)
        ),
        Subscription(
            subject=TARGETS_PAPER, durable=TARGETS_DURABLE, handler=merge.on_targets, schemas=(Targets.SCHEMA,)
        ),
    )


def build(common: CommonSettings, settings: ExecutionSettings) -> Application:
    """Return the service with its real adapters."""
    bus_settings = BusSettings(drain_timeout_s=_DRAIN_TIMEOUT_S, max_deliveries=_MAX_DELIVERIES)
    bus = NatsBus(common.nats_url, name=NAME, settings=bus_settings)
    return Application(common, settings, bus=bus, store=open_bars(common), clock=SystemClock())


def run() -> int:
    """Run the service by the environment until it is told to stop; return the exit code."""
    common = CommonSettings()
    application = build(common, ExecutionSettings())
    return run_service(
        NAME,
        common,
        bus=application.bus,
        health=application.health,
        background=application.background,
        routes=application.routes,
        on_start=application.start,
        on_stop=application.stop,
    )
