"""Which feeds of a venue are polled, how often, and when one of them is stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qraft_contracts.kinds import KINDS
from qraft_contracts.times import format_instant
from svc_ingest.domain.raw import instant_of
from svc_ingest.domain.venue_feeds import FEEDS, MS_DAY, MS_HOUR, MS_MINUTE, ContractType, Feed, bar_feed

# The bars of which the basis is made.
BASIS_INTERVAL: Final = "5m"
_SPREAD_FRAC: Final = 0.05
_SPREAD_MAX_MS: Final = 20_000


@dataclass(frozen=True, slots=True)
class PolledFeed:
    """
    A feed and its pace, all in milliseconds.

    every: one poll so often, on the clock. settle: after the full step, so that the venue has written it. margin:
    events younger than this are left to the next poll: a venue shows the coming settlement's rate under its time, and
    our clock may be ahead of the venue's. overlap: how far back each poll looks for corrections.
    """

    feed: Feed
    every_ms: int
    settle_ms: int
    overlap_ms: int
    margin_ms: int = 0

    def next_ms(self, now_ms: int, spread: float) -> int:
        """Return when to poll next. spread: 0 to 1, so that feeds and processes do not all ask at one instant."""
        wait = self.settle_ms + int(spread * min(_SPREAD_FRAC * self.every_ms, _SPREAD_MAX_MS))
        return ((now_ms - wait) // self.every_ms + 1) * self.every_ms + wait


def polled_feeds() -> tuple[PolledFeed, ...]:
    """Return what is polled: state of perpetuals at the pace of each, and the bars of which the basis is made."""
    feeds = {feed.name: feed for feed in FEEDS}
    # Venues settle every 8, 4 or 1 hours and change that without notice.
    found = [PolledFeed(feeds["funding"], MS_HOUR, MS_MINUTE + 5_000, MS_DAY, margin_ms=MS_MINUTE)]
    statistics = ("open_interest", "long_short", "taker_volume")
    found += [PolledFeed(feeds[name], 5 * MS_MINUTE, 15_000, 15 * MS_MINUTE) for name in statistics]
    found.append(PolledFeed(feeds["mark_price"], MS_HOUR, 10_000, 2 * MS_HOUR))
    contracts: tuple[ContractType, ...] = ("perp", "spot")
    bars = [bar_feed(contract, BASIS_INTERVAL, 5 * MS_MINUTE) for contract in contracts]
    return (*found, *(PolledFeed(feed, 5 * MS_MINUTE, 5_000, 15 * MS_MINUTE) for feed in bars))


@dataclass(slots=True)
class FeedState:
    """
    What became of one feed. newest_us: of each symbol the newest event, microseconds since 1970; 0 = none yet.

    problem: what the last poll failed with, "" = it went well.
    """

    kind: str
    market: str
    n_new: int = 0
    n_revised: int = 0
    n_quarantined: int = 0
    n_errors: int = 0
    problem: str = ""
    newest_us: dict[str, int] = field(default_factory=dict)

    def age_s(self, now_us: int) -> int | None:
        """Return the age of the newest event of the symbol that is furthest behind; None while one has none."""
        oldest = min(self.newest_us.values(), default=0)
        return (now_us - oldest) // 1_000_000 if oldest else None

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
        }  # fmt: skip
