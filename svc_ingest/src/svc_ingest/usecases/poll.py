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
from svc_ingest.usecases.faults import keep_refused
from svc_ingest.usecases.poll_rows import REVISED, PollRows
from svc_ingest.usecases.venue_windows import Windows

# Bars beside a lake that was never polled wait so long for the first answers of every feed, and no longer.
FIRST_PASS_S: Final = 60.0
# A ban that is kept but cannot be read is sat out so long: Binance's begin with two minutes and grow to three days.
BAN_UNREADABLE: Final = timedelta(hours=1)
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
    _began: tuple[datetime, bool] | None = None
    _refused: set[tuple[str, str, str]] = field(default_factory=set)
    _has_told_full: bool = False
    _has_told_unreadable: bool = False

    async def serve(self) -> None:
        """Open the venue, then poll every feed until cancelled; does not return."""
        attempt = 0
        while True:
            await self._sit_out()
            try:
                rows = self.rows()
                await self.venue.open()
            except Outcome as error:
                attempt += 1
                self._away(error)
                self._note(f"not polled: {error}")
                logs.get().warning("feeds.unavailable", venue=self.venue.name, why=str(error)[:300])
                await self.pause(min(_RETRY_FIRST_S * 2 ** min(attempt - 1, 10), _RETRY_MAX_S))
            else:
                break
        self._note("polled")
        unasked = {polled.feed.name for polled in self.settings.feeds}
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
            await self._until(instant_of(due_ms * 1000))

    async def poll(self, polled: PolledFeed, rows: PollRows) -> bool:
        """
        Ask once for every symbol of a feed and store what it says; return whether all of it worked.

        No Outcome leaves it: what goes wrong is this feed's trouble until its next round, and nobody else's.
        """
        await self._sit_out()
        state, count, problem = self._state(polled, rows), Count(), ""
        try:
            problem = await self._round(polled, rows, state, count)
        except Outcome as error:
            self._away(error)
            problem = self._failed(state, "", error)
        self._tell(state, count, problem)
        return not problem

    async def _round(self, polled: PolledFeed, rows: PollRows, state: FeedState, count: Count) -> str:
        """Ask for every symbol, and return what went wrong with the last of those that failed."""
        feed, problem = polled.feed, ""
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
        return problem

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
                await self._keep(f"poll.{self.venue.name}.{feed.name}", symbol, refused, count)
        unread = refused_rows(feed.kind, rows.market(feed), bad)
        for row in unread:
            count.refuse(row.reason)
        await self._keep(f"poll.{self.venue.name}.{feed.name}", symbol, unread, count)
        return kept

    async def _bars(
        self, polled: PolledFeed, rows: PollRows, state: FeedState,
        held: Sequence[tuple[str, Sequence[VenueRow]]], count: Count,
    ) -> str:  # fmt: skip
        """Store the bars of all symbols and the basis that they complete; return what went wrong."""
        feed = polled.feed
        try:
            refused = await asyncio.to_thread(rows.store_bars, feed, held, count)
            await self._keep(f"poll.{self.venue.name}.{feed.name}", "", refused, count)
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

    async def _keep(self, name: str, symbol: str, refused: Sequence[Refused], count: Count) -> None:
        """
        Keep the refused rows that were not kept before; the others, which each poll reads again, leave the count.

        After _REFUSED_MAX no more are kept and nothing tells a repetition: each is counted whenever it comes.
        """
        new: dict[tuple[str, str, str], tuple[str, Refused]] = {}
        for row in refused:
            said = msgspec.json.decode(row.received)
            said.pop("known_at", None)  # ours, another one with each poll
            key = (name, symbol, msgspec.json.encode(said).decode())
            if key in self._refused or key in new:
                count.refuse(row.reason, -1)
            elif len(self._refused) + len(new) < _REFUSED_MAX:
                new[key] = (symbol or row.market, row)
            elif not self._has_told_full:
                self._has_told_full = True
                logs.get().warning("feeds.refused_full", feed=name, symbol=symbol, n_kept=_REFUSED_MAX)
        if new:
            reason = next(iter(new.values()))[1].reason
            logs.get().warning("feeds.refused", feed=name, symbol=symbol, n=len(new), reason=reason)
            await asyncio.to_thread(keep_refused, self.record.add_refused, name, list(new.values()))
            self._refused |= new.keys()

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

    def _away(self, error: Outcome) -> None:
        """Remember a ban, for all feeds and for later processes."""
        if isinstance(error, Banned):
            self._keep_ban(instant_of(error.until_ms * 1000))

    def _keep_ban(self, until: datetime) -> None:
        """Obey a ban in this process, and in later ones where it can be written."""
        self.away_until = until if self.away_until is None else max(until, self.away_until)
        try:
            self.record.set_ban(self.venue.name, until)
        except Outcome as error:
            logs.get().warning(
                "feeds.ban_not_kept", venue=self.venue.name, until=format_instant(until), why=str(error)[:300]
            )

    def _banned_until(self) -> datetime | None:
        """Return until when not to ask, by this process or an earlier one; see BAN_UNREADABLE."""
        try:
            kept = self.record.banned_until(self.venue.name)
        except Outcome as error:
            kept = None
            if not self._has_told_unreadable:
                self._has_told_unreadable = True
                logs.get().warning("feeds.ban_unreadable", venue=self.venue.name, why=str(error)[:300])
                self._keep_ban(self.clock.now() + BAN_UNREADABLE)
        return max((it for it in (kept, self.away_until) if it is not None), default=None)

    async def _sit_out(self) -> None:
        """Wait until no ban is in force, ours or one that an earlier process met."""
        until = self._banned_until()
        if until is not None and until > self.clock.now():
            self.away_until = until
            self._note(f"not polled: {self.venue.name} wants no request before {format_instant(until)}")
            logs.get().warning("feeds.banned", venue=self.venue.name, until=format_instant(until))
            await self._until(until)
            self._note("polled")

    def _note(self, text: str) -> None:
        self.health.set_note("feeds", text)

    async def _until(self, due: datetime) -> None:
        while (left_s := (due - self.clock.now()).total_seconds()) > 0:
            await self.pause(min(left_s, _NAP_S))

    def as_dict(self) -> Mapping[str, Any]:
        """Return what became of every feed, as JSON values."""
        now = self.clock.now()
        is_away = self.away_until is not None and self.away_until > now
        return {
            "venue": self.venue.name,
            "banned_until": format_instant(self.away_until) if self.away_until and is_away else None,
            "feeds": [state.as_dict(micros_of(now)) for _, state in sorted(self.states.items())],
        }


def _tell_gap(gap: Named) -> None:
    logs.get().warning("feeds.gap", where=gap.where, code=gap.code, why=gap.why)


def _ms(instant: datetime) -> int:
    return micros_of(instant) // 1000
