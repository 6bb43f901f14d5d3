"""
Poll a venue's other kinds beside its bars: each feed in a task of its own, at its own pace, forever.

Nothing here can delay a bar: the venue is asked through a client of its own, stores are written in threads, and what
goes wrong is a feed's problem, told by name in /readyz, /api/feeds, the log and the metrics, and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from qraft_contracts.outcomes import Outcome
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_runtime.health import Health
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs
from svc_ingest.domain.polling import FeedState, PolledFeed
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Count, Named
from svc_ingest.domain.venue_feeds import BadRow, Banned, Feed, VenueRow
from svc_ingest.domain.venue_rows import refused_rows
from svc_ingest.ports import PolledVenue, PollRecord
from svc_ingest.usecases.bans import Bans, wait_until
from svc_ingest.usecases.derive_live import LiveDeriver
from svc_ingest.usecases.feed_teller import FeedTeller
from svc_ingest.usecases.poll_refused import PollRefused
from svc_ingest.usecases.poll_rows import PollRows
from svc_ingest.usecases.venue_windows import Windows

# Bars beside a lake that was never polled wait so long for the first answers of every feed, and no longer.
FIRST_PASS_S: Final = 60.0
# A feed that fails is asked again after 5, 10, … seconds, at most its own pace and this.
_RETRY_FIRST_S: Final = 5.0
_RETRY_MAX_S: Final = 300.0
# A book that was asked for so lately is the one of its interval.
_ASKED_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class PollSettings:
    """
    What to poll. history: how far back where nothing is stored. feeds: see domain.polling.

    keeps_trades: store single trades too, not only what is derived of them.
    """

    symbols: tuple[str, ...]
    history: timedelta
    feeds: tuple[PolledFeed, ...]
    keeps_trades: bool = False


@dataclass(slots=True)
class Poller:
    """Polls one venue. spread: gives 0 to 1, anew for each poll. pause: sleeps so many seconds."""

    venue: PolledVenue
    bars: BarStore
    tables: TableStore
    record: PollRecord
    clock: Clock
    health: Health
    settings: PollSettings
    spread: Callable[[], float]
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    states: dict[str, FeedState] = field(default_factory=dict)
    _is_primed: asyncio.Event = field(default_factory=asyncio.Event)
    _began: tuple[datetime, bool] | None = None
    _deriver: LiveDeriver | None = None
    bans: Bans = field(init=False)
    refused: PollRefused = field(init=False)
    teller: FeedTeller = field(init=False)

    def __post_init__(self) -> None:
        """Make what feeds share."""
        self.bans = Bans(self.venue.name, self.record, self.clock, self._note, self.pause)
        self.refused = PollRefused(self.record)
        self.teller = FeedTeller(self.clock, self.health)

    async def serve(self) -> None:
        """Open the venue, then poll every feed until cancelled; does not return."""
        attempt = 0
        while True:
            await self.bans.sit_out()
            try:
                rows = self.rows()
                await self.venue.open()
            except Outcome as error:
                attempt += 1
                self.bans.met(error)
                self._note(f"not polled: {error}")
                logs.get().warning("feeds.unavailable", venue=self.venue.name, why=str(error)[:300])
                await self.pause(min(_RETRY_FIRST_S * 2 ** min(attempt - 1, 10), _RETRY_MAX_S))
            else:
                break
        self._note("polled")
        unasked = {polled.feed.name for polled in self.settings.feeds if not polled.is_timed}
        async with asyncio.TaskGroup() as group:
            for polled in self.settings.feeds:
                group.create_task(self._feed(polled, rows, unasked))
            self._check_primed(unasked)

    async def first_pass(self) -> None:
        """
        Wait until every feed was asked once, FIRST_PASS_S at most; return at once where the lake was polled before.

        What the venue tells of its past belongs to the history of the first bar of a new lake, so it comes before that
        bar. What comes later than this waits is known later: see PollRows and adapters.late_rows. Nothing is raised: a
        record that cannot be read is told by serve.
        """
        try:
            is_new = self._lake_began()[1]
        except Outcome as error:
            logs.get().warning("feeds.late", venue=self.venue.name, waited_s=0.0, why=str(error)[:300])
            return
        if not is_new:
            return
        self.health.set_note("feeds first pass", f"bars wait {FIRST_PASS_S:g} s at most for the first answers of feeds")
        try:
            async with asyncio.timeout(FIRST_PASS_S):
                await self._is_primed.wait()
        except TimeoutError:
            logs.get().warning("feeds.late", venue=self.venue.name, waited_s=FIRST_PASS_S)
            self.health.set_note(
                "feeds first pass", f"not over after {FIRST_PASS_S:g} s: the first bars had less state"
            )
        else:
            self.health.set_note("feeds first pass", "over")

    def rows(self) -> PollRows:
        """
        Return what writes the rows into the lake.

        Raises:
            Malformed: if the record of when the lake was first polled is damaged.
        """
        return PollRows(self.venue.name, self.bars, self.tables, self.clock, *self._lake_began())

    def _lake_began(self) -> tuple[datetime, bool]:
        """Return when this lake was polled for the first time, and whether that is now, by this process."""
        if self._began is None:
            now = self.clock.now()
            since = self.record.polling_since(self.venue.name, now)
            self._began = since, since == now
        return self._began

    def _check_primed(self, unasked: set[str]) -> None:
        if not unasked:
            self._is_primed.set()

    async def _feed(self, polled: PolledFeed, rows: PollRows, unasked: set[str]) -> None:
        """Poll one feed at its pace; the first time at once."""
        attempt = 0
        if polled.is_timed:
            await self._until_due(polled)
        while True:
            is_done = await self.poll(polled, rows)
            unasked.discard(polled.feed.name)
            self._check_primed(unasked)
            attempt = 0 if is_done else attempt + 1
            now_ms = _ms(self.clock.now())
            due_ms = polled.next_ms(now_ms, self.spread())
            if not is_done:
                retry_s = min(_RETRY_FIRST_S * 2 ** min(attempt - 1, 10), _RETRY_MAX_S)
                due_ms = min(due_ms, now_ms + int(1000 * retry_s))
            await wait_until(self.clock, self.pause, instant_of(due_ms * 1000))

    async def _until_due(self, polled: PolledFeed) -> None:
        due_ms = polled.next_ms(_ms(self.clock.now()), self.spread())
        await wait_until(self.clock, self.pause, instant_of(due_ms * 1000))

    async def poll(self, polled: PolledFeed, rows: PollRows) -> bool:
        """
        Ask once for every symbol of a feed and store what it says; return whether all of it worked.

        No Outcome leaves it: what goes wrong is this feed's trouble until its next round, and nobody else's.
        """
        await self.bans.sit_out()
        state, count, problem = self._state(polled, rows), Count(), ""
        state.gap = ""
        try:
            problem = await self._round(polled, rows, state, count)
        except Outcome as error:
            self.bans.met(error)
            problem = self.teller.failed(state, "", error)
        self.teller.tell(state, count, problem)
        return await self._derive(polled, rows) and not problem

    async def _derive(self, polled: PolledFeed, rows: PollRows) -> bool:
        """Derive what a feed's rows go into; return whether that worked. Also after a failed poll, to tell its age."""
        deriver = self.deriver(rows)
        if (kind := deriver.kind_of(polled.feed)) is None:
            return True
        market, made, problem = rows.market(polled.feed), Count(), ""
        state = self.states.setdefault(f"{kind}.perp", FeedState(kind, market))
        symbols = tuple(self._offered(polled))
        for symbol in symbols:
            state.newest_us.setdefault(symbol, 0)
        try:
            await asyncio.to_thread(deriver.derive, kind, market, symbols, made)
            newest = await asyncio.to_thread(deriver.newest_us, kind, market, symbols)
            for symbol in symbols:
                self._saw(state, symbol, newest[symbol])
        except Outcome as error:
            problem = self.teller.failed(state, "", error)
        self.teller.tell(state, made, problem)
        return not problem

    def deriver(self, rows: PollRows) -> LiveDeriver:
        """Return what derives the rows that these polls bring."""
        if self._deriver is None or self._deriver.rows is not rows:
            self._deriver = LiveDeriver(rows)
        return self._deriver

    def _offered(self, polled: PolledFeed) -> list[str]:
        return [it for it in polled.symbols or self.settings.symbols if self.venue.has(polled.feed, it)]

    async def _round(self, polled: PolledFeed, rows: PollRows, state: FeedState, count: Count) -> str:
        """Ask for every symbol, and return what went wrong with the last of those that failed."""
        feed, problem = polled.feed, ""
        held: list[tuple[str, Sequence[VenueRow]]] = []
        for symbol in self._offered(polled):
            try:
                found = await self._read(polled, rows, state, symbol, count)
                if feed.interval is None:
                    self._saw(state, symbol, await self._newest_us(feed, rows, symbol))
                else:
                    held.append((symbol, found))
            except Outcome as error:
                self.bans.met(error)
                problem = self.teller.failed(state, symbol, error)
                if isinstance(error, Banned):
                    break
        if feed.interval is not None:
            problem = await self._bars(polled, rows, state, held, count) or problem
        return problem

    async def _read(
        self, polled: PolledFeed, rows: PollRows, state: FeedState, symbol: str, count: Count
    ) -> list[VenueRow]:
        """Ask for a symbol's rows from the newest stored one on; store those of a table kind as they come."""
        feed, kept = polled.feed, list[VenueRow]()
        now_ms = _ms(self.clock.now())
        newest_ms = await self._newest_us(feed, rows, symbol) // 1000
        if polled.is_timed and now_ms - newest_ms < _ASKED_MS:
            return kept
        bad, gaps = list[BadRow](), list[Named]()
        windows = Windows(
            self.venue, feed, symbol, self._first_ms(polled, symbol, newest_ms, now_ms, gaps.append),
            now_ms - polled.margin_ms, self.clock, gaps.append, bad.extend, polled.pages_max,
        )  # fmt: skip
        async for found in windows.read():
            if found:
                self.deriver(rows).heard(feed, found[0].event_ms)
            if feed.interval is not None:
                kept += found
            elif found:
                refused = await self._take(feed, rows, symbol, found, count)
                await self.refused.keep(f"poll.{self.venue.name}.{feed.name}", symbol, refused, count)
        for gap in gaps:
            logs.get().warning("feeds.gap", where=gap.where, code=gap.code, why=gap.why)
            if polled.reach_ms is not None:  # what it leaves out is not asked for again
                self.teller.lacks(state, gap)
        unread = refused_rows(feed.kind, rows.market(feed), bad)
        for row in unread:
            count.refuse(row.reason)
        await self.refused.keep(f"poll.{self.venue.name}.{feed.name}", symbol, unread, count)
        return kept

    async def _take(
        self, feed: Feed, rows: PollRows, symbol: str, found: list[VenueRow], count: Count
    ) -> list[Refused]:
        """Store rows, or hold trades until they are derived; return those that are not of this unit."""
        if feed.kind != "trades":
            return await asyncio.to_thread(rows.store, feed, symbol, found, count)
        if self.settings.keeps_trades:
            await asyncio.to_thread(rows.store, feed, symbol, found, Count())  # held ones are counted
        return await asyncio.to_thread(self.deriver(rows).trades.add, symbol, found, count)

    async def _newest_us(self, feed: Feed, rows: PollRows, symbol: str) -> int:
        if feed.kind == "trades":
            return self.deriver(rows).trades.newest_us(symbol)
        return await asyncio.to_thread(rows.newest_us, feed, symbol)

    def _first_ms(
        self, polled: PolledFeed, symbol: str, newest_ms: int, now_ms: int, on_gap: Callable[[Named], None]
    ) -> int:
        """Return from when on to ask; rows between the newest stored one and the feed's reach are a gap."""
        reach_ms = int(self.settings.history.total_seconds() * 1000) if polled.reach_ms is None else polled.reach_ms
        first, oldest = newest_ms - polled.overlap_ms, now_ms - reach_ms
        if polled.reach_ms is not None and newest_ms and first < oldest:
            span = f"{format_instant(instant_of(newest_ms * 1000))} to {format_instant(instant_of(oldest * 1000))}"
            on_gap(Named(f"{self.venue.name}:{polled.feed.name} {symbol}", "not_polled", span))
        return max(first, oldest)

    async def _bars(
        self, polled: PolledFeed, rows: PollRows, state: FeedState,
        held: Sequence[tuple[str, Sequence[VenueRow]]], count: Count,
    ) -> str:  # fmt: skip
        """Store the bars of all symbols and the basis that they complete; return what went wrong."""
        feed = polled.feed
        try:
            refused = await asyncio.to_thread(rows.store_bars, feed, held, count)
            await self.refused.keep(f"poll.{self.venue.name}.{feed.name}", "", refused, count)
            for symbol, _ in held:
                self._saw(state, symbol, await asyncio.to_thread(rows.newest_us, feed, symbol))
            made = Count()
            overlap = timedelta(milliseconds=polled.overlap_ms)
            await asyncio.to_thread(rows.store_basis, [symbol for symbol, _ in held], overlap, made)
        except Outcome as error:
            return self.teller.failed(state, "", error)
        basis = self.states.setdefault("basis.perp", FeedState("basis", f"{self.venue.name}.perp"))
        for symbol, _ in held:
            self._saw(basis, symbol, await asyncio.to_thread(rows.newest_basis_us, symbol))
        self.teller.tell(basis, made, "")
        return ""

    def _state(self, polled: PolledFeed, rows: PollRows) -> FeedState:
        feed = polled.feed
        state = self.states.setdefault(feed.name, FeedState(feed.kind, rows.market(feed)))
        for symbol in self._offered(polled):
            state.newest_us.setdefault(symbol, 0)
        return state

    def _saw(self, state: FeedState, symbol: str, newest_us: int) -> None:
        state.newest_us[symbol] = max(newest_us, state.newest_us.get(symbol, 0))

    def _note(self, text: str) -> None:
        self.health.set_note("feeds", text)

    def as_dict(self) -> Mapping[str, Any]:
        """Return what became of every feed, as JSON values."""
        now = self.clock.now()
        away_until = self.bans.in_force
        return {
            "venue": self.venue.name,
            "banned_until": format_instant(away_until) if away_until else None,
            "feeds": [state.as_dict(micros_of(now)) for _, state in sorted(self.states.items())],
        }


def _ms(instant: datetime) -> int:
    return micros_of(instant) // 1000
