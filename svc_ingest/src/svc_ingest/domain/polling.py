"""Which feeds of a venue are polled, how often, and when one of them is stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.venue_feeds import FEEDS, MS_DAY, MS_HOUR, MS_MINUTE, ContractType, Feed, bar_feed

# The bars of which the basis is made.
BASIS_INTERVAL: Final = "5m"
_SPREAD_FRAC: Final = 0.05
_SPREAD_MAX_MS: Final = 20_000
# Trades and books cost a request of the largest weight a page. Ten symbols are a tenth of Binance's 2,400 a minute;
# of more than twenty the books are not asked for within the minute before a bar's end.
FLOW_SYMBOLS_AUTO: Final = 10
FLOW_SYMBOLS_MAX: Final = 20
# Venues that number their trades without a break and can be asked for those since a time; without both nothing proves
# that an interval is whole.
FLOW_EXCHANGES: Final = frozenset({"binance"})
# A flow counts in bars that end up to 10 minutes after it: what was traded before that is not asked for any more.
_TRADES_REACH_MS: Final = 15 * MS_MINUTE
# A trade after its end says that an interval is whole; no bar ends before most contracts have one.
_TRADES_SETTLE_MS: Final = 30_000
# 1,000 trades each: 130 a second for five minutes. What is beyond leaves its intervals missing.
_TRADES_PAGES: Final = 40
# A trade that the venue is still putting together is left to the next poll, and a page begins at a whole second.
_TRADES_MARGIN_MS: Final = 1_000
# The state of the book at an interval's end is of at most a minute before: begun 50 to 35 s before, a second a symbol.
_BOOK_BEFORE_MS: Final = 50_000
_BOOK_AGE_MAX_MS: Final = 60_000
# What fails is tried again 5, 10, 20, … 300 seconds later, so many times in a row: for a quarter of an hour. What fails
# after that fails for good, as a contract does that is traded no more, and waits for its feed's next poll.
_RETRY_FIRST_MS: Final = 5_000
_RETRY_MAX_MS: Final = 300_000
_RETRIES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class PolledFeed:
    """
    A feed and its pace, all in milliseconds.

    every: one poll so often, on the clock. settle: after the full step, so that the venue has written it. margin:
    events younger than this are left to the next poll: a venue shows the coming settlement's rate under its time, and
    our clock may be ahead of the venue's. overlap: how far back each poll looks for corrections.

    symbols: only these; empty = all that are polled. reach: how far back at most, None = as the settings say; older
    rows are a gap by name. pages_max: requests for one symbol in one poll, None = as many as it takes; the rest is a
    gap too. is_timed: asked at its time only, not at once, and once in an interval: what it says is of that instant.
    """

    feed: Feed
    every_ms: int
    settle_ms: int
    overlap_ms: int
    margin_ms: int = 0
    symbols: tuple[str, ...] = ()
    reach_ms: int | None = None
    pages_max: int | None = None
    is_timed: bool = False

    def next_ms(self, now_ms: int, spread: float) -> int:
        """Return when to poll next. spread: 0 to 1, so that feeds and processes do not all ask at one instant."""
        wait = self.settle_ms + int(spread * min(_SPREAD_FRAC * self.every_ms, _SPREAD_MAX_MS))
        return ((now_ms - wait) // self.every_ms + 1) * self.every_ms + wait

    def is_answered(self, newest_ms: int, now_ms: int) -> bool:
        """Return whether the newest row of a timed feed is one of the end of the interval that is running."""
        end_ms = (now_ms // self.every_ms + 1) * self.every_ms
        return self.is_timed and newest_ms >= end_ms - _BOOK_AGE_MAX_MS


@dataclass(slots=True)
class Retries:
    """What of one feed is tried again before its next poll: what failed, and not what fails for good."""

    _n_failed: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, *, has_failed: bool) -> None:
        """Note how it went with a symbol, or with another part of the feed's work."""
        self._n_failed[name] = self._n_failed.get(name, 0) + 1 if has_failed else 0

    def failing(self) -> set[str]:
        """Return what failed the last time."""
        return {name for name, n in self._n_failed.items() if n}

    def names(self) -> list[str]:
        """Return what is to be tried again, in the order in which it was first noted."""
        return [name for name, n in self._n_failed.items() if 0 < n <= _RETRIES_MAX]

    def wait_ms(self) -> int:
        """Return how long to wait before that: as what has failed least often wants."""
        n = min(self._n_failed[name] for name in self.names())
        return min(_RETRY_FIRST_MS << (n - 1), _RETRY_MAX_MS)


def polled_feeds(flow: tuple[str, ...] = ()) -> tuple[PolledFeed, ...]:
    """
    Return what is polled: state of perpetuals at the pace of each, and the bars of which the basis is made.

    flow: the symbols of which trades and books are polled too.
    """
    feeds = {feed.name: feed for feed in FEEDS}
    # Venues settle every 8, 4 or 1 hours and change that without notice.
    found = [PolledFeed(feeds["funding"], MS_HOUR, MS_MINUTE + 5_000, MS_DAY, margin_ms=MS_MINUTE)]
    statistics = ("open_interest", "long_short", "taker_volume")
    found += [PolledFeed(feeds[name], 5 * MS_MINUTE, 15_000, 15 * MS_MINUTE) for name in statistics]
    found.append(PolledFeed(feeds["mark_price"], MS_HOUR, 10_000, 2 * MS_HOUR))
    contracts: tuple[ContractType, ...] = ("perp", "spot")
    bars = [bar_feed(contract, BASIS_INTERVAL, 5 * MS_MINUTE) for contract in contracts]
    found += [PolledFeed(feed, 5 * MS_MINUTE, 5_000, 15 * MS_MINUTE) for feed in bars]
    return (*found, *(_flow_feeds(feeds, flow) if flow else ()))


def _flow_feeds(feeds: Mapping[str, Feed], symbols: tuple[str, ...]) -> tuple[PolledFeed, ...]:
    """Return the feeds of trades and books: no history is asked for, and one page of a book."""
    every = 5 * MS_MINUTE
    return (
        PolledFeed(feeds["trades.perp"], every, _TRADES_SETTLE_MS, _TRADES_MARGIN_MS, _TRADES_MARGIN_MS, symbols,
                   reach_ms=_TRADES_REACH_MS, pages_max=_TRADES_PAGES),
        PolledFeed(feeds["book_snapshot.perp"], every, every - _BOOK_BEFORE_MS, 0, 0, symbols, is_timed=True),
    )  # fmt: skip


def flow_symbols(asked: tuple[str, ...] | None, symbols: tuple[str, ...], *, exchange: str) -> tuple[str, ...]:
    """
    Return the symbols of which trades and books are polled; None = all, where they are few.

    Raises:
        Malformed: if one is asked for that is not polled at all, too many are, or the venue's trades are not provable.
    """
    if asked is None:
        return symbols if len(symbols) <= FLOW_SYMBOLS_AUTO and exchange in FLOW_EXCHANGES else ()
    if asked and exchange not in FLOW_EXCHANGES:
        raise Malformed("no_flow", f"expected QRAFT_INGEST_POLL_FLOW beside {sorted(FLOW_EXCHANGES)}, not {exchange}")
    if unknown := sorted(set(asked) - set(symbols)):
        raise Malformed("unknown_symbols", f"expected QRAFT_INGEST_POLL_FLOW out of the line's symbols, not {unknown}")
    if len(asked) > FLOW_SYMBOLS_MAX:
        raise Malformed("too_many_symbols", f"expected at most {FLOW_SYMBOLS_MAX} in QRAFT_INGEST_POLL_FLOW")
    return asked


@dataclass(slots=True)
class FeedState:
    """
    What became of one feed. newest_us: of each symbol the newest event, microseconds since 1970; 0 = none yet.

    problem: what the last poll failed with, "" = it went well. gap: what the last poll had to leave out, "" = nothing.
    """

    kind: str
    market: str
    n_new: int = 0
    n_revised: int = 0
    n_quarantined: int = 0
    n_errors: int = 0
    n_gaps: int = 0
    problem: str = ""
    gap: str = ""
    newest_us: dict[str, int] = field(default_factory=dict)

    def saw(self, symbol: str, newest_us: int) -> None:
        """Note a symbol's newest event."""
        self.newest_us[symbol] = max(newest_us, self.newest_us.get(symbol, 0))

    def age_s(self, now_us: int) -> int | None:
        """Return the age of the newest event of the symbol that is furthest behind; None while one has none."""
        oldest = min(self.newest_us.values(), default=0)
        return max(now_us - oldest, 0) // 1_000_000 if oldest else None

    def stale(self, now_us: int) -> list[str]:
        """Return the symbols whose newest event is older than the dictionary's stale_after_s, or that have none."""
        limit = KINDS[self.kind].stale_after_s
        if limit is None:
            return []
        return sorted(symbol for symbol, newest in self.newest_us.items() if now_us - newest > limit * 1_000_000)

    def as_dict(self, now_us: int) -> Mapping[str, Any]:
        """Return the state as JSON values."""
        newest = max(self.newest_us.values(), default=0)
        return {
            "kind": self.kind, "market": self.market, "newest": format_instant(instant_of(newest)) if newest else None,
            "age_s": self.age_s(now_us), "stale_after_s": KINDS[self.kind].stale_after_s,
            "stale": self.stale(now_us), "n_new": self.n_new, "n_revised": self.n_revised,
            "n_quarantined": self.n_quarantined, "n_errors": self.n_errors, "problem": self.problem,
            "n_gaps": self.n_gaps, "gap": self.gap,
        }  # fmt: skip
