"""Unusual turnover and the side on which it falls."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.rows import share, write_average_difference
from qraft_quant.features.layout import PRICE_MIN, VOLUME_VARIANCE_MIN, Factor, Short, ShortSum
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]

# factor, sum, sum of squares, window
Z_SCORES = (
    (Factor.VOLUME_Z_48, ShortSum.LOG_TURNOVER_48, ShortSum.SQUARED_LOG_TURNOVER_48, 48),
    (Factor.VOLUME_Z_288, ShortSum.LOG_TURNOVER_288, ShortSum.SQUARED_LOG_TURNOVER_288, 288),
)
# factor, sum of the flow
FLOWS = (
    (Factor.SIGNED_VOLUME_48, ShortSum.SIGNED_VOLUME_48),
    (Factor.MONEY_FLOW_48, ShortSum.MONEY_FLOW_48),
)


@njit(**INNER)
def _write_z_score(
    out: Rows, factor: int, short: Rings, now: int, sums: Rows, total: int, squares: int, window: int
) -> None:
    for s in range(out.shape[1]):
        mean = sums[total, s] / window
        variance = sums[squares, s] / window - mean * mean
        deviation = math.sqrt(variance if variance > VOLUME_VARIANCE_MIN else 1.0)
        gap = short[Short.LOG_TURNOVER, now, s] - mean
        out[factor, s] = gap / deviation if variance > VOLUME_VARIANCE_MIN else 0.0


@njit(**INNER)
def _write_flow(out: Rows, factor: int, sums: Rows, flow: int, volume: int, n_traded: int) -> None:
    """Write flow / volume; 0 where nothing was traded (counts are exact, sums of volume may keep a rest)."""
    for s in range(out.shape[1]):
        ratio = share(sums[flow, s], sums[volume, s], PRICE_MIN)
        out[factor, s] = ratio if sums[n_traded, s] > 0.0 else 0.0


@njit(**OUTER)
def write_volume(state: State, now: Now) -> None:
    """Write the volume family of the newest bar into state.factors."""
    out, sums = state.factors, state.short_sums
    for factor, total, squares, window in Z_SCORES:
        _write_z_score(out, factor, state.short, now.short, sums, total, squares, window)
    fast, slow = ShortSum.LOG_TURNOVER_12, ShortSum.LOG_TURNOVER_288
    write_average_difference(out, Factor.VOLUME_TREND_12_288, sums, fast, 12, slow, 288)
    for factor, flow in FLOWS:
        _write_flow(out, factor, sums, flow, ShortSum.VOLUME_48, ShortSum.TRADED_48)
