"""An order book rebuilt from a snapshot and its updates, and how deep it is at the ends of intervals."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from qraft_quant.align.times import FloatArray, MicrosArray
from qraft_quant.derived.quotes import SILENCE_US_MAX

# Levels that count for the imbalance, and how far from the mid quantity counts as depth.
N_LEVELS: Final = 5
DEPTH_FRAC: Final = 0.001
# A venue sends 1,000 levels a side; a book that grows beyond this has missed the removals.
N_LEVELS_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class LevelRow:
    """
    One message: all levels (a snapshot) or the changed ones (quantity 0 removes a level).

    first_id, final_id: the venue's numbers of the changes in it; both are the snapshot's own number there.
    """

    known_us: int
    is_snapshot: bool
    first_id: int
    final_id: int
    bid_px: FloatArray
    bid_qty: FloatArray
    ask_px: FloatArray
    ask_qty: FloatArray


@dataclass(frozen=True, slots=True)
class Depth:
    """
    imbalance: of the best five levels, in [-1, 1]. bid, ask: quote currency within 0.1 % of the mid; NaN where a book
    that is cut off does not reach so far.
    """

    imbalance: float
    bid: float
    ask: float


@dataclass(slots=True)
class DepthBook:
    """
    The levels as of the last message; nothing is known before the first snapshot or after a missing update.

    is_numbered: the venue numbers its updates without a break, so that a missing one is seen; else (Binance's futures)
    a lost update shows when the feed was silent for 60 s or the book crosses.
    is_cut: there may be levels beyond the last one that is known, as in a page of best levels.
    """

    is_numbered: bool
    is_cut: bool = False
    _bids: dict[float, float] = field(default_factory=dict)
    _asks: dict[float, float] = field(default_factory=dict)
    _last_id: int = -1
    _known_us: int = -1
    _is_whole: bool = False

    def apply(self, row: LevelRow) -> None:
        """Take in the next message by the venue's numbers; what the snapshot holds already changes nothing."""
        if row.is_snapshot:
            self._bids, self._asks = {}, {}
            self._is_whole, self._last_id = True, row.first_id
        elif not self._is_whole or row.final_id <= self._last_id:
            return
        elif self._is_missed(row):
            self._is_whole = False
            return
        for side, prices, quantities in (
            (self._bids, row.bid_px, row.bid_qty),
            (self._asks, row.ask_px, row.ask_qty),
        ):
            for price, quantity in zip(prices.tolist(), quantities.tolist(), strict=True):
                if quantity > 0:
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self._last_id, self._known_us = row.final_id, max(self._known_us, row.known_us)
        self._is_whole = self._is_whole and max(len(self._bids), len(self._asks)) <= N_LEVELS_MAX

    def _is_missed(self, row: LevelRow) -> bool:
        """Return whether updates before this one are missing, or may be."""
        if self.is_numbered:
            return row.first_id > self._last_id + 1
        return row.known_us - self._known_us > SILENCE_US_MAX

    def depth(self, at_us: int) -> Depth | None:
        """Return the depth at an instant; None where the book is not whole, crossed, empty on a side or 60 s old."""
        if not self._is_whole or not self._bids or not self._asks or at_us - self._known_us > SILENCE_US_MAX:
            return None
        bids, asks = heapq.nlargest(N_LEVELS, self._bids), heapq.nsmallest(N_LEVELS, self._asks)
        if bids[0] >= asks[0]:
            return None
        mid = (bids[0] + asks[0]) / 2
        bid_qty, ask_qty = (
            math.fsum(side[price] for price in best) for side, best in ((self._bids, bids), (self._asks, asks))
        )
        low, high = mid * (1 - DEPTH_FRAC), mid * (1 + DEPTH_FRAC)
        bid = math.fsum(price * quantity for price, quantity in self._bids.items() if price >= low)
        ask = math.fsum(price * quantity for price, quantity in self._asks.items() if price <= high)
        return Depth(
            imbalance=(bid_qty - ask_qty) / (bid_qty + ask_qty),
            bid=math.nan if self.is_cut and min(self._bids) >= low else bid,
            ask=math.nan if self.is_cut and max(self._asks) <= high else ask,
        )


def depth_states(book: DepthBook, rows: Sequence[LevelRow], *, ends: MicrosArray) -> list[Depth | None]:
    """
    Return the depth at each end, of the messages known by then, and leave the book after the last message.

    Args:
        book: as the messages before these left it.
        rows: in the order of the venue's numbers; a snapshot stands before the updates that it does not hold.
        ends: ascending.
    """
    found, row = [], 0
    for end in ends.tolist():
        while row < len(rows) and rows[row].known_us <= end:
            book.apply(rows[row])
            row += 1
        found.append(book.depth(end))
    for later in rows[row:]:
        book.apply(later)
    return found
