"""Unusual turnover and the side on which it falls."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.families.rows import share, write_average_difference
from qraft_quant.features.layout import PRICE_MIN, VOLUME_VARIANCE_MIN, Factor, Short, ShortSum
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]


@njit(error_model="numpy")
def _write_z_score(
    out: Rows, factor: int, short: Rings, now: int, sums: Rows, total: int, squares: int, window: int
) -> None:
    for s in range(out.shape[1]):
        mean = sums[total, s] / window
        variance = sums[squares, s] / window - mean * mean
        deviation = math.sqrt(variance if variance > VOLUME_VARIANCE_MIN else 1.0)
        gap = short[Short.LOG_TURNOVER, now, s] - mean
        out[factor, s] = gap / deviation if variance > VOLUME_VARIANCE_MIN else 0.0


@njit(error_model="numpy")
def _write_flow(out: Rows, factor: int, sums: Rows, flow: int, volume: int, n_traded: int) -> None:
    """Write flow / volume; 0 where nothing was traded (counts are exact, sums of volume may keep a rest)."""
    for s in range(out.shape[1]):
        ratio = share(sums[flow, s], sums[volume, s], PRICE_MIN)
        out[factor, s] = ratio if sums[n_traded, s] > 0.0 else 0.0


@njit(error_model="numpy")
def write_volume(state: State, now: Now) -> None:
    """Write the volume family of the newest bar into state.factors."""
    out, short, sums = state.factors, state.short, state.short_sums
    total, squares = ShortSum.LOG_TURNOVER_48, ShortSum.SQUARED_LOG_TURNOVER_48
    _write_z_score(out, Factor.VOLUME_Z_48, short, now.short, sums, total, squares, 48)
    long_total, long_squares = ShortSum.LOG_TURNOVER_288, ShortSum.SQUARED_LOG_TURNOVER_288
    _write_z_score(out, Factor.VOLUME_Z_288, short, now.short, sums, long_total, long_squares, 288)
    write_average_difference(out, Factor.VOLUME_TREND_12_288, sums, ShortSum.LOG_TURNOVER_12, 12, long_total, 288)
    volume, n_traded = ShortSum.VOLUME_48, ShortSum.TRADED_48
    _write_flow(out, Factor.SIGNED_VOLUME_48, sums, ShortSum.SIGNED_VOLUME_48, volume, n_traded)
    _write_flow(out, Factor.MONEY_FLOW_48, sums, ShortSum.MONEY_FLOW_48, volume, n_traded)
