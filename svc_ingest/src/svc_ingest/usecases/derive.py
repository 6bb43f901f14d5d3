"""Fallbacks and derived kinds into the lake, out of what it holds; stored rows of a source come first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.derive import basis_frac
from svc_ingest.domain.tally import Tally
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

        Raises:
            Transient: as the stores.
        """
        rows = DerivedRows(self.tables, tally, self.kept_live)
        if selection.takes("taker_volume") or selection.takes("trade_flow"):
            derive_trades(rows, selection)
        if selection.takes("liquidation_flow"):
            derive_liquidations(rows, selection)
        if selection.takes("book_state"):
            derive_books(rows, selection)
        if selection.takes("basis"):
            for spot, perp, interval in self._pairs():
                span = self.bars.range(market=perp, interval=interval)
                for start, end in stretches(span, selection, _BARS_WINDOW):
                    self._basis(rows, spot, perp, interval, start, end)
        if selection.takes("mark_premium"):
            derive_premium(rows, self.bars, selection)
        if selection.takes("series_state"):
            derive_series(rows, selection)
        if selection.takes("event_density"):
            derive_events(rows, selection)
        if selection.takes("text_state"):
            derive_texts(rows, self.bars, selection)

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
