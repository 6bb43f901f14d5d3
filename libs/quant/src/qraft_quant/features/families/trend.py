"""Distance to averages, differences of averages, efficiency of the path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.families.rows import settled, share, write_average_difference
from qraft_quant.features.layout import LOG_MIN, LONG_RING_BARS, Factor, Long, LongSum, ShortSum
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]


@njit(error_model="numpy")
def _write_gap(out: Rows, factor: int, long: Rings, now: int, sums: Rows, total: int, window: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = settled(long[Long.LOG_CLOSE, now, s] - sums[total, s] / window)


@njit(error_model="numpy")
def _write_efficiency(out: Rows, factor: int, long: Rings, now: int, lag: int, sums: Rows, path: int) -> None:
    before = slot_before(now, lag, LONG_RING_BARS)
    for s in range(out.shape[1]):
        change = long[Long.LOG_CLOSE, now, s] - long[Long.LOG_CLOSE, before, s]
        out[factor, s] = share(change, sums[path, s], LOG_MIN)


@njit(error_model="numpy")
def write_trend(state: State, now: Now) -> None:
    """Write the trend family of the newest bar into state.factors."""
    out, long, sums, paths = state.factors, state.long, state.long_sums, state.short_sums
    _write_gap(out, Factor.SMA_GAP_12, long, now.long, sums, LongSum.LOG_CLOSE_12, 12)
    _write_gap(out, Factor.SMA_GAP_48, long, now.long, sums, LongSum.LOG_CLOSE_48, 48)
    _write_gap(out, Factor.SMA_GAP_288, long, now.long, sums, LongSum.LOG_CLOSE_288, 288)
    _write_gap(out, Factor.SMA_GAP_2016, long, now.long, sums, LongSum.LOG_CLOSE_2016, 2016)
    write_average_difference(out, Factor.MACD_12_48, sums, LongSum.LOG_CLOSE_12, 12, LongSum.LOG_CLOSE_48, 48)
    write_average_difference(out, Factor.MACD_48_288, sums, LongSum.LOG_CLOSE_48, 48, LongSum.LOG_CLOSE_288, 288)
    _write_efficiency(out, Factor.EFFICIENCY_48, long, now.long, 48, paths, ShortSum.ABSOLUTE_RETURN_48)
    _write_efficiency(out, Factor.EFFICIENCY_288, long, now.long, 288, paths, ShortSum.ABSOLUTE_RETURN_288)
