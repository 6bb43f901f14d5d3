"""Where the close stands within the recent range, and against the price that volume was paid at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.rows import write_in_deviations
from qraft_quant.features.layout import LOG_MIN, Factor, Long, Short, ShortSum
from qraft_quant.features.rolling import write_extreme
from qraft_quant.features.series import CLOSE
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]

# Rows of State.extremes.
HIGH_288, LOW_288, HIGH_48, LOW_48 = range(4)
# row, series, stride, number of rows, 1 for the maximum and -1 for the minimum
EXTREMES = (
    (HIGH_288, Short.HIGH_48, 48, 6, 1.0),
    (LOW_288, Short.LOW_48, 48, 6, -1.0),
    (HIGH_48, Short.HIGH_48, 48, 1, 1.0),
    (LOW_48, Short.LOW_48, 48, 1, -1.0),
)
# factor, row of the highs, row of the lows
RANGE_POSITIONS = (
    (Factor.RANGE_POSITION_48, HIGH_48, LOW_48),
    (Factor.RANGE_POSITION_288, HIGH_288, LOW_288),
)


@njit(**INNER)
def _write_range_position(out: Rows, factor: int, long: Rings, now: int, extremes: Rows, high: int, low: int) -> None:
    for s in range(out.shape[1]):
        width = extremes[high, s] - extremes[low, s]
        rise = long[Long.LOG_CLOSE, now, s] - extremes[low, s]
        out[factor, s] = rise / width - 0.5 if width >= LOG_MIN else 0.0


@njit(**INNER)
def _write_drawdown(out: Rows, long: Rings, now: int, extremes: Rows) -> None:
    for s in range(out.shape[1]):
        out[Factor.DRAWDOWN_288, s] = long[Long.LOG_CLOSE, now, s] - extremes[HIGH_288, s]


@njit(**INNER)
def _write_vwap_gap(out: Rows, bar: Rows, sums: Rows) -> None:
    for s in range(out.shape[1]):
        volume, paid = sums[ShortSum.VOLUME_288, s], sums[ShortSum.PRICE_VOLUME_288, s]
        is_known = (sums[ShortSum.TRADED_288, s] > 0.0) & (volume > 0.0) & (paid > 0.0)
        out[Factor.VWAP_GAP_288, s] = bar[CLOSE, s] * volume / paid - 1.0 if is_known else 0.0


@njit(**OUTER)
def write_position(state: State, now: Now) -> None:
    """Write the price position family of the newest bar into state.factors; after trend and volatility."""
    out, long, extremes = state.factors, state.long, state.extremes
    for row, series, stride, n_rows, sign in EXTREMES:
        write_extreme(extremes, row, state.short, series, now.short, stride, n_rows, sign)
    for factor, high, low in RANGE_POSITIONS:
        _write_range_position(out, factor, long, now.long, extremes, high, low)
    _write_drawdown(out, long, now.long, extremes)
    _write_vwap_gap(out, state.bar, state.short_sums)
    write_in_deviations(out, Factor.SMA_Z_48, Factor.SMA_GAP_48, Factor.VOLATILITY_48, 48)
