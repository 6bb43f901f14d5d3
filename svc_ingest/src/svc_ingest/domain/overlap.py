"""A second source of rows that are stored: the same to within its rounding, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def agreeing(rows: pa.Table, stored: pa.Table, within: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """
    Return which rows are stored already, every field of `within` being as near to the stored one as it says.

    Args:
        rows, stored: tables of one kind and market.
        within: field → largest difference, in the field's unit.
    """
    known = dict(zip(_names(stored), _values(stored, within), strict=True))
    limits = np.array(list(within.values()))
    found = np.zeros(rows.num_rows, dtype=bool)
    for i, (name, values) in enumerate(zip(_names(rows), _values(rows, within), strict=True)):
        if name in known:
            found[i] = bool((np.abs(values - known[name]) <= limits).all())
    return found


def _names(table: pa.Table) -> list[tuple[Any, ...]]:
    event = np.asarray(table["event_at"].cast(pa.int64()).to_numpy()).tolist()
    return list(zip(table["symbol"].to_pylist(), event, table["row_id"].to_pylist(), strict=True))


def _values(table: pa.Table, within: Mapping[str, float]) -> npt.NDArray[np.float64]:
    return np.column_stack([np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=float) for name in within])
