"""Read the contracts of continuous futures and join them by the roll rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_data.continuous.rolls import RollPoint, RollRule, joined_prices, plan_rolls, roll_points
from qraft_data.query import FieldRef, Query
from qraft_data.reading import Reader, as_of_columns
from qraft_data.times import FloatArray, Int64Array, float_column, micros
from qraft_quant.align import rolling
from qraft_store.bars.port import BarPanel

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PRICES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Chains:
    """
    Continuous series of several roots.

    values: by field name, (n_rows, n_roots). active: (n_rows, n_roots) index into contracts, -1 = none.
    """

    values: dict[str, FloatArray]
    points: tuple[RollPoint, ...]
    active: Int64Array
    contracts: tuple[str, ...]
    n_outside_calendar: int


def read_chains(reader: Reader, query: Query) -> Chains:
    """
    Return the continuous series of the query's roots.

    Raises:
        ValueError: if a root has no contracts, or back-adjustment lacks a gap.
    """
    rule = query.continuous
    assert rule is not None, "only continuous queries come here"
    n_rows, n_roots = reader.at_us.size, len(query.symbols)
    reader = reader.from_earlier(query.first_read, calendar=query.calendar)
    n_before = reader.at_us.size - n_rows
    listed = reader.rows("futures_contracts", query.market, None, start=_FIRST, columns=("root", "expires_at_us"))
    values = {ref.name: np.full((n_rows, n_roots), np.nan) for ref in query.fields}
    active = np.full((n_rows, n_roots), -1, np.int64)
    points: list[RollPoint] = []
    names: list[str] = []
    n_outside = 0
    for column, root in enumerate(query.symbols):
        chain = _Chain(reader, query, rule, root, _of_root(listed, root, query))
        for ref in query.fields:
            values[ref.name][:, column] = chain.field(ref)[n_before:]
        of_rows = chain.rolls.active[n_before:]
        active[:, column] = np.where(of_rows >= 0, of_rows + len(names), -1)
        names += chain.contracts
        points += chain.points
        n_outside += chain.n_outside_calendar
    return Chains(values, tuple(points), active, tuple(names), n_outside)


class _Chain:
    """One root: its contracts by expiry, which of them each row shows, and the joined values."""

    def __init__(self, reader: Reader, query: Query, rule: RollRule, root: str, listed: pa.Table) -> None:
        self._reader, self._query, self._rule = reader, query, rule
        self.contracts = _by_expiry(listed)
        known = as_of_columns(listed, ("expires_at_us",), self.contracts, reader.at_us, max_age_s=None)
        self._panel: BarPanel | None = reader.bar_panel(query.market, self.contracts)
        close = self._bars("close")
        self.rolls = plan_rolls(reader.at_us, expires_us=known["expires_at_us"], weight=self._weight(), rule=rule)
        start_us = micros(query.start)
        points = roll_points(reader.at_us, self.rolls, close=close, contracts=self.contracts, root=root)
        self.points = tuple(point for point in points if point.row_at_us > start_us)
        self.n_outside_calendar = self._n_bars(start_us) - int(np.isfinite(close[reader.at_us > start_us]).sum())

    def field(self, ref: FieldRef) -> FloatArray:
        """Return a field of the contract that each row shows, (n_rows,); prices of bars are joined by the rule."""
        if ref.symbol is not None and ref.kind.name == "bars":
            panel = self._reader.bar_panel(ref.market or self._query.market, (ref.symbol,))
            return self._reader.on_rows(panel, ref.field.name, 1)[:, 0]
        if ref.symbol is not None:
            return self._reader.metric(ref, ref.market or self._query.market, ())[:, 0]
        if ref.kind.name == "bars":
            shown = self._shown(self._bars(ref.field.name))
            if ref.field.name in _PRICES:
                return joined_prices(self._reader.at_us, shown, self.points, back_adjust=self._rule.back_adjust)
            return shown
        return self._shown(self._reader.metric(ref, self._query.market, self.contracts))

    def _n_bars(self, start_us: int) -> int:
        """Return how many bars there are after the start, in sessions or not."""
        if self._panel is None:
            return 0
        return int(np.isfinite(self._panel.close[self._panel.closed_at.astype(np.int64) > start_us]).sum())

    def _bars(self, name: str) -> FloatArray:
        return self._reader.on_rows(self._panel, name, len(self.contracts))

    def _shown(self, values: FloatArray) -> FloatArray:
        active = self.rolls.active
        return np.where(active >= 0, values[np.arange(active.size), np.maximum(active, 0)], np.nan)

    def _weight(self) -> FloatArray:
        if self._rule.by == "open_interest":
            ref = FieldRef(metric="open_interest.open_interest", max_age_s=self._rule.max_age_s)
            return self._reader.metric(ref, self._query.market, self.contracts)
        volume = np.nan_to_num(self._bars("volume"))  # no bar = nothing was traded
        if self._rule.by == "days_before_expiry" or self._rule.window_bars == 1:
            return volume
        return rolling(volume, self._rule.window_bars, np.sum)


def _of_root(listed: pa.Table, root: str, query: Query) -> pa.Table:
    """Return the listings of a root's contracts that had not expired before the first row is read."""
    own = np.array([name == root for name in listed["root"].to_pylist()], dtype=np.bool_)
    alive = {
        name
        for name, expires_us in zip(_names(listed), float_column(listed, "expires_at_us").tolist(), strict=True)
        if expires_us > micros(query.first_read)
    }
    found = listed.filter(pa.array(own & np.array([name in alive for name in _names(listed)], dtype=np.bool_)))
    if not found.num_rows:
        raise ValueError(
            f"expected futures_contracts of root {root} in {query.market} that are known by as_of and expire after "
            f"{query.first_read:%Y-%m-%d}, found none"
        )
    return found


def _by_expiry(listed: pa.Table) -> tuple[str, ...]:
    """Return the contracts by the expiry that was known first; a changed expiry does not change the order."""
    first: dict[str, float] = {}
    for name, expires in zip(_names(listed), float_column(listed, "expires_at_us").tolist(), strict=True):
        first.setdefault(name, expires)
    return tuple(sorted(first, key=lambda name: (first[name], name)))


def _names(listed: pa.Table) -> Sequence[str]:
    return [str(name) for name in listed["symbol"].to_pylist()]
