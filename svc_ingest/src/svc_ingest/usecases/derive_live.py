"""
What is derived of polled rows, kept up while a line lives: by the functions of `collect --source derived`.

Each call derives from the earliest row that a poll has brought since the last call that went well. A process begins
where the stored rows end, so that what was polled before a kill and not derived is derived then. Trades are not stored:
the venue is asked for them again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np

from svc_ingest.domain.raw import Int64Array, instant_of, micros_of
from svc_ingest.domain.tally import Count, Tally
from svc_ingest.domain.venue_feeds import Feed
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derived_rows import DerivedRows
from svc_ingest.usecases.newest import newest_events
from svc_ingest.usecases.poll_rows import PollRows
from svc_ingest.usecases.polled_basis import PolledBasis
from svc_ingest.usecases.polled_trades import PolledTrades

# What the rows of a feed go into, by its kind and contract.
_MADE_OF: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("trades", "perp"): ("trade_flow",), ("book_snapshot", "perp"): ("book_state",),
    ("mark_price", "perp"): ("mark_premium",), ("bars", "perp"): ("basis", "mark_premium"),
    ("bars", "spot"): ("basis",),
}  # fmt: skip
# How far back a process looks for what an earlier one did not derive: marks as far as the basis, books are stale after
# ten minutes. Trades are held, see polled_trades; of the basis see polled_basis.
_RECOVERED: Final[Mapping[str, timedelta]] = {
    "book_state": timedelta(days=1),
    "mark_premium": timedelta(days=30),
}
# The interval that holds the first new row, whole.
_STEP_US: Final = 300_000_000


@dataclass(slots=True)
class LiveDeriver:
    """Derives the rows of one venue's perpetuals. rows: of the polls that bring what they are made of."""

    rows: PollRows
    trades: PolledTrades = field(init=False)
    basis: PolledBasis = field(init=False)
    market: str = field(init=False)
    _since_us: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # marks and bars are polled by tasks of their own
    _busy: dict[str, threading.Lock] = field(default_factory=dict)
    _recovered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Hold no trade yet."""
        self.market = f"{self.rows.venue}.perp"
        self.trades, self.basis = PolledTrades(self.rows, self.market), PolledBasis(self.rows)
        self._busy = {kind: threading.Lock() for kinds in _MADE_OF.values() for kind in kinds}

    def kinds_of(self, feed: Feed) -> tuple[str, ...]:
        """Return what is derived of a feed's rows."""
        return _MADE_OF.get((feed.kind, feed.contract), ())

    def heard(self, feed: Feed, symbol: str, first_us: int) -> None:
        """
        Note that rows of this time on are stored, microseconds since 1970, and newer ones than were there before.

        To be called once they are: a derivation between the two would find nothing, and the next one not look.
        """
        for kind in self.kinds_of(feed):
            if kind == "basis":
                self.basis.heard(symbol, first_us)
            else:
                self._note(kind, first_us)

    def derive(self, kind: str, symbols: tuple[str, ...], count: Count) -> None:
        """
        Add the rows of a kind that can be derived and are not stored; count them. Blocks; one call of a kind at a time.

        Known when they are derived, but for history of before this lake was first polled, in the process that began.
        What fails is derived by the next call.

        Raises:
            Malformed, Transient: as the stores.
        """
        with self._busy[kind]:
            if kind == "basis":
                self.basis.derive(self.market, symbols, count)
            else:
                self._derive(kind, symbols, count)

    def _derive(self, kind: str, symbols: tuple[str, ...], count: Count) -> None:
        tally = Tally()
        if kind == "trade_flow":
            for symbol in symbols:
                self.trades.derive(DerivedRows(self.rows.tables, tally, _KnownNow(self.rows)), symbol)
        else:
            self._derive_stored(kind, symbols, tally)
        count.merge(tally.total())

    def _derive_stored(self, kind: str, symbols: tuple[str, ...], tally: Tally) -> None:
        from svc_ingest.usecases.derive import Deriver  # numba costs a second of start

        if kind not in self._recovered:
            self._note(kind, self._stored_until(kind, symbols))
            self._recovered.add(kind)
        with self._lock:
            since_us = self._since_us.pop(kind, None)
        if since_us is None:
            return
        start = instant_of((since_us // _STEP_US) * _STEP_US)
        wanted = Selection((kind,), start=start, tables=frozenset({(kind, self.market)}), symbols=symbols)
        is_done = False
        try:
            Deriver(self.rows.bars, self.rows.tables, _KnownNow(self.rows)).derive(wanted, tally)
            is_done = True
        finally:
            if not is_done:
                self._note(kind, since_us)

    def newest_us(self, kind: str, symbols: tuple[str, ...]) -> dict[str, int]:
        """Return the newest derived event of each symbol, microseconds since 1970, 0 where there is none. Blocks."""
        return dict.fromkeys(symbols, 0) | newest_events(self.rows.tables, kind, market=self.market, symbols=symbols)

    def _note(self, kind: str, first_us: int) -> None:
        with self._lock:
            self._since_us[kind] = min(first_us, self._since_us.get(kind, first_us))

    def _stored_until(self, kind: str, symbols: tuple[str, ...]) -> int:
        """Return from when on an earlier process may have left something underived."""
        oldest_us = micros_of(self.rows.clock.now() - _RECOVERED[kind])
        return max(oldest_us, min(self.newest_us(kind, symbols).values(), default=0))


@dataclass(frozen=True, slots=True)
class _KnownNow:
    """The KnownTimes of rows that are derived beside a running line."""

    rows: PollRows

    def known(self, market: str, known_us: Int64Array) -> Int64Array:  # noqa: ARG002 one market
        """Return the time of now, but for what was known before the lake lived; see PollRows."""
        now_us, since_us = micros_of(self.rows.clock.now()), micros_of(self.rows.live_since)
        is_history = (known_us <= since_us) & self.rows.is_new
        return np.where(is_history, known_us, np.maximum(known_us, now_us))
