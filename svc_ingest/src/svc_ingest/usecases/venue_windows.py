"""A venue's rows of a stretch of time, window after window; what the venue forgot is a gap by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant
from qraft_runtime.clock import Clock
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.tally import Named
from svc_ingest.domain.venue_feeds import MS_DAY, MS_HOUR, BadRow, Feed, TooOld, VenueRow, rows_of, with_periods
from svc_ingest.ports import VenueHistory

# Requests for one feed of one symbol: two years of 1-minute bars are 1,052. More is a clock or a venue gone wrong.
MAX_PAGES: Final = 20_000
# Rows kept before they are given out: 20 pages of 1000.
STORE_ROWS: Final = 20_000
# Funding needs the settlement before the first, which is at most a day back.
_FUNDING_LEAD_MS: Final = MS_DAY


@dataclass(frozen=True, slots=True)
class Windows:
    """
    The rows of one feed of one symbol with first < event <= last, milliseconds since 1970.

    Rows that are not known yet are left out: they are still forming, or a venue shows a settlement before it is due.
    on_gap: called with what the venue does not have any more. on_bad: with the rows of a page that cannot be read.
    pages_max: after so many requests the rest is a gap; None = as many as it takes, and beyond MAX_PAGES is an error.
    """

    venue: VenueHistory
    feed: Feed
    symbol: str
    first: int
    last: int
    clock: Clock
    on_gap: Callable[[Named], None]
    on_bad: Callable[[Sequence[BadRow]], None]
    pages_max: int | None = None

    async def read(self) -> AsyncIterator[list[VenueRow]]:
        """
        Yield the rows by time, some thousands at once, each event once.

        Raises:
            Malformed, Banned, Transient: as the venue.
        """
        if self.feed.is_snapshot:
            told = await self._page(0, 0)
            yield self._readable(told, _ms(self.clock))
            return
        first = self._kept()
        lead = _FUNDING_LEAD_MS if self.feed.kind == "funding" else self.feed.step_ms or 0
        position, rows, n_pages, forgotten = first - lead, list[VenueRow](), 0, None
        while position < self.last:
            if n_pages == self.pages_max:
                self._gap("too_many_rows", position, self.last, f"not in {n_pages} requests")
                break
            n_pages += 1
            if n_pages > MAX_PAGES:
                raise Malformed("too_many_pages", f"more than {MAX_PAGES} requests for {self.feed.name} {self.symbol}")
            # Both ends count: one step less, or a venue that gives the newest rows first would drop the oldest.
            window_end = min(position + self.feed.window_ms - 1, self.last)
            try:
                raw = await self._page(position, window_end)
            except TooOld:
                # It says the start is too old, not what is not: an eighth of a window later it is asked again.
                forgotten = position if forgotten is None else forgotten
                position += max(self.feed.window_ms // 8, 1)
                continue
            if forgotten is not None:
                self._gap("older_than_retention", forgotten, position, "the venue forgot it")
                forgotten = None
            now_ms = _ms(self.clock)
            rows += [row for row in self._readable(raw, now_ms) if row.known_ms <= now_ms]
            position = self._next(position, window_end, raw)
            if len(rows) >= STORE_ROWS:
                ordered = _unique(rows)
                yield self._inside(ordered, first)
                rows = ordered[-1:]  # the next funding row needs it
        if forgotten is not None:
            self._gap("older_than_retention", forgotten, self.last, "the venue forgot it")
        yield self._inside(_unique(rows), first)

    async def _page(self, start_ms: int, end_ms: int) -> Sequence[Mapping[str, Any]]:
        return await self.venue.page(self.feed, self.symbol, start_ms=start_ms, end_ms=end_ms)

    def _readable(self, raw: Sequence[Mapping[str, Any]], now_ms: int) -> list[VenueRow]:
        rows, bad = rows_of(self.feed, raw, now_ms=now_ms)
        if bad:
            self.on_bad(bad)
        return rows

    def _kept(self) -> int:
        """Return from when on the venue still has rows; what is older is a gap by name."""
        if self.feed.retention_days is None:
            return self.first
        # An hour inside, so that a request that takes a while is not refused for its start.
        oldest = _ms(self.clock) - int(self.feed.retention_days * MS_DAY) + MS_HOUR
        if self.first >= oldest:
            return self.first
        why = f"the venue keeps {self.feed.retention_days:g} days"
        self._gap("older_than_retention", self.first, min(oldest, self.last), why)
        return oldest

    def _gap(self, code: str, first: int, last: int, why: str) -> None:
        span = f"{format_instant(instant_of(first * 1000))} to {format_instant(instant_of(last * 1000))}"
        self.on_gap(Named(f"{self.venue.name}:{self.feed.name} {self.symbol}", code, f"{span}: {why}"))

    def _next(self, position: int, window_end: int, raw: Sequence[Mapping[str, Any]]) -> int:
        """
        Return where the next request begins: at the newest row, since a venue may give fewer rows than it was asked
        for; after the window when it holds no more.
        """
        told = [stamp for row in raw if (stamp := _stamp(row)) is not None]
        # A stamp of a wrong clock must not skip what follows, and one of another unit not lead back.
        stamps = [stamp for stamp in told if position <= stamp <= window_end]
        newest = max(stamps, default=position)
        if self.feed.step_ms is not None:
            return max(newest + self.feed.step_ms, position + 1) if stamps else window_end + 1
        if newest > position:
            return newest  # rows of the same millisecond may follow: read again, repetitions are skipped
        if len(raw) < self.feed.page_rows:
            return window_end
        self._gap("full_millisecond", position, position, "more rows than one request gives")
        return position + 1

    def _inside(self, ordered: list[VenueRow], first: int) -> list[VenueRow]:
        told = with_periods(ordered) if self.feed.kind == "funding" else ordered
        return [row for row in told if first < row.event_ms <= self.last]


def _stamp(row: Mapping[str, Any]) -> int | None:
    """Return a row's time as the venue stamps it, None where it has none that can be read: rows_of says so."""
    told = row.get("timestamp")
    try:
        return int(told) if isinstance(told, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _unique(rows: Sequence[VenueRow]) -> list[VenueRow]:
    """Return each event once, in its last word, by time."""
    unique = {(row.event_ms, row.row_id): row for row in rows}
    return [unique[key] for key in sorted(unique)]


def _ms(clock: Clock) -> int:
    return micros_of(clock.now()) // 1000
