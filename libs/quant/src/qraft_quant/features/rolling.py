"""
Rolling sums with anchors, and rolling extremes. Compiled as part of kernel.py.

The innermost functions take whole arrays and positions in them, never views: numba counts references of a view
atomically, which cost more than the arithmetic of a row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.layout import Short
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]  # (rows, n_symbols)
Rings = npt.NDArray[np.float64]  # (series, ring bars, n_symbols)
Table = npt.NDArray[np.int64]

# target series, source series, stride, number of rows, 1 for the maximum and -1 for the minimum
EXTREMES = (
    (Short.HIGH_12, Short.HIGH_1, 1, 12, 1.0),
    (Short.HIGH_48, Short.HIGH_12, 12, 4, 1.0),
    (Short.LOW_12, Short.LOW_1, 1, 12, -1.0),
    (Short.LOW_48, Short.LOW_12, 12, 4, -1.0),
)


@njit(**INNER)
def slot_before(slot: int, lag: int, ring_bars: int) -> int:
    """Return the slot of `lag` bars before, at most a ring length; a division would cost more than the row."""
    return slot - lag if slot >= lag else slot - lag + ring_bars


@njit(**INNER)
def _sum_anew(sums: Rows, k: int, rings: Rings, series: int, slot: int, window: int) -> None:
    """Add the window's bars, oldest first."""
    for s in range(sums.shape[1]):
        sums[k, s] = 0.0
    for lag in range(window - 1, -1, -1):
        at = slot_before(slot, lag, rings.shape[1])
        for s in range(sums.shape[1]):
            sums[k, s] += rings[series, at, s]


@njit(**INNER)
def _add_and_drop(sums: Rows, k: int, rings: Rings, series: int, newest: int, dropped: int) -> None:
    for s in range(sums.shape[1]):
        sums[k, s] = (sums[k, s] + rings[series, newest, s]) - rings[series, dropped, s]


@njit(**INNER)
def advance_sums(sums: Rows, rings: Rings, table: Table, slot: int, phase: int) -> None:
    """
    Move every sum of one ring to the newest bar, whose series are already in the ring.

    The order of operations of a symbol depends on the absolute index alone, so equal bars give equal bits wherever
    the history began and whichever symbols stand beside it.
    """
    for k in range(table.shape[0]):
        series, window = table[k, 0], table[k, 1]
        if table[k, 2] == phase:
            _sum_anew(sums, k, rings, series, slot, window)
        else:
            _add_and_drop(sums, k, rings, series, slot, slot_before(slot, window, rings.shape[1]))


@njit(**INNER)
def write_extreme(
    out: Rows, row: int, rings: Rings, series: int, slot: int, stride: int, n_rows: int, sign: float
) -> None:
    """Write the maximum (sign 1) or minimum (sign -1) of a series over slot, slot - stride, … (n_rows of them)."""
    for s in range(out.shape[1]):
        out[row, s] = rings[series, slot, s]
    for k in range(1, n_rows):
        at = slot_before(slot, k * stride, rings.shape[1])
        for s in range(out.shape[1]):
            x = rings[series, at, s]
            out[row, s] = x if sign * x > sign * out[row, s] else out[row, s]


@njit(**OUTER)
def advance_extremes(state: State, now: Now) -> None:
    """
    Move the 12- and 48-bar extremes to the newest bar: 48 = four of 12 side by side, later 288 = six of 48.

    Exact like a scan, but 22 row operations instead of 288 and the same cost for every bar; keeping the extreme and
    scanning when it leaves costs a scan for all symbols at once after a market-wide move.
    """
    for target, source, stride, n_rows, sign in EXTREMES:
        write_extreme(state.short[target], now.short, state.short, source, now.short, stride, n_rows, sign)
