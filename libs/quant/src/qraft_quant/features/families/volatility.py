"""Spread of returns and ranges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.rows import return_variance, settled
from qraft_quant.features.layout import LONG_RING_BARS, RETURN_VARIANCE_MIN, Factor, Long, LongSum, ShortSum
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]

# Parkinson (1980): E[range²] = 4 ln 2 σ².
FOUR_LN_2 = 2.7725887222397811
# factor, sum, window
VOLATILITIES = (
    (Factor.VOLATILITY_12, LongSum.SQUARED_RETURN_12, 12),
    (Factor.VOLATILITY_48, LongSum.SQUARED_RETURN_48, 48),
    (Factor.VOLATILITY_288, LongSum.SQUARED_RETURN_288, 288),
    (Factor.VOLATILITY_2016, LongSum.SQUARED_RETURN_2016, 2016),
)
# factor, sum, divisor
ROOT_MEANS = (
    (Factor.PARKINSON_48, ShortSum.SQUARED_RANGE_48, 48 * FOUR_LN_2),
    (Factor.GARMAN_KLASS_288, ShortSum.GARMAN_KLASS_288, 288.0),
)


@njit(**INNER)
def _write_volatility(out: Rows, factor: int, long: Rings, now: int, sums: Rows, squares: int, window: int) -> None:
    """Write the deviation of returns; their sum is the return over the window, which needs no rolling sum."""
    before = slot_before(now, window, LONG_RING_BARS)
    for s in range(out.shape[1]):
        total = long[Long.LOG_CLOSE, now, s] - long[Long.LOG_CLOSE, before, s]
        out[factor, s] = math.sqrt(return_variance(sums[squares, s], total, window))


@njit(**INNER)
def _write_root_mean(out: Rows, factor: int, sums: Rows, total: int, divisor: float) -> None:
    for s in range(out.shape[1]):
        mean = sums[total, s] / divisor
        out[factor, s] = math.sqrt(mean if mean > RETURN_VARIANCE_MIN else 0.0)


@njit(**INNER)
def _write_mean(out: Rows, factor: int, sums: Rows, total: int, window: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = settled(sums[total, s] / window)


@njit(**INNER)
def _write_ratio(out: Rows, factor: int, part: int, whole: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = out[part, s] / out[whole, s] if out[whole, s] > 0.0 else 0.0


@njit(**OUTER)
def write_volatility(state: State, now: Now) -> None:
    """Write the volatility family of the newest bar into state.factors."""
    out, sums = state.factors, state.short_sums
    for factor, squares, window in VOLATILITIES:
        _write_volatility(out, factor, state.long, now.long, state.long_sums, squares, window)
    _write_ratio(out, Factor.VOLATILITY_RATIO_12_288, Factor.VOLATILITY_12, Factor.VOLATILITY_288)
    for factor, total, divisor in ROOT_MEANS:
        _write_root_mean(out, factor, sums, total, divisor)
    _write_mean(out, Factor.ATR_14, sums, ShortSum.TRUE_RANGE_14, 14)
