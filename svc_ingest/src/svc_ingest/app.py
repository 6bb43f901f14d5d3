"""Composition root: the only place that names concrete adapters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_bus.streams import stream_of
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Outcome, Transient
from qraft_contracts.subjects import INTERVAL_SECONDS, bars_subject
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.service import run_service
from qraft_runtime.settings import CommonSettings
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.port import BarStore
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs
from svc_ingest.adapters.catalogue import OURS, read_catalogue
from svc_ingest.adapters.collected import LakeRecord, refused_counts, table_of, write_collect_report
from svc_ingest.adapters.files import FileSource
from svc_ingest.adapters.readers import FileReader
from svc_ingest.adapters.report import write_report
from svc_ingest.adapters.simulator import MarketSimulator
from svc_ingest.api.events import print_event
from svc_ingest.api.replay import replay_routes
from svc_ingest.domain.faults import QualityReport
from svc_ingest.domain.quality import QualityCheck
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.tally import Named, Tally
from svc_ingest.domain.venue_feeds import CONTRACTS, FEEDS, Banned, bar_feed
from svc_ingest.ports import BarsBus, BarSource
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases.backfill import Backfill
from svc_ingest.usecases.collect import Collector, Selection
from svc_ingest.usecases.derive import Deriver
from svc_ingest.usecases.line import Line
from svc_ingest.usecases.load import LoadProgress
from svc_ingest.usecases.pace import FlowControl, ReplayPace
from svc_ingest.usecases.publish import Publisher, ReplayState
from svc_ingest.usecases.run import IngestRun

if TYPE_CHECKING:
    from svc_ingest.api.data_commands import StoredData

NAME = "svc_ingest"


def build(
    common: CommonSettings, settings: IngestSettings, *, source: BarSource, store: BarStore, bus: BarsBus,
    clock: Clock, on_progress: Callable[[LoadProgress], None],
) -> IngestRun:  # fmt: skip
    """Wire one line of bars from a source to the bus."""
    report = QualityReport()
    check = QualityCheck(market=common.market, interval=common.interval, origin=source.origin, report=report)
    line = Line(source, store, check, common.market, common.interval)
    flow = FlowControl(bus, stream=stream_of(bars_subject(common.interval)), max_bars_ahead=settings.max_bars_ahead)
    publisher = Publisher(line, bus, ReplayPace(settings.speed), flow, ReplayState(is_live=source.is_live))

    def on_report(kind: str) -> None:
        path = common.home / "reports" / "ingest" / f"{kind}.{common.market}.{common.interval}.json"
        write_report(path, report, source=source, market=common.market, interval=common.interval)
        logs.get().info("quality.reported", path=str(path), **report.as_dict()["totals"])

    return IngestRun(publisher, clock, Health(), settings.replay_from, settings.replay_until, on_progress, on_report)


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
            settings.dataset_folder,
            interval=interval,
            symbols=settings.symbols,
            history_from=settings.history_from,
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
    clock, lake = SystemClock(), ParquetLake(common.lake)
    source = asyncio.run(choose_source(settings, interval=common.interval, clock=clock))
    bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings())
    run = build(common, settings, source=source, store=lake, bus=bus, clock=clock, on_progress=_log_progress)

    async def close() -> None:
        await source.close()
        lake.close()

    return run_service(
        NAME,
        common,
        bus=bus,
        health=run.health,
        background=[run.serve],
        routes=replay_routes(run.publisher),
        on_stop=close,
    )


def load(common: CommonSettings, settings: IngestSettings, *, until: datetime | None) -> int:
    """Load history, print one JSON line a step to standard output, and return the exit code."""

    async def run() -> None:
        clock, lake = SystemClock(), ParquetLake(common.lake)
        source = await choose_source(settings, interval=common.interval, clock=clock)
        bus = NatsBus(common.nats_url, name=NAME, settings=BusSettings())  # never started: loading sends nothing
        job = build(common, settings, source=source, store=lake, bus=bus, clock=clock, on_progress=_print_progress)
        try:
            done = await job.load(until=until or settings.replay_from or _simulated_until(source, settings))
            stored = job.publisher.line.stored_until
            closed_at = format_instant(stored) if stored else None
            print_event(
                "ingest.loaded",
                closed_at=closed_at,
                n_bars=done.n_bars if done else 0,
                origin=source.origin.value,
                source=source.description,
            )
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


def _progress_fields(progress: LoadProgress) -> dict[str, object]:
    return {
        "closed_at": format_instant(progress.closed_at),
        "n_bars": progress.n_bars,
        "n_rows": progress.n_rows,
        "n_new": progress.n_new,
        "done_frac": None if progress.done_frac is None else round(progress.done_frac, 4),
    }


def _log_progress(progress: LoadProgress) -> None:
    logs.get().info("ingest.progress", **_progress_fields(progress))


def _print_progress(progress: LoadProgress) -> None:
    print_event("ingest.progress", **_progress_fields(progress))


def stored(common: CommonSettings) -> StoredData:
    """Return what the commands on stored data work on."""
    # Numba, pyarrow's datasets and calendars: a second of start that the service itself does not need.
    from svc_ingest.api.data_commands import StoredData

    return StoredData(
        ParquetLake(common.lake), ParquetTables(common.lake), ObjectArtefactStore(common.artefacts),
        common.home / "reports" / "data", lambda: refused_counts(common.lake),
    )  # fmt: skip


def collect(common: CommonSettings, settings: IngestSettings, *, source: str, selection: Selection) -> int:
    """
    Bring data into the lake, print JSON lines to standard output and a table to standard error.

    source: files, derived, exchange, or all = files and what they allow to derive. Return 2 when something could not be
    taken and 1 when something was away; the report says what.
    """
    clock, started_s, tally, is_away = SystemClock(), SystemClock().monotonic(), Tally(), False
    bars, tables, record = ParquetLake(common.lake), ParquetTables(common.lake), LakeRecord(common.lake)
    try:
        if source in ("all", "files"):
            catalogue = read_catalogue(settings.catalogue or OURS)
            collector = Collector(catalogue, settings.data, FileReader(), bars, tables, record, clock, _print_collected)
            collector.collect(selection, tally)
        if source == "derived" or (source == "all" and not selection.datasets):
            Deriver(bars, tables).derive(selection, tally)
        if source == "exchange":
            asyncio.run(_backfill(settings, selection, bars=bars, tables=tables, record=record, tally=tally))
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
    ends = {"n_gaps": len(tally.gaps), "n_failures": len(tally.failures)}
    print_event("collect.finished", report=str(path), took_s=took_s, **totals, **ends)
    return 1 if is_away else 2 if tally.failures else 0


async def _backfill(
    settings: IngestSettings, selection: Selection, *,
    bars: BarStore, tables: TableStore, record: LakeRecord, tally: Tally,
) -> None:  # fmt: skip
    """Collect an exchange's past; a ban is remembered and obeyed by later runs."""
    clock = SystemClock()
    record.check_ban(settings.exchange, clock.now())
    from svc_ingest.adapters.history import VenueClient  # ccxt costs a second of start

    venue = VenueClient(settings.exchange, settings.named_symbols, url=settings.exchange_url, clock=clock)
    feeds = [*FEEDS, *(bar_feed(contract, it, INTERVAL_SECONDS[it] * 1000)
                       for contract in CONTRACTS for it in settings.collect_intervals)]  # fmt: skip
    try:
        await venue.open()
        job = Backfill(venue, bars, tables, clock, settings.history, _print_collected)
        wanted = [feed for feed in feeds if selection.takes(feed.kind)]
        await job.run(wanted, settings.named_symbols, start=selection.start, end=selection.end, tally=tally)
    except Banned as error:
        record.set_ban(settings.exchange, instant_of(error.until_ms * 1000))
        raise
    finally:
        record.keep_refused(f"exchange.{settings.exchange}", tally.refused)
        await venue.close()


def _print_collected(name: str, tally: Tally, done_frac: float) -> None:
    own = [count for (dataset, _, _), count in tally.counts.items() if dataset == name]
    failed = [it.code for it in tally.failures if it.where.startswith(name)]
    print_event(
        "collect.progress",
        dataset=name,
        n_new=sum(count.n_new for count in own),
        n_repeated=sum(count.n_repeated for count in own),
        n_quarantined=sum(count.n_quarantined for count in own),
        failed=failed[-1] if failed else None,
        done_frac=round(done_frac, 4),
    )
