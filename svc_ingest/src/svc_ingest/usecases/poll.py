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

import msgspec

from qraft_contracts.outcomes import Outcome
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_runtime.health import Health
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from qraft_telemetry import logs, metrics
from svc_ingest.domain.polling import FeedState, PolledFeed
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Count, Named
from svc_ingest.domain.venue_feeds import BadRow, Banned, VenueRow
from svc_ingest.domain.venue_rows import refused_rows
from svc_ingest.ports import PolledVenue, PollRecord
from svc_ingest.usecases.poll_rows import REVISED, PollRows
from svc_ingest.usecases.venue_windows import Windows

# Bars of a new line wait so long for the first answers of every feed, and no longer.
FIRST_PASS_S: Final = 60.0
# A feed that fails is asked again after 5, 10, … seconds, at most its own pace and this.
_RETRY_FIRST_S: Final = 5.0
_RETRY_MAX_S: Final = 300.0
# The longest sleep before the clock is looked at again; a machine may have been suspended meanwhile.
_NAP_S: Final = 5.0
# Kept refused rows are told apart by what they say; a feed in another unit adds one row a step.
_REFUSED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class PollSettings:
    """What to poll. history: how far back where nothing is stored. feeds: see domain.polling."""

    symbols: tuple[str, ...]
    history: timedelta
    feeds: tuple[PolledFeed, ...]


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
    away_until: datetime | None = None
    _is_primed: asyncio.Event = field(default_factory=asyncio.Event)
    _n_unasked: int = -1
    _refused: set[tuple[str, str, str]] = field(default_factory=set)

    async def serve(self) -> None:
        """Open the venue, then poll every feed until cancelled; does not return."""
        attempt = 0
        while True:
            await self._sit_out()
            try:
                await self.venue.open()
                rows = PollRows(self.venue.name, self.bars, self.tables, self.clock, self._live_since())
            except Outcome as error:
                attempt += 1
                self._away(error)
                self.health.set_note("feeds", f"not polled: {error}")
                logs.get().warning("feeds.unavailable", venue=self.venue.name, why=str(error)[:300])
                await self.pause(min(_RETRY_FIRST_S * 2 ** min(attempt - 1, 10), _RETRY_MAX_S))
            else:
                break
        self.health.set_note("feeds", "polled")
        self._n_unasked = len(self.settings.feeds)
        async with asyncio.TaskGroup() as group:
            for polled in self.settings.feeds:
                group.create_task(self._feed(polled, rows))

    async def first_pass(self) -> None:
        """
        Wait until every feed was asked once, FIRST_PASS_S at most.

        What the venue tells of its past belongs to the history of the first bar, so it comes before that bar.
        """
        try:
            async with asyncio.timeout(FIRST_PASS_S):
                await self._is_primed.wait()
        except TimeoutError:
            logs.get().warning("feeds.late", venue=self.venue.name, waited_s=FIRST_PASS_S)

    async def _feed(self, polled: PolledFeed, rows: PollRows) -> None:
        """Poll one feed at its pace; the first time at once."""
        attempt = 0
        while True:
            is_done = await self.poll(polled, rows)
            self._n_unasked -= 1
            if self._n_unasked == 0:
                self._is_primed.set()
            attempt = 0 if is_done else attempt + 1
            now_ms = _ms(self.clock.now())
            due_ms = polled.next_ms(now_ms, self.spread())
            if not is_done:
                retry_s = min(_RETRY_FIRST_S * 2 ** min(attempt - 1, 10), _RETRY_MAX_S)
                due_ms = min(due_ms, now_ms + int(1000 * retry_s))
            await self._until(instant_of(due_ms * 1000))

    async def poll(self, polled: PolledFeed, rows: PollRows) -> bool:
        """Ask once for every symbol of a feed and store what it says; return whether all of it worked."""
        await self._sit_out()
        feed = polled.feed
        state = self._state(polled, rows)
        count, problem = Count(), ""
        offered = [symbol for symbol in self.settings.symbols if self.venue.has(feed, symbol)]
        held: list[tuple[str, Sequence[VenueRow]]] = []
        for symbol in offered:
            try:
                found = await self._read(polled, rows, symbol, count)
                if feed.interval is None:
                    self._saw(state, symbol, await asyncio.to_thread(rows.newest_us, feed, symbol))
                else:
                    held.append((symbol, found))
            except Outcome as error:
                self._away(error)
                problem = self._failed(state, symbol, error)
                if isinstance(error, Banned):
                    break
        if feed.interval is not None:
            problem = await self._bars(polled, rows, state, held, count) or problem
        self._tell(state, count, problem)
        return not problem

    async def _read(self, polled: PolledFeed, rows: PollRows, symbol: str, count: Count) -> list[VenueRow]:
        """Ask for a symbol's rows from the newest stored one on; store those of a table kind as they come."""
        feed, kept = polled.feed, list[VenueRow]()
        now_ms = _ms(self.clock.now())
        newest = await asyncio.to_thread(rows.newest_us, feed, symbol)
        oldest = now_ms - int(self.settings.history.total_seconds() * 1000)
        first = max(newest // 1000 - polled.overlap_ms, oldest)
        bad = list[BadRow]()
        windows = Windows(self.venue, feed, symbol, first, now_ms - polled.margin_ms, self.clock, _tell_gap, bad.extend)
        async for found in windows.read():
            if feed.interval is not None:
                kept += found
            elif found:
                refused = await asyncio.to_thread(rows.store, feed, symbol, found, count)
                self._keep(f"poll.{self.venue.name}.{feed.name}", symbol, refused)
        unread = refused_rows(feed.kind, rows.market(feed), bad)
        for row in self._keep(f"poll.{self.venue.name}.{feed.name}", symbol, unread):
            count.refuse(row.reason)
        return kept

    async def _bars(
        self, polled: PolledFeed, rows: PollRows, state: FeedState,
        held: Sequence[tuple[str, Sequence[VenueRow]]], count: Count,
    ) -> str:  # fmt: skip
        """Store the bars of all symbols and the basis that they complete; return what went wrong."""
        feed = polled.feed
        try:
            refused = await asyncio.to_thread(rows.store_bars, feed, held, count)
            self._keep(f"poll.{self.venue.name}.{feed.name}", "", refused)
            for symbol, _ in held:
                self._saw(state, symbol, await asyncio.to_thread(rows.newest_us, feed, symbol))
            made = Count()
            overlap = timedelta(milliseconds=polled.overlap_ms)
            await asyncio.to_thread(rows.store_basis, [symbol for symbol, _ in held], overlap, made)
        except Outcome as error:
            return self._failed(state, "", error)
        basis = self.states.setdefault("basis.perp", FeedState("basis", f"{self.venue.name}.perp"))
        for symbol, _ in held:
            self._saw(basis, symbol, await asyncio.to_thread(rows.newest_basis_us, symbol))
        self._tell(basis, made, "")
        return ""

    def _keep(self, name: str, symbol: str, refused: Sequence[Refused]) -> list[Refused]:
        """Keep the refused rows that were not kept before, and return them: each poll reads the newest rows again."""
        new = []
        for row in refused:
            said = msgspec.json.decode(row.received)
            said.pop("known_at", None)  # ours, another one with each poll
            key = (name, symbol, msgspec.json.encode(said).decode())
            if key not in self._refused and len(self._refused) < _REFUSED_MAX:
                self._refused.add(key)
                new.append((symbol or row.market, row))
        if new:
            logs.get().warning("feeds.refused", feed=name, symbol=symbol, n=len(new), reason=new[0][1].reason)
            self.record.add_refused(name, new)
        return [row for _, row in new]

    def _state(self, polled: PolledFeed, rows: PollRows) -> FeedState:
        feed = polled.feed
        state = self.states.setdefault(feed.name, FeedState(feed.kind, rows.market(feed)))
        for symbol in self.settings.symbols:
            if self.venue.has(feed, symbol):
                state.newest_us.setdefault(symbol, 0)
        return state

    def _saw(self, state: FeedState, symbol: str, newest_us: int) -> None:
        state.newest_us[symbol] = max(newest_us, state.newest_us.get(symbol, 0))

    def _failed(self, state: FeedState, symbol: str, error: Outcome) -> str:
        state.n_errors += 1
        metrics.FEED_ERRORS.labels(state.market, state.kind, error.reason).inc()
        logs.get().warning(
            "feeds.failed", kind=state.kind, market=state.market, symbol=symbol, reason=error.reason,
            why=error.detail[:300],
        )  # fmt: skip
        return f"{error.reason}: {error.detail[:300]}"

    def _tell(self, state: FeedState, count: Count, problem: str) -> None:
        """Bring state, metrics and readiness up to date after a poll."""
        state.problem = problem
        n_revised = count.reasons[REVISED]
        state.n_new += count.n_new - n_revised
        state.n_revised += n_revised
        state.n_quarantined += count.n_quarantined
        told = (("new", count.n_new - n_revised), ("revised", n_revised), ("quarantined", count.n_quarantined))
        for outcome, n in told:
            if n:
                metrics.FEED_ROWS.labels(state.market, state.kind, outcome).inc(n)
        now_us = micros_of(self.clock.now())
        if (age_s := state.age_s(now_us)) is not None:
            metrics.FEED_AGE.labels(state.market, state.kind).set(age_s)
        stale = state.stale(now_us)
        said = f"stale: {', '.join(stale[:10])}" if stale else "fresh"
        self.health.set_note(f"feed {state.kind} {state.market}", f"{said}; {problem}" if problem else said)

    def _live_since(self) -> datetime:
        return self.record.polling_since(self.venue.name, self.clock.now())

    def _away(self, error: Outcome) -> None:
        """Remember a ban, for all feeds and for later processes."""
        if isinstance(error, Banned):
            self.away_until = instant_of(error.until_ms * 1000)
            self.record.set_ban(self.venue.name, self.away_until)

    async def _sit_out(self) -> None:
        """Wait until no ban is in force, ours or one that an earlier process met."""
        until = self.record.banned_until(self.venue.name)
        if until is not None and until > self.clock.now():
            self.away_until = until
            why = f"{self.venue.name} wants no request before {format_instant(until)}"
            self.health.set_note("feeds", f"not polled: {why}")
            logs.get().warning("feeds.banned", venue=self.venue.name, until=format_instant(until))
            await self._until(until)
            self.health.set_note("feeds", "polled")
        self.away_until = None

    async def _until(self, due: datetime) -> None:
        while (left_s := (due - self.clock.now()).total_seconds()) > 0:
            await self.pause(min(left_s, _NAP_S))

    def as_dict(self) -> Mapping[str, Any]:
        """Return what became of every feed, as JSON values."""
        now_us = micros_of(self.clock.now())
        return {
            "venue": self.venue.name,
            "banned_until": format_instant(self.away_until) if self.away_until else None,
            "feeds": [state.as_dict(now_us) for _, state in sorted(self.states.items())],
        }


def _tell_gap(gap: Named) -> None:
    logs.get().warning("feeds.gap", where=gap.where, code=gap.code, why=gap.why)


def _ms(instant: datetime) -> int:
    return micros_of(instant) // 1000
