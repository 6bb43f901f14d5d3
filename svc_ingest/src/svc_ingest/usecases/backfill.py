"""A venue's past into the lake: window after window from where the lake ends, gaps named where the venue forgot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.datasets import Instant, TableRule
from svc_ingest.domain.raw import micros_of
from svc_ingest.domain.tally import Named, Tally
from svc_ingest.domain.venue_feeds import MS_DAY, BadRow, Feed
from svc_ingest.domain.venue_rows import refused_rows, venue_table
from svc_ingest.ports import VenueHistory
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.collect_tables import TableWriter
from svc_ingest.usecases.kept_live import KeptLive
from svc_ingest.usecases.venue_windows import Windows

# Pages of bars of every symbol that are held at once: 5,000 bars, 100 symbols are half a million rows.
_STRETCH_PAGES: Final = 5


@dataclass(frozen=True, slots=True)
class Backfill:
    """
    What a back-fill needs. history: how far back without a start and with nothing stored.

    kept_live: for a lake that a running line may read, None = for a lake of history.
    """

    venue: VenueHistory
    bars: BarStore
    tables: TableStore
    clock: Clock
    history: timedelta
    on_feed: Callable[[str, Tally, float], None]
    kept_live: KeptLive | None = None

    async def run(
        self,
        feeds: Sequence[Feed],
        symbols: Sequence[str],
        *,
        start: datetime | None,
        end: datetime | None,
        tally: Tally,
    ) -> None:
        """
        Bring the venue's rows with start < event_at <= end into the lake.

        start None = from the newest stored row of each symbol. A feed that the venue refuses or that changed its format
        is a failure by name; the others go on.

        Raises:
            Banned: if the venue wants us away; what was read until then is stored.
            Transient: if the venue or the disk is away.
        """
        done, n_work = 0, len(feeds) * len(symbols)
        for feed in feeds:
            name = f"{self.venue.name}:{feed.name}"
            offered = [symbol for symbol in symbols if self.venue.has(feed, symbol)]
            for symbol in sorted(set(symbols) - set(offered)):
                why = f"{self.venue.name} does not tell this"
                tally.gaps.append(Named(f"{name} {symbol}", "not_offered", why))
            done += len(symbols) - len(offered)
            for group in [offered] if feed.interval is not None else [[symbol] for symbol in offered]:
                if not group:
                    continue
                await self._feed(feed, group, start, end, tally)
                done += len(group)
                self.on_feed(name, tally, done / n_work)

    async def _feed(
        self, feed: Feed, symbols: Sequence[str], start: datetime | None, end: datetime | None, tally: Tally
    ) -> None:
        """
        Bring one feed of some symbols in, stretch by stretch.

        Bars of all symbols come together: a bar store takes bars in the order of time, so that those of a symbol that
        came after another one's would all be late.
        """
        now_ms = _ms(self.clock.now())
        last = min(now_ms, _ms(end)) if end else now_ms
        firsts = {symbol: self._first_ms(feed, symbol, start, now_ms) for symbol in symbols}
        position = min(firsts.values())
        width = _STRETCH_PAGES * feed.window_ms if feed.interval is not None else max(last - position, 1)
        while position < last:
            stop, rows = min(position + width, last), list[pa.Table]()
            for symbol, first in list(firsts.items()):
                if first >= stop:
                    continue
                windows = Windows(self.venue, feed, symbol, max(first, position), stop, self.clock, tally.gaps.append,
                                  partial(self._refuse, feed, symbol, tally))  # fmt: skip
                try:
                    rows += await self._read(windows, tally)
                except Malformed as error:
                    where = f"{self.venue.name}:{feed.name} {symbol}"
                    tally.failures.append(Named(where, error.reason, error.detail))
                    del firsts[symbol]
            if rows:
                self._store_bars(feed, pa.concat_tables(rows), tally)
            position = stop

    def _refuse(self, feed: Feed, symbol: str, tally: Tally, bad: Sequence[BadRow]) -> None:
        """Count and keep rows of the venue that cannot be read; asked for twice, a row is kept once."""
        market = self._market(feed)
        known = {row.received for name, row in tally.refused if name == symbol}
        count = tally.of(f"{self.venue.name}:{feed.name}", feed.kind,
                         market if feed.interval is None else f"{market}.{feed.interval}")  # fmt: skip
        for row in refused_rows(feed.kind, market, bad):
            if row.received not in known:
                tally.n_taken[f"{self.venue.name}:{feed.name}"] += 1
                count.refuse(row.reason)
                tally.refused.append((symbol, row))

    async def _read(self, windows: Windows, tally: Tally) -> list[pa.Table]:
        """Store the rows of a table kind as they come; return those of bars, to be stored with the other symbols'."""
        feed, kept = windows.feed, list[pa.Table]()
        async for rows in windows.read():
            if not rows:
                continue
            table = venue_table(feed.kind, windows.symbol, rows, source=f"ccxt:{self.venue.name}")
            tally.n_taken[f"{self.venue.name}:{feed.name}"] += table.num_rows
            if feed.interval is None:
                self._store(feed, table, tally)
            else:
                kept.append(table)
        return kept

    def _first_ms(self, feed: Feed, symbol: str, start: datetime | None, now_ms: int) -> int:
        if start is not None:
            return _ms(start)
        history = int(self.history.total_seconds() * 1000)
        oldest = now_ms - (history if feed.default_days is None else int(feed.default_days * MS_DAY))
        return max(oldest, self._stored_ms(feed, symbol))

    def _stored_ms(self, feed: Feed, symbol: str) -> int:
        """Return the newest event of a symbol that a source gave, 0 when there is none; derived ones are not."""
        market, now = self._market(feed), self.clock.now()
        if feed.interval is not None:
            panel = self.bars.last(market=market, interval=feed.interval, symbols=[symbol], n=1, as_of=now,
                                   revisions="latest")  # fmt: skip
            return 0 if panel is None else int(panel.closed_at[-1].astype("datetime64[ms]").astype(int))
        rows = self.tables.last(feed.kind, market=market, symbols=[symbol], n=1, as_of=now)
        told = [row for row in rows.to_pylist() if not row["source"].startswith("derived:")]
        return _ms(told[0]["event_at"]) if told else 0

    def _store(self, feed: Feed, table: pa.Table, tally: Tally) -> None:
        market, symbol = self._market(feed), str(table["symbol"][0].as_py())
        table = table if self.kept_live is None else self.kept_live.stamped(market, table)
        rule = TableRule(feed.kind, market, symbol, Instant("event_at"), {})
        count = tally.of(f"{self.venue.name}:{feed.name}", feed.kind, market)
        tally.refused += [(symbol, row) for row in TableWriter(self.tables, rule, market).write(table, count)]

    def _store_bars(self, feed: Feed, table: pa.Table, tally: Tally) -> None:
        assert feed.interval is not None, "a feed of bars"
        market = self._market(feed)
        count = tally.of(f"{self.venue.name}:{feed.name}", "bars", f"{market}.{feed.interval}")
        writer = BarWriter(self.bars, market, feed.interval, count, origin=Origin.REAL)
        try:
            refused = writer.write(table, last_may_form=False, known_at=self.clock.now())
        except Malformed as error:
            tally.failures.append(Named(f"{self.venue.name}:{feed.name}", error.reason, error.detail))
            return
        symbols = table["symbol"].to_pylist()
        tally.refused += [(str(symbols[row.row]), row) for row in refused]

    def _market(self, feed: Feed) -> str:
        return f"{self.venue.name}.{feed.contract}"


def _ms(instant: datetime) -> int:
    return micros_of(instant) // 1000
