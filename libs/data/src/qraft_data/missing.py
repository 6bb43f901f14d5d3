"""What becomes of cells without a value. Every policy counts them, and none hides where they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_data.query import Query
from qraft_data.times import BoolArray, FloatArray, Int64Array, instant_of
from qraft_quant.align import as_of_index

# As many places without a value are named when the policy is to refuse; the rest is counted.
_N_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Treated:
    """
    Values after the policy, (n_rows, n_symbols) each. is_missing: by field, where there was none before it. is_kept:
    false where `drop` dropped a cell.
    """

    values: dict[str, FloatArray]
    is_missing: dict[str, BoolArray]
    is_kept: BoolArray

    @property
    def n_missing(self) -> dict[str, int]:
        """Return how many cells had no value, by field."""
        return {name: int(cells.sum()) for name, cells in self.is_missing.items()}

    @property
    def n_filled(self) -> int:
        """Return how many values the policy put in, over all fields."""
        return sum(int((cells & ~np.isnan(self.values[name])).sum()) for name, cells in self.is_missing.items())


def treat_missing(query: Query, at_us: Int64Array, values: Mapping[str, FloatArray]) -> Treated:
    """
    Apply the query's policy.

    Raises:
        ValueError: by the policy `refuse`, naming the first places.
    """
    is_missing = {name: np.isnan(cells) for name, cells in values.items()}
    lacks_any = np.any(list(is_missing.values()), axis=0)
    if query.missing == "refuse" and lacks_any.any():
        raise ValueError(_refusal(query, at_us, lacks_any))
    if query.missing == "previous":
        filled = {name: _filled(cells, n_rows_max=query.fill_bars) for name, cells in values.items()}
        return Treated(filled, is_missing, np.ones(lacks_any.shape, np.bool_))
    if query.missing == "drop":
        kept = {name: np.where(lacks_any, np.nan, cells) for name, cells in values.items()}
        return Treated(kept, is_missing, ~lacks_any)
    return Treated(dict(values), is_missing, np.ones(lacks_any.shape, np.bool_))


def _filled(values: FloatArray, *, n_rows_max: int) -> FloatArray:
    """Return values with gaps of up to n_rows_max rows filled by the last value before them; row t uses rows 0..t."""
    found = values.copy()
    rows = np.arange(len(values), dtype=np.int64)
    for column in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(values[:, column]))
        last = as_of_index(rows, known, tolerance_us=n_rows_max)  # rows count as times here: a calendar has no nights
        found[last >= 0, column] = values[known[last[last >= 0]], column]
    return found


def _refusal(query: Query, at_us: Int64Array, lacks_any: BoolArray) -> str:
    rows, columns = np.nonzero(lacks_any)
    named = [
        f"{instant_of(int(at_us[row]))} {query.symbols[column]}"
        for row, column in zip(rows[:_N_NAMED_MAX], columns[:_N_NAMED_MAX], strict=True)
    ]
    return f"expected every value, {rows.size} rows lack one: {named}; mend the data or choose `drop`"
