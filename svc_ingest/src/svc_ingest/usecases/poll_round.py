"""One round of one feed: ask a venue for the new rows of its symbols and store them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa

from qraft_contracts.outcomes import Outcome
from qraft_contracts.times import format_instant
from qraft_telemetry import logs
from svc_ingest.domain.polling import FeedState, PolledFeed
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Count, Named
from svc_ingest.domain.venue_feeds import MS_DAY, BadRow, Banned, VenueRow
from svc_ingest.domain.venue_rows import refused_rows
from svc_ingest.ports import PolledVenue
from svc_ingest.usecases.bans import Bans
from svc_ingest.usecases.derive_live import LiveDeriver
from svc_ingest.usecases.feed_teller import FeedTeller
from svc_ingest.usecases.poll_refused import PollRefused
from svc_ingest.usecases.poll_rows import PollRows
from svc_ingest.usecases.venue_windows import Windows

T = TypeVar("T")

# Bars of all symbols are asked for and stored so much at a time: of 500 symbols 430,000 bars, 45 MB as tables.
_STRETCH_MS: Final = 3 * MS_DAY


@dataclass(slots=True)
class PollRound:
    """
    Asks for one feed's symbols. history: how far back where nothing is stored. keeps_trades: store single ones too.

    What goes wrong with one symbol is told in `state` and `problem`, and the others go on. done: the symbols of which
    everything was asked for and stored.
    """

    venue: PolledVenue
    rows: PollRows
    deriver: LiveDeriver
    bans: Bans
    refused: PollRefused
    teller: FeedTeller
    history: timedelta
    keeps_trades: bool
    polled: PolledFeed
    state: FeedState
    count: Count
    problem: str = ""
    done: set[str] = field(default_factory=set)
    _is_banned: bool = False

    async def run(self, symbols: Sequence[str]) -> None:
        """Ask for the symbols; raises no Outcome."""
        if self.polled.feed.interval is not None:
            await self._bars(symbols)
        else:
            newest = await self._each(symbols, self._table)
            self.done |= newest.keys()

    async def _each(self, symbols: Iterable[str], work: Callable[[str], Awaitable[T]]) -> dict[str, T]:
        """Return what the work gives of each symbol with which it goes well; a ban ends it."""
        found: dict[str, T] = {}
        for symbol in symbols:
            try:
                found[symbol] = await work(symbol)
            except Outcome as error:
                self._failed(symbol, error)
                if isinstance(error, Banned):
                    self._is_banned = True
                    break
        return found

    def _failed(self, symbol: str, error: Outcome) -> None:
        self.bans.met(error)
        self.problem = self.teller.failed(self.state, symbol, error)

    async def _table(self, symbol: str) -> None:
        """Ask for a symbol's rows from the newest stored one on and store them as they come."""
        now_ms, newest_us = self._now_ms(), await self._newest_us(symbol)
        if not self.polled.is_answered(newest_us // 1000, now_ms):
            gaps = list[Named]()
            first_ms = self._first_ms(symbol, newest_us // 1000, now_ms, gaps.append)
            async for found in self._ask(symbol, first_ms, now_ms - self.polled.margin_ms, gaps):
                try:
                    refused = await self._take(symbol, found)
                finally:  # also when only a part of it was stored
                    self._heard(symbol, found[0].event_ms * 1000, found[-1].event_ms * 1000, newest_us)
                await self._keep(symbol, refused)
        self.state.saw(symbol, await self._newest_us(symbol))

    async def _bars(self, symbols: Sequence[str]) -> None:
        """
        Ask for bars stretch after stretch, of all symbols together: a bar before the end of what is stored is late.

        A symbol that fails leaves the round, and a stretch that a ban cuts short is left to the next one, whole.
        """
        now_ms = self._now_ms()
        until_ms = now_ms - self.polled.margin_ms
        newest = await self._each(symbols, self._newest_us)
        first = {it: self._first_ms(it, us // 1000, now_ms, list[Named]().append) for it, us in newest.items()}
        while first and (start := min(first.values())) < until_ms:
            end = min(start + _STRETCH_MS, until_ms)
            asked = [symbol for symbol, it in first.items() if it < end]
            found = await self._each(asked, partial(self._bars_of, first_ms=first, last_ms=end))
            if self._is_banned or not await self._store_bars(found, newest):
                return
            for symbol in asked:
                del first[symbol]
            first |= dict.fromkeys(found, end)
        self.done |= first.keys()

    async def _bars_of(self, symbol: str, *, first_ms: Mapping[str, int], last_ms: int) -> pa.Table:
        kept = list[VenueRow]()
        async for found in self._ask(symbol, first_ms[symbol], last_ms, []):
            kept += found
        return self.rows.bar_table(symbol, kept)

    async def _store_bars(self, found: dict[str, pa.Table], newest_us: dict[str, int]) -> bool:
        """Store bars of all symbols; return whether that worked."""
        feed = self.polled.feed
        try:
            try:
                refused = await asyncio.to_thread(self.rows.store_bars, feed, found, self.count)
            finally:  # also when only a part of it was stored
                for symbol, table in found.items():
                    if table.num_rows:
                        event = np.asarray(table["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
                        self._heard(symbol, int(event[0]), int(event[-1]), newest_us[symbol])
            await self._keep("", refused)
            for symbol in found:
                self.state.saw(symbol, await self._newest_us(symbol))
        except Outcome as error:
            self._failed("", error)
            return False
        return True

    def _heard(self, symbol: str, first_us: int, last_us: int, newest_us: int) -> None:
        """Have derived what new rows allow; each poll reads some stored ones again, which allow nothing."""
        if last_us > newest_us:
            self.deriver.heard(self.polled.feed, symbol, first_us)

    async def _ask(
        self, symbol: str, first_ms: int, last_ms: int, gaps: list[Named]
    ) -> AsyncIterator[list[VenueRow]]:  # fmt: skip
        """Yield a symbol's rows with first < event <= last by time, then tell of what is not among them."""
        feed, bad = self.polled.feed, list[BadRow]()
        windows = Windows(
            self.venue, feed, symbol, first_ms, last_ms, self.rows.clock, gaps.append, bad.extend, self.polled.pages_max
        )
        async for found in windows.read():
            if found:
                yield found
        for gap in gaps:
            logs.get().warning("feeds.gap", where=gap.where, code=gap.code, why=gap.why)
            if self.polled.reach_ms is not None:  # what it leaves out is not asked for again
                self.teller.lacks(self.state, gap)
        unread = refused_rows(feed.kind, self.rows.market(feed), bad)
        for row in unread:
            self.count.refuse(row.reason)
        await self._keep(symbol, unread)

    async def _take(self, symbol: str, found: list[VenueRow]) -> list[Refused]:
        """Store rows, or hold trades until they are derived; return those that are not of this unit."""
        feed = self.polled.feed
        if feed.kind != "trades":
            return await asyncio.to_thread(self.rows.store, feed, symbol, found, self.count)
        if self.keeps_trades:
            await asyncio.to_thread(self.rows.store, feed, symbol, found, Count())  # held ones are counted
        return await asyncio.to_thread(self.deriver.trades.add, symbol, found, self.count)

    async def _keep(self, symbol: str, refused: Sequence[Refused]) -> None:
        await self.refused.keep(f"poll.{self.venue.name}.{self.polled.feed.name}", symbol, refused, self.count)

    async def _newest_us(self, symbol: str) -> int:
        feed = self.polled.feed
        if feed.kind == "trades":
            return self.deriver.trades.newest_us(symbol)
        return await asyncio.to_thread(self.rows.newest_us, feed, symbol)

    def _first_ms(self, symbol: str, newest_ms: int, now_ms: int, on_gap: Callable[[Named], None]) -> int:
        """Return from when on to ask; rows between the newest stored one and the feed's reach are a gap."""
        polled = self.polled
        reach_ms = int(self.history.total_seconds() * 1000) if polled.reach_ms is None else polled.reach_ms
        first, oldest = newest_ms - polled.overlap_ms, now_ms - reach_ms
        if polled.reach_ms is not None and newest_ms and first < oldest:
            span = f"{format_instant(instant_of(newest_ms * 1000))} to {format_instant(instant_of(oldest * 1000))}"
            on_gap(Named(f"{self.venue.name}:{polled.feed.name} {symbol}", "not_polled", span))
        return max(first, oldest)

    def _now_ms(self) -> int:
        return micros_of(self.rows.clock.now()) // 1000
