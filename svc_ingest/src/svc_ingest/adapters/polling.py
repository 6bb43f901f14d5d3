"""What runs beside living bars, wired: the polls of a venue's other kinds, and what is derived of small tables."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from qraft_runtime.clock import Clock
from qraft_runtime.health import Health
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.port import BarStore
from qraft_store.lake import open_bars, open_tables
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.late_rows import LateRows, ReadMark
from svc_ingest.domain.polling import PolledFeed, flow_symbols, polled_feeds
from svc_ingest.usecases.derive_small import SmallDeriver
from svc_ingest.usecases.feed_teller import FeedTeller
from svc_ingest.usecases.kept_live import KeptLive
from svc_ingest.usecases.poll import Poller, PollSettings


@dataclass(frozen=True, slots=True)
class Polling:
    """
    What runs beside the bars: a poller and what is to be closed after it; nothing where nothing is polled.

    first_pass: returns when everything was asked for once; bars that go out before have no state. feeds: what became
    of each feed, as JSON values.
    """

    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    feeds: Callable[[], Mapping[str, Any]] | None = None
    close: Callable[[], Awaitable[None]] | None = None
    first_pass: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class PolledExchange:
    """
    Which venue, and what of it. exchange: an id of ccxt; url: a mirror. history: how far back where nothing is stored.

    flow: the symbols of which trades and books are polled; None = all where they are few. keeps_trades: store single
    trades too.
    """

    exchange: str
    url: str | None
    symbols: tuple[str, ...]
    history: timedelta
    flow: tuple[str, ...] | None
    keeps_trades: bool = False


def polling_of(
    common: CommonSettings, venue: PolledExchange, *, clock: Clock, health: Health, mark: ReadMark
) -> Polling:  # fmt: skip
    """
    Wire the polling of a venue.

    Raises:
        Malformed: if there is no such exchange, or trades are wanted of symbols that are not polled.
    """
    from svc_ingest.adapters.history import VenueClient  # ccxt costs a second of start and 50 MB

    feeds = feeds_of(common, venue)
    client = VenueClient(venue.exchange, venue.symbols, url=venue.url, clock=clock)
    bars, tables = open_bars(common), open_tables(common)
    poller = Poller(
        client, bars, LateRows(tables, mark), LakeRecord(common.lake), clock, health,
        PollSettings(venue.symbols, venue.history, feeds, venue.keeps_trades), random.SystemRandom().random,
    )  # fmt: skip

    async def close() -> None:
        await client.close()
        bars.close()
        tables.close()

    return Polling((poller.serve,), poller.as_dict, close, poller.first_pass)


def feeds_of(common: CommonSettings, venue: PolledExchange) -> tuple[PolledFeed, ...]:
    """
    Return the feeds that are on. Trades and books are asked for their state only: of the market it is read from.

    Raises:
        Malformed: if trades are wanted of symbols that are not polled, or of too many.
    """
    wanted = flow_symbols(venue.flow, venue.symbols, exchange=venue.exchange)
    flow = wanted if common.state_market == f"{venue.exchange}.perp" else ()
    logs.get().info("feeds.flow", n_symbols=len(flow), n_polled=len(venue.symbols), asked=venue.flow)
    # The line writes its own market; a second writer would find it locked.
    return tuple(it for it in polled_feeds(flow) if f"{venue.exchange}.{it.feed.contract}" != common.market)


def small_deriver_of(common: CommonSettings, *, clock: Clock, health: Health, mark: ReadMark) -> SmallDeriver:
    """Wire what derives, beside a living line, of the small tables that commands bring."""

    @contextmanager
    def stores() -> Iterator[tuple[BarStore, TableStore]]:
        bars, tables = open_bars(common), open_tables(common)
        try:
            yield bars, LateRows(tables, mark)
        finally:  # what was written is for others to write again
            bars.close()
            tables.close()

    record = LakeRecord(common.lake)
    known = KeptLive(clock, record, common.state_market)
    return SmallDeriver(common.state_market, stores, record, known, FeedTeller(clock, health))
