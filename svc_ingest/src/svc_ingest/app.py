"""Composition root: the only place that names concrete adapters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.streams import stream_of
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Outcome, Transient
from qraft_contracts.subjects import INTERVAL_SECONDS, bars_subject
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.port import BarStore
from qraft_store.lake import open_bars, open_tables
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs
from svc_ingest.adapters.catalogue import OURS, read_catalogue
from svc_ingest.adapters.collected import LakeRecord, refused_counts, table_of, write_collect_report
from svc_ingest.adapters.files import FileSource
from svc_ingest.adapters.late_rows import ReadMark
from svc_ingest.adapters.market_state import LakeState
from svc_ingest.adapters.polling import PolledExchange, Polling, polling_of, small_deriver_of
from svc_ingest.adapters.readers import FileReader
from svc_ingest.adapters.report import write_report
from svc_ingest.adapters.simulator import MarketSimulator
from svc_ingest.adapters.state_files import StateFiles
from svc_ingest.api.events import log_progress, print_collected, print_event, print_progress
from svc_ingest.api.feeds import feed_routes
from svc_ingest.api.replay import replay_routes
from svc_ingest.domain.faults import QualityReport
from svc_ingest.domain.quality import QualityCheck
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.row_judge import RowJudge
from svc_ingest.domain.tally import Named, Tally
from svc_ingest.domain.venue_feeds import CONTRACTS, FEEDS, Banned, bar_feed
from svc_ingest.ports import BarsBus, BarSource, MarketState
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases.backfill import Backfill
from svc_ingest.usecases.collect import Collector, Selection
from svc_ingest.usecases.faults import keep_refused
from svc_ingest.usecases.join_state import StateJoin
from svc_ingest.usecases.kept_live import KeptLive
from svc_ingest.usecases.line import Line
from svc_ingest.usecases.load import LoadProgress
from svc_ingest.usecases.pace import FlowControl, ReplayPace
from svc_ingest.usecases.publish import Publisher, ReplayState
from svc_ingest.usecases.refill import refill
from svc_ingest.usecases.run import IngestRun

if TYPE_CHECKING:
    from qraft_data.bundle.sources import Stores
    from svc_ingest.api.data_commands import StoredData

NAME = "svc_ingest"


def build(
    common: CommonSettings, settings: IngestSettings, *, source: BarSource, store: BarStore, bus: BarsBus,
    clock: Clock, on_progress: Callable[[LoadProgress], None], state: MarketState | None = None,
    load_state: Callable[[], Awaitable[None]] | None = None,
) -> IngestRun:  # fmt: skip
    """Wire one line of bars from a source to the bus; state: what goes out beside them, load_state: brings it in."""
    report = QualityReport()
    record = LakeRecord(common.lake)
    keep = partial(keep_refused, record.add_refused, f"line.{common.market}.{common.interval}")
    # The simulator's time is its own.
    is_judged = source.origin is not Origin.SIMULATED
    judge = RowJudge(common.market, common.interval, lambda: micros_of(clock.now()), keep) if is_judged else None
    check = QualityCheck(
        market=common.market, interval=common.interval, origin=source.origin, report=report, judge=judge
    )
    line = Line(source, store, check, common.market, common.interval)
    flow = FlowControl(bus, stream=stream_of(bars_subject(common.interval)), max_bars_ahead=settings.max_bars_ahead)
    playing = ReplayState(is_live=source.is_live)
    publisher = Publisher(line, bus, ReplayPace(settings.speed), flow, playing, StateJoin(state))

    def on_report(kind: str) -> None:
        path = common.home / "reports" / "ingest" / f"{kind}.{common.market}.{common.interval}.json"
        write_report(path, report, source=source, market=common.market, interval=common.interval)
        logs.get().info("quality.reported", path=str(path), **report.as_dict()["totals"])

    first, last = settings.replay_from, settings.replay_until
    return IngestRun(publisher, clock, Health(), first, last, on_progress, on_report, load_state)


def has_state(common: CommonSettings, source: BarSource) -> bool:
    """Return whether bars of a source go out with the state of a market; simulated ones never do."""
    return bool(common.state_market) and source.origin is not Origin.SIMULATED


async def load_state(common: CommonSettings, settings: IngestSettings, source: BarSource, *, clock: Clock) -> None:
    """
    Bring the state of the market into the lake beside the bars of a data set of QRAFT_DATA.

    Nothing for other sources: an exchange is polled, and bars of one's own may be of other times and symbols.
    """
    is_ours = settings.dataset_folder.resolve().is_relative_to(settings.data.resolve())
    if has_state(common, source) and not source.is_live and is_ours:
        files = StateFiles(settings.catalogue or OURS, settings.data, common.lake, common.state_market, clock)
        with lake_of(common) as lake:
            loading = asyncio.ensure_future(asyncio.to_thread(files.load, lake.bars, lake.tables))
            try:
                await asyncio.shield(loading)
            finally:
                await asyncio.wait([loading])  # a thread cannot be cancelled, and its stores must not close before it


async def choose_source(settings: IngestSettings, *, interval: str, clock: Clock) -> BarSource:
    """
    Return the source that the settings name; for `auto` the best that is there: files, an exchange, the simulator.

    What was tried and what was taken is logged.

    Raises:
        Malformed: if the settings name something that does not exist.
    """
    kind = settings.source
    if kind == "auto" and settings.dataset_folder.is_dir():
        kind = "files"
    elif kind == "auto":
        logs.get().info("source.unavailable", source="files", why=f"no folder {settings.dataset_folder}")
        kind = "exchange" if await _answers(_exchange(settings, interval, clock, retries_max=1)) else "simulated"
    source: BarSource
    if kind == "files":
        source = FileSource(
            settings.dataset_folder, interval=interval, symbols=settings.symbols, history_from=settings.history_from
        )
    elif kind == "exchange":
        source = _exchange(settings, interval, clock, retries_max=5)
    else:
        symbols, n_days = settings.named_symbols, settings.simulated_days
        source = MarketSimulator(interval=interval, symbols=symbols, seed=settings.seed, n_days=n_days)
    logs.get().info("source.chosen", source=source.description, origin=source.origin.value, setting=settings.source)
    return source


async def _answers(source: BarSource) -> bool:
    """Return whether the exchange's public API can be used from here."""
    try:
        await source.open()
    except Outcome as error:
        logs.get().warning("source.unavailable", source=source.description, why=str(error)[:300])
        return False
    finally:
        await source.close()
    return True


def _exchange(settings: IngestSettings, interval: str, clock: Clock, *, retries_max: int) -> BarSource:
    # ccxt costs a second of start and 50 MB; only those who use it pay.
    from svc_ingest.adapters.exchange import ExchangeSettings, ExchangeSource

    venue = ExchangeSettings(
        exchange_id=settings.exchange,
        symbols=settings.named_symbols,
        history=settings.history,
        url=settings.exchange_url,
        retries_max=retries_max,
    )
    return ExchangeSource(venue, interval=interval, clock=clock)


def serve(common: CommonSettings, settings: IngestSettings) -> int:
    """Run the service and return the exit code."""
    clock, lake = SystemClock(), open_bars(common)
    source = asyncio.run(choose_source(settings, interval=common.interval, clock=clock))
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings())
    mark = ReadMark()
    state = LakeState(open_tables(common), common.state_market, mark) if has_state(common, source) else None

    async def bring_state() -> None:
        await load_state(common, settings, source, clock=clock)
        if source.is_live:  # what commands collect from now on must not look as if this line had seen it
            await asyncio.to_thread(LakeRecord(common.lake).set_live, clock.now())
        if polling.first_pass is not None:
            await polling.first_pass()

    run = build(
        common, settings, source=source, store=lake, bus=bus, clock=clock, on_progress=log_progress, state=state,
        load_state=bring_state,
    )  # fmt: skip
    polling = poller_of(common, settings, source, clock=clock, health=run.health, mark=mark)
    is_alive = state is not None and source.is_live
    deriving = [small_deriver_of(common, clock=clock, health=run.health, mark=mark).serve] if is_alive else []

    async def close() -> None:
        await source.close()
        if polling.close is not None:
            await polling.close()
        lake.close()

    return run_service(
        NAME,
        common,
        bus=bus,
        health=run.health,
        background=[run.serve, *polling.background, *deriving, *([state.keep_fresh] if state else ())],
        routes=[*replay_routes(run.publisher), *(feed_routes(polling.feeds) if polling.feeds else ())],
        on_stop=close,
    )


def poller_of(
    common: CommonSettings, settings: IngestSettings, source: BarSource, *,
    clock: Clock, health: Health, mark: ReadMark,
) -> Polling:  # fmt: skip
    """
    Wire the polling of the venue's other kinds, where the settings and the source want it.

    Raises:
        Malformed: if the settings want it beside bars that are not live: known times of now and of then do not mix; or
            if they name what cannot be polled.
    """
    if not (source.is_live if settings.poll is None else settings.poll):
        return Polling()
    if not source.is_live:
        raise Malformed("poll_without_live_bars", f"QRAFT_INGEST_POLL needs an exchange, not {source.description}")
    venue = PolledExchange(
        settings.exchange, settings.exchange_url, settings.named_symbols, settings.history, settings.poll_flow,
        settings.poll_keeps_trades,
    )  # fmt: skip
    return polling_of(common, venue, clock=clock, health=health, mark=mark)


def load(
    common: CommonSettings, settings: IngestSettings, *, until: datetime | None, start: datetime | None = None
) -> int:
    """
    Load history, print one JSON line a step to standard output, and return the exit code.

    start: fill what is missing between it and `until` instead.

    Raises:
        Malformed: if there is a start and no end after it.
    """
    if start is not None and (until is None or until <= start):
        raise Malformed("bad_range", "expected --until after --from")

    async def run() -> None:
        clock, lake = SystemClock(), open_bars(common)
        source = await choose_source(settings, interval=common.interval, clock=clock)
        bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings())  # never started: loading sends nothing
        job = build(
            common, settings, source=source, store=lake, bus=bus, clock=clock, on_progress=print_progress,
            load_state=lambda: load_state(common, settings, source, clock=clock),
        )  # fmt: skip
        try:
            if start is not None and until is not None:
                count = await refill(job.publisher.line, start=start, until=until, clock=clock)
                print_event("ingest.refilled", n_new=count.n_new, n_repeated=count.n_repeated,
                            n_quarantined=count.n_quarantined)  # fmt: skip
                return
            done = await job.load(until=until or settings.replay_from or _simulated_until(source, settings))
            stored = job.publisher.line.stored_until
            closed_at = format_instant(stored) if stored else None
            n_bars, origin = done.n_bars if done else 0, source.origin.value
            print_event("ingest.loaded", closed_at=closed_at, n_bars=n_bars, origin=origin, source=source.description)
            if stored is not None and common.lake_cold is not None:  # while the line runs nobody else can move its bars
                before = stored - timedelta(days=common.lake_hot_days)
                lake.tier(market=common.market, interval=common.interval, before=before)
        finally:
            await source.close()
            lake.close()

    asyncio.run(run())
    return 0


def _simulated_until(source: BarSource, settings: IngestSettings) -> datetime | None:
    """Return where the simulator's history ends, so that days are left to play; None for every other source."""
    if source.origin is not Origin.SIMULATED or source.last_closed_at is None:
        return None
    return source.last_closed_at - timedelta(days=settings.simulated_replay_days)


def stored(common: CommonSettings) -> StoredData:
    """Return what the commands on stored data work on."""
    # Numba, pyarrow's datasets and calendars: a second of start that the service itself does not need.
    from svc_ingest.api.data_commands import StoredData

    return StoredData(
        open_bars(common), open_tables(common), ObjectArtefactStore(common.artefacts),
        common.home / "reports" / "data", lambda: refused_counts(common.lake), common.market, common.state_market,
    )  # fmt: skip


@contextmanager
def lake_of(common: CommonSettings) -> Iterator[Stores]:
    """Open the stores of the lake, and give what was written to other writers at the end."""
    from qraft_data.bundle.sources import Stores

    bars, tables = open_bars(common), open_tables(common)
    try:
        yield Stores(bars, tables)
    finally:
        bars.close()
        tables.close()


def collect(common: CommonSettings, settings: IngestSettings, *, source: str, selection: Selection) -> int:
    """
    Bring data into the lake, print JSON lines to standard output and a table to standard error.

    source: files, derived, exchange, or all = files and what they allow to derive. Return 2 when something could not be
    taken and 1 when something was away; the report says what.
    """
    clock, started_s, tally, is_away = SystemClock(), SystemClock().monotonic(), Tally(), False
    bars, tables, record = open_bars(common), open_tables(common), LakeRecord(common.lake)
    kept_live = KeptLive(clock, record, common.state_market)
    try:
        if source in ("all", "files"):
            catalogue = read_catalogue(settings.catalogue or OURS)
            Collector(
                catalogue, settings.data, FileReader(), bars, tables, record, clock, print_collected, kept_live
            ).collect(selection, tally)  # fmt: skip
        if source == "derived" or (source == "all" and not selection.datasets):
            from svc_ingest.usecases.derive import Deriver  # numba costs a second of start

            Deriver(bars, tables, kept_live).derive(selection, tally)
        if source == "exchange":
            asyncio.run(_backfill(settings, selection, bars, tables, record=record, kept_live=kept_live, tally=tally))
    except Transient as error:
        is_away = True
        tally.failures.append(Named(source, error.reason, error.detail))
    finally:
        bars.close()
        tables.close()
    path = common.home / "reports" / "ingest" / f"collect.{source}.json"
    took_s = round(clock.monotonic() - started_s, 1)
    write_collect_report(path, tally, source=source, finished_at=format_instant(clock.now()), took_s=took_s)
    sys.stderr.write(table_of(tally))
    totals = {name: n for name, n in tally.total().as_dict().items() if isinstance(n, int)}
    ends = {"n_gaps": len(tally.gaps), "n_failures": len(tally.failures), "n_lost": sum(tally.lost().values())}
    print_event("collect.finished", report=str(path), took_s=took_s, **totals, **ends)
    return 1 if is_away else 2 if tally.failures else 0


async def _backfill(
    settings: IngestSettings, selection: Selection, bars: BarStore, tables: TableStore, *,
    record: LakeRecord, kept_live: KeptLive, tally: Tally,
) -> None:  # fmt: skip
    """Collect an exchange's past; a ban is remembered and obeyed by later runs."""
    clock = SystemClock()
    exchange, symbols = selection.exchange or settings.exchange, selection.symbols or settings.named_symbols
    record.check_ban(exchange, clock.now())
    from svc_ingest.adapters.history import VenueClient  # ccxt costs a second of start

    venue = VenueClient(exchange, symbols, url=settings.exchange_url, clock=clock)
    intervals = selection.intervals or settings.collect_intervals
    feeds = [*FEEDS, *(bar_feed(it, name, INTERVAL_SECONDS[name] * 1000) for it in CONTRACTS for name in intervals)]
    try:
        await venue.open()
        job = Backfill(venue, bars, tables, clock, settings.history, print_collected, kept_live)
        wanted = [feed for feed in feeds if selection.takes(feed.kind)]
        await job.run(wanted, symbols, start=selection.start, end=selection.end, tally=tally)
    except Banned as error:
        record.set_ban(exchange, instant_of(error.until_ms * 1000))
        raise
    finally:
        record.keep_refused(f"exchange.{exchange}", tally.refused)
        await venue.close()
