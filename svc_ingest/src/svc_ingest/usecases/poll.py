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
from svc_ingest.domain.polling import FeedState, PolledFeed, Retries
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.tally import Count
from svc_ingest.ports import PolledVenue, PollRecord
from svc_ingest.usecases.bans import Bans, wait_until
from svc_ingest.usecases.derive_live import LiveDeriver
from svc_ingest.usecases.feed_teller import FeedTeller
from svc_ingest.usecases.poll_refused import PollRefused
from svc_ingest.usecases.poll_round import PollRound
from svc_ingest.usecases.poll_rows import PollRows

# Bars beside a lake that was never polled wait so long for the first answers of every feed, and no longer.
FIRST_PASS_S: Final = 60.0
# A venue that cannot be opened is tried again after 5, 10, … seconds, at most this.
_RETRY_FIRST_S: Final = 5.0
_RETRY_MAX_S: Final = 300.0
# Among the symbols of a feed that are tried again: what is derived of all of them.
_DERIVED: Final = ""


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
        retries = Retries()
        if polled.is_timed:
            await self._until_due(polled)
        while True:
            await self._whole(polled, rows, retries)
            unasked.discard(polled.feed.name)
            self._check_primed(unasked)
            due_ms = polled.next_ms(_ms(self.clock.now()), self.spread())
            while retries.names() and (again_ms := _ms(self.clock.now()) + retries.wait_ms()) < due_ms:
                await wait_until(self.clock, self.pause, instant_of(again_ms * 1000))
                await self._again(polled, rows, retries)
            if polled.is_timed and due_ms < (now_ms := _ms(self.clock.now())):
                due_ms = polled.next_ms(now_ms, self.spread())
            await wait_until(self.clock, self.pause, instant_of(due_ms * 1000))

    async def _until_due(self, polled: PolledFeed) -> None:
        due_ms = polled.next_ms(_ms(self.clock.now()), self.spread())
        await wait_until(self.clock, self.pause, instant_of(due_ms * 1000))

    async def poll(self, polled: PolledFeed, rows: PollRows) -> bool:
        """
        Ask once for every symbol of a feed and store what it says; return whether all of it worked.

        No Outcome leaves it: what goes wrong is this feed's trouble until its next round, and nobody else's.
        """
        retries = Retries()
        await self._whole(polled, rows, retries)
        return not retries.names()

    async def _whole(self, polled: PolledFeed, rows: PollRows, retries: Retries) -> None:
        """Ask for every symbol, and derive; also after a poll that failed, to tell the age of what is derived."""
        self._state(polled, rows).gap = ""
        await self._ask(polled, rows, self._offered(polled), retries)
        await self._derive(polled, rows, retries)

    async def _again(self, polled: PolledFeed, rows: PollRows, retries: Retries) -> None:
        """Ask for the symbols that failed, and derive; what went well is not asked for again."""
        if symbols := [name for name in retries.names() if name != _DERIVED]:
            await self._ask(polled, rows, symbols, retries)
        await self._derive(polled, rows, retries)

    async def _ask(self, polled: PolledFeed, rows: PollRows, symbols: Sequence[str], retries: Retries) -> None:
        await self.bans.sit_out()
        state, count = self._state(polled, rows), Count()
        polling = self._round(polled, rows, state, count)
        await polling.run(symbols)
        for symbol in symbols:
            retries.note(symbol, has_failed=symbol not in polling.done)
        others = retries.failing() - {*symbols, _DERIVED}
        self.teller.tell(state, count, polling.problem or (state.problem if others else ""))

    def _round(self, polled: PolledFeed, rows: PollRows, state: FeedState, count: Count) -> PollRound:
        return PollRound(
            self.venue, rows, self.deriver(rows), self.bans, self.refused, self.teller, self.settings.history,
            self.settings.keeps_trades, polled, state, count,
        )  # fmt: skip

    async def _derive(self, polled: PolledFeed, rows: PollRows, retries: Retries) -> None:
        """Derive what a feed's rows go into."""
        deriver, symbols, has_failed = self.deriver(rows), tuple(self._offered(polled)), False
        for kind in deriver.kinds_of(polled.feed):
            made, problem = Count(), ""
            state = self.states.setdefault(f"{kind}.perp", FeedState(kind, deriver.market))
            for symbol in symbols:
                state.newest_us.setdefault(symbol, 0)
            try:
                await asyncio.to_thread(deriver.derive, kind, symbols, made)
                newest = await asyncio.to_thread(deriver.newest_us, kind, symbols)
                for symbol in symbols:
                    state.saw(symbol, newest[symbol])
            except Outcome as error:
                problem, has_failed = self.teller.failed(state, "", error), True
            self.teller.tell(state, made, problem)
        retries.note(_DERIVED, has_failed=has_failed)

    def deriver(self, rows: PollRows) -> LiveDeriver:
        """Return what derives the rows that these polls bring."""
        if self._deriver is None or self._deriver.rows is not rows:
            self._deriver = LiveDeriver(rows)
        return self._deriver

    def _offered(self, polled: PolledFeed) -> list[str]:
        return [it for it in polled.symbols or self.settings.symbols if self.venue.has(polled.feed, it)]

    def _state(self, polled: PolledFeed, rows: PollRows) -> FeedState:
        feed = polled.feed
        state = self.states.setdefault(feed.name, FeedState(feed.kind, rows.market(feed)))
        for symbol in self._offered(polled):
            state.newest_us.setdefault(symbol, 0)
        return state

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
