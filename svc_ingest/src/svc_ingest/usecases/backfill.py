"""A venue's past into the lake: window after window from where the lake ends, gaps named where the venue forgot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.datasets import Instant, TableRule
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.shaping import ARROW_TYPES
from svc_ingest.domain.tally import Named, Tally
from svc_ingest.domain.venue_feeds import MS_DAY, MS_HOUR, Feed, TooOld, VenueRow, rows_of, with_periods
from svc_ingest.ports import VenueHistory
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.collect_tables import TableWriter

# Requests for one feed of one symbol: two years of 1-minute bars are 1,052. More is a clock or a venue gone wrong.
MAX_PAGES: Final = 20_000
# Rows kept before they are stored: 20 pages of 1000.
STORE_ROWS: Final = 20_000
# Funding needs the settlement before the first, which is at most a day back.
_FUNDING_LEAD_MS: Final = MS_DAY


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a back-fill needs. history: how far back without a start and with nothing stored."""

    venue: VenueHistory
    bars: BarStore
    tables: TableStore
    clock: Clock
    history: timedelta
    on_feed: Callable[[str, Tally, float], None]

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
        work = [(feed, symbol) for feed in feeds for symbol in symbols]
        for i, (feed, symbol) in enumerate(work):
            name = f"{self.venue.name}:{feed.name}"
            if not self.venue.has(feed, symbol):
                tally.gaps.append(Named(f"{name} {symbol}", "not_offered", f"{self.venue.name} does not tell this"))
                continue
            try:
                await self._feed(feed, symbol, start, end, tally)
            except Malformed as error:
                tally.failures.append(Named(f"{name} {symbol}", error.reason, error.detail))
            self.on_feed(name, tally, (i + 1) / len(work))

    async def _feed(self, feed: Feed, symbol: str, start: datetime | None, end: datetime | None, tally: Tally) -> None:
        now_ms = _ms(self.clock.now())
        first = self._first_ms(feed, symbol, start, now_ms)
        last = min(now_ms, _ms(end)) if end else now_ms
        if feed.is_snapshot:
            self._store(feed, symbol, rows_of(feed, await self.venue.page(feed, symbol, start_ms=0, end_ms=0),
                                              now_ms=now_ms), tally)  # fmt: skip
            return
        first = self._kept(feed, symbol, first, last, now_ms, tally)
        await self._windows(feed, symbol, first, last, tally)

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

    def _kept(self, feed: Feed, symbol: str, first: int, last: int, now_ms: int, tally: Tally) -> int:
        """Return from when on the venue still has rows; what is older is a gap by name."""
        if feed.retention_days is None:
            return first
        # An hour inside, so that a request that takes a while is not refused for its start.
        oldest = now_ms - int(feed.retention_days * MS_DAY) + MS_HOUR
        if first >= oldest:
            return first
        self._gap(feed, symbol, "older_than_retention", first, min(oldest, last),
                  f"the venue keeps {feed.retention_days:g} days", tally)  # fmt: skip
        return oldest

    def _gap(self, feed: Feed, symbol: str, code: str, first: int, last: int, why: str, tally: Tally) -> None:
        span = f"{format_instant(instant_of(first * 1000))} to {format_instant(instant_of(last * 1000))}"
        tally.gaps.append(Named(f"{self.venue.name}:{feed.name} {symbol}", code, f"{span}: {why}"))

    async def _windows(self, feed: Feed, symbol: str, first: int, last: int, tally: Tally) -> None:
        lead = _FUNDING_LEAD_MS if feed.kind == "funding" else feed.step_ms or 0
        position, rows, n_pages, forgotten = first - lead, list[VenueRow](), 0, None
        while position < last:
            n_pages += 1
            if n_pages > MAX_PAGES:
                raise Malformed("too_many_pages", f"more than {MAX_PAGES} requests for {feed.name} of {symbol}")
            # Both ends count: one step less, or a venue that gives the newest rows first would drop the oldest.
            window_end = min(position + feed.window_ms - 1, last)
            try:
                raw = await self.venue.page(feed, symbol, start_ms=position, end_ms=window_end)
            except TooOld:
                # It says the start is too old, not what is not: an eighth of a window later it is asked again.
                forgotten = position if forgotten is None else forgotten
                position += max(feed.window_ms // 8, 1)
                continue
            if forgotten is not None:
                self._gap(feed, symbol, "older_than_retention", forgotten, position, "the venue forgot it", tally)
                forgotten = None
            page = rows_of(feed, raw, now_ms=_ms(self.clock.now()))
            rows += [row for row in page if row.known_ms <= _ms(self.clock.now())]  # others are still forming
            position = self._next(feed, symbol, position, window_end, raw, tally)
            if len(rows) >= STORE_ROWS:
                rows = self._flush(feed, symbol, rows, first, last, tally)
        if forgotten is not None:
            self._gap(feed, symbol, "older_than_retention", forgotten, last, "the venue forgot it", tally)
        self._flush(feed, symbol, rows, first, last, tally)

    def _next(self, feed: Feed, symbol: str, position: int, window_end: int, raw: Sequence[Any], tally: Tally) -> int:
        """
        Return where the next request begins: at the newest row, since a venue may give fewer rows than it was asked
        for; after the window when it holds no more.
        """
        stamps = [int(row["timestamp"]) for row in raw if row.get("timestamp") is not None]
        newest = max(stamps, default=position)
        if feed.step_ms is not None:
            return max(newest + feed.step_ms, position + 1) if stamps else window_end + 1
        if newest > position:
            return newest  # rows of the same millisecond may follow: read again, repetitions are skipped
        if len(raw) < feed.page_rows:
            return window_end
        self._gap(feed, symbol, "full_millisecond", position, position, "more rows than one request gives", tally)
        return position + 1

    def _flush(
        self, feed: Feed, symbol: str, rows: list[VenueRow], first: int, last: int, tally: Tally
    ) -> list[VenueRow]:
        """Store the rows of the range and return the last one, which the next funding row needs."""
        unique = {(row.event_ms, row.row_id): row for row in rows}
        ordered = [unique[key] for key in sorted(unique)]
        told = with_periods(ordered) if feed.kind == "funding" else ordered
        self._store(feed, symbol, [row for row in told if first < row.event_ms <= last], tally)
        return ordered[-1:]

    def _store(self, feed: Feed, symbol: str, rows: Sequence[VenueRow], tally: Tally) -> None:
        if not rows:
            return
        market = self._market(feed)
        name = f"{self.venue.name}:{feed.name}"
        table = _table(feed, symbol, rows, source=f"ccxt:{self.venue.name}")
        if feed.interval is None:
            rule = TableRule(feed.kind, market, symbol, Instant("event_at"), {})
            refused = TableWriter(self.tables, rule, market).write(table, tally.of(name, feed.kind, market))
        else:
            count = tally.of(name, "bars", f"{market}.{feed.interval}")
            writer = BarWriter(self.bars, market, feed.interval, count, origin=Origin.REAL)
            refused = writer.write(table, last_may_form=False, known_at=self.clock.now())
        tally.refused += [(symbol, row) for row in refused]

    def _market(self, feed: Feed) -> str:
        return f"{self.venue.name}.{feed.contract}"


def _table(feed: Feed, symbol: str, rows: Sequence[VenueRow], *, source: str) -> pa.Table:
    n = len(rows)
    base: dict[str, Any] = {
        "symbol": pa.array([symbol] * n, pa.string()),
        "event_at": pa.array([row.event_ms * 1000 for row in rows], pa.int64()).cast(US),
        "known_at": pa.array([row.known_ms * 1000 for row in rows], pa.int64()).cast(US),
        "row_id": pa.array([row.row_id for row in rows], pa.string()),
        "revision": pa.array([0] * n, pa.int32()),
        "origin": pa.array([Origin.REAL.value] * n, pa.string()),
        "source": pa.array([source] * n, pa.string()),
    }
    fields = {
        field.name: pa.array([row.fields.get(field.name) for row in rows], ARROW_TYPES[field.type])
        for field in KINDS[feed.kind].fields
    }
    return pa.table(base | fields)


def _ms(instant: datetime) -> int:
    return micros_of(instant) // 1000
