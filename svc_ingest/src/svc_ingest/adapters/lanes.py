"""A venue's limits beside its weight: so many requests of some paths in five minutes, kept by a bucket of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

_VENUES: Final = frozenset({"binance", "binanceusdm"})


@dataclass(slots=True)
class Lane:
    """
    `capacity` requests at once, then `per_s` a second: in any stretch of s seconds capacity + per_s * s at most.

    Not for threads. A new process begins with a full one.
    """

    capacity: float
    per_s: float
    _left: float = inf
    _at_s: float = -inf

    def take(self, now_s: float) -> float:
        """
        Take a token, and return after how many seconds it may be used: 0 while some are left.

        now_s: of a monotonic clock. Whoever takes after another one waits longer, also when both do it now.
        """
        self._left = min(self.capacity, self._left + max(now_s - self._at_s, 0.0) * self.per_s) - 1.0
        self._at_s = max(now_s, self._at_s)
        return max(-self._left, 0.0) / self.per_s


def lanes_of(exchange_id: str) -> Mapping[str, Lane]:
    """
    Return by kind the lane of its requests; kinds without one are held by the venue's weight alone, which ccxt keeps.

    Source: developers.binance.com, USDⓈ-M futures, market data: 1,000 requests of /futures/data in 5 minutes, 500 of
    fundingRate and fundingInfo together, each by IP. Ours are 900 and 440: another process may be asking too.
    """
    if exchange_id not in _VENUES:
        return {}
    statistics, funding = Lane(450.0, 1.5), Lane(220.0, 220.0 / 300.0)
    return {
        "open_interest": statistics, "long_short": statistics, "taker_volume": statistics, "funding": funding,
    }  # fmt: skip
