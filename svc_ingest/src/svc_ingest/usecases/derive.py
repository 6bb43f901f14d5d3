"""Fallbacks and derived kinds into the lake, out of what it holds; stored rows of a source come first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from qraft_contracts.outcomes import Outcome, Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.derive import basis_frac
from svc_ingest.domain.tally import Named, Tally
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive_flows import derive_books, derive_liquidations, derive_trades
from svc_ingest.usecases.derive_series import derive_events, derive_premium, derive_series
from svc_ingest.usecases.derive_texts import derive_texts
from svc_ingest.usecases.derived_rows import DerivedRows, KnownTimes, stretches

# A stretch of bars that is read at once.
_BARS_WINDOW: Final = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Deriver:
    """
    Derives kinds from what the lake holds; rows carry the source `derived:<kind they come from>`.

    kept_live: for a lake that a running line reads, None = for a lake of history.
    """

    bars: BarStore
    tables: TableStore
    kept_live: KnownTimes | None = None

    def derive(self, selection: Selection, tally: Tally) -> None:
        """
        Add the rows that can be derived and that no source gave; a second run adds nothing.

        A kind that cannot be read and a table that cannot be written (a living line holds those it writes) are failures
        by name; all others are derived.

        Raises:
            Malformed, Transient: as the stores, at the end; what must be mended before what is away.
        """
        unread, away = list[tuple[str, Outcome]](), dict[tuple[str, str], Transient]()
        rows = DerivedRows(self.tables, tally, self.kept_live, away)
        for kinds, work in self._works().items():
            if any(map(selection.takes, kinds)):
                try:
                    work(rows, selection)
                except Outcome as error:
                    unread.append((", ".join(kinds), error))
        problems = [*unread, *((f"{kind} {market}", error) for (kind, market), error in away.items())]
        tally.failures += [Named(f"derived:{where}", error.reason, error.detail) for where, error in problems]
        if problems:
            raise min((error for _, error in problems), key=lambda error: isinstance(error, Transient))

    def _works(self) -> Mapping[tuple[str, ...], Callable[[DerivedRows, Selection], None]]:
        """Return what derives which kinds."""
        return {
            ("taker_volume", "trade_flow"): derive_trades,
            ("liquidation_flow",): derive_liquidations,
            ("book_state",): derive_books,
            ("basis",): self._derive_basis,
            ("mark_premium",): lambda rows, selection: derive_premium(rows, self.bars, selection),
            ("series_state",): derive_series,
            ("event_density",): derive_events,
            ("text_state",): lambda rows, selection: derive_texts(rows, self.bars, selection),
        }

    def _derive_basis(self, rows: DerivedRows, selection: Selection) -> None:
        for spot, perp, interval in self._pairs():
            span = self.bars.range(market=perp, interval=interval)
            for start, end in stretches(span, selection, _BARS_WINDOW):
                self._basis(rows, spot, perp, interval, start, end)

    def _pairs(self) -> list[tuple[str, str, str]]:
        """Return the venues with spot and perpetual bars, each with the shortest interval of both."""
        found: dict[str, tuple[str, str, str]] = {}
        for interval in sorted(INTERVAL_SECONDS, key=INTERVAL_SECONDS.__getitem__):
            markets = set(self.bars.markets(interval))
            for market in sorted(markets):
                venue, _, contract = market.rpartition(".")
                if contract == "spot" and f"{venue}.perp" in markets:
                    found.setdefault(venue, (market, f"{venue}.perp", interval))
        return sorted(found.values())

    def _basis(self, rows: DerivedRows, spot: str, perp: str, interval: str, start: datetime, end: datetime) -> None:
        panels = [
            self.bars.read(market=it, interval=interval, symbols=None, start=start, end=end) for it in (spot, perp)
        ]
        left, right = panels
        if left is None or right is None:
            return
        # Both panels lie on the grid of the same range, and first revisions are known when their bar ends: row i of
        # both was known at closed_at[i], and nothing later is used.
        closed_at = left.closed_at.astype("datetime64[us]").astype(np.int64)
        origin = max(left.origin.value, right.origin.value)
        for symbol in sorted(set(left.symbols) & set(right.symbols)):
            spot_close, future = _closes(left, symbol), _closes(right, symbol)
            there = ~(np.isnan(spot_close) | np.isnan(future))
            fields = {
                "spot_price": spot_close[there],
                "future_price": future[there],
                "basis_frac": basis_frac(spot_close[there], future[there]),
            }
            rows.add("basis", perp, symbol, closed_at[there], closed_at[there], fields, "bars", origin)


def _closes(panel: BarPanel, symbol: str) -> Any:
    return panel.close[:, panel.symbols.index(symbol)]
