"""The basis of polled bars, kept up while a line lives: of what polls brought, and of what a process finds undone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from svc_ingest.domain.derive import basis_frac
from svc_ingest.domain.polling import BASIS_INTERVAL
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.domain.tally import Count
from svc_ingest.domain.venue_feeds import VenueRow
from svc_ingest.domain.venue_rows import venue_table
from svc_ingest.usecases.poll_rows import PollRows

# How far back the basis is looked for where none is stored: as long as features of it look back.
_BACK_MAX: Final = timedelta(days=30)
# What an earlier process may have left undone of corrections, as far as polls look back for them.
_OVERLAP: Final = timedelta(minutes=15)
# Bars that are read at once: of 500 symbols 144,000 a market, 40 MB.
_STRETCH: Final = timedelta(days=1)
# The end of a bar → when its newest revision was known, and its close; microseconds since 1970.
_Closes = dict[int, tuple[int, float]]


@dataclass(slots=True)
class PolledBasis:
    """
    Derives the basis of one venue's perpetuals. rows: of the polls that bring the bars.

    A symbol is derived from the first bar on that a poll brought since it was derived; the first time in a process from
    its newest stored basis on. So one that is traded no more has no bars read.
    """

    rows: PollRows
    _since_us: dict[str, int] = field(default_factory=dict)
    _recovered: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # spot and perpetuals: a task each

    def heard(self, symbol: str, first_us: int) -> None:
        """Note that bars from this end on were stored, microseconds since 1970."""
        with self._lock:
            self._since_us[symbol] = min(first_us, self._since_us.get(symbol, first_us))

    def derive(self, market: str, symbols: Sequence[str], count: Count) -> None:
        """
        Store the basis where both bars are, known once they are, and count it. Blocks; one call at a time.

        The newest revisions count: bars of a symbol whose first ones came late have no other. What fails is derived by
        the next call.

        Raises:
            Transient: as the stores.
        """
        for symbol in symbols:
            if symbol not in self._recovered:
                stored = self.rows.newest_of("basis", market, symbol)
                self.heard(symbol, stored - _OVERLAP // timedelta(microseconds=1))
                self._recovered.add(symbol)
        with self._lock:
            undone = {symbol: self._since_us.pop(symbol) for symbol in symbols if symbol in self._since_us}
        if not undone:
            return
        try:
            self._derive(market, undone, count)
        finally:
            for symbol, since_us in undone.items():
                self.heard(symbol, since_us)

    def _derive(self, market: str, undone: dict[str, int], count: Count) -> None:
        """Derive from those times on, and take out of them what is done or cannot be."""
        bars, now = self.rows.bars, self.rows.clock.now()
        markets = f"{self.rows.venue}.spot", market
        both = set.intersection(*(set(bars.symbols(market=it, interval=BASIS_INTERVAL)) for it in markets))
        for symbol in undone.keys() - both:
            del undone[symbol]
        oldest_us = micros_of(now - _BACK_MAX)
        starts = {symbol: max(since_us - 1, oldest_us) for symbol, since_us in undone.items()}
        # Symbols of one start are read together: all of them as a rule, and one that is behind by itself.
        for start_us in sorted(set(starts.values())):
            names = [symbol for symbol, it in starts.items() if it == start_us]
            start = instant_of(start_us)
            while start < now:
                end = min(start + _STRETCH, now)
                self._derive_stretch(markets, names, start, end, count)
                start = end
            for symbol in names:
                del undone[symbol]

    def _derive_stretch(
        self, markets: tuple[str, str], symbols: Sequence[str], start: datetime, end: datetime, count: Count
    ) -> None:
        spot, future = (self._closes(it, symbols, start, end) for it in markets)
        for symbol in symbols:
            if found := _basis_rows(spot[symbol], future[symbol]):
                table = self.rows.as_known("basis", venue_table("basis", symbol, found, source="derived:bars"))
                self.rows.write("basis", markets[1], symbol, table, count)

    def _closes(self, market: str, symbols: Sequence[str], start: datetime, end: datetime) -> dict[str, _Closes]:
        """Return of each symbol the newest closes and when they were known, by the end of the bar; microseconds."""
        found: dict[str, _Closes] = {symbol: {} for symbol in symbols}
        wanted, now = pa.array(symbols, pa.string()), self.rows.clock.now()
        for part in self.rows.bars.rows(market=market, interval=BASIS_INTERVAL, start=start, end=end, as_of=now):
            own = part.filter(pc.is_in(part["symbol"], value_set=wanted))
            times = (own[name].cast(pa.int64()).to_pylist() for name in ("closed_at", "known_at"))
            # Sorted by revision within a bar: the last one stays.
            for symbol, at, known, close in zip(
                own["symbol"].to_pylist(), *times, own["close"].to_pylist(), strict=True
            ):
                found[symbol][at] = (known, close)
        return found


def _basis_rows(spot: _Closes, future: _Closes) -> list[VenueRow]:
    """Return the basis where both bars are, by time; known with the later of the two, rounded up to a millisecond."""
    both = sorted(spot.keys() & future.keys())
    left, right = (np.array([side[at][1] for at in both]) for side in (spot, future))
    known_ms = [-(-max(spot[at][0], future[at][0]) // 1000) for at in both]
    return [
        VenueRow(at // 1000, known, {"spot_price": price, "future_price": other, "basis_frac": frac})
        for at, known, price, other, frac in zip(
            both, known_ms, left.tolist(), right.tolist(), basis_frac(left, right).tolist(), strict=True
        )
    ]
