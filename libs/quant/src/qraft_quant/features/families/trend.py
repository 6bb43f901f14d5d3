"""Distance to averages, differences of averages, efficiency of the path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.rows import settled, share, write_average_difference
from qraft_quant.features.layout import LOG_MIN, LONG_RING_BARS, Factor, Long, LongSum, ShortSum
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]

# factor, sum, window
GAPS = (
    (Factor.SMA_GAP_12, LongSum.LOG_CLOSE_12, 12),
    (Factor.SMA_GAP_48, LongSum.LOG_CLOSE_48, 48),
    (Factor.SMA_GAP_288, LongSum.LOG_CLOSE_288, 288),
    (Factor.SMA_GAP_2016, LongSum.LOG_CLOSE_2016, 2016),
)
# factor, fast sum, its window, slow sum, its window
DIFFERENCES = (
    (Factor.MACD_12_48, LongSum.LOG_CLOSE_12, 12, LongSum.LOG_CLOSE_48, 48),
    (Factor.MACD_48_288, LongSum.LOG_CLOSE_48, 48, LongSum.LOG_CLOSE_288, 288),
)
# factor, lag, sum of absolute returns
EFFICIENCIES = (
    (Factor.EFFICIENCY_48, 48, ShortSum.ABSOLUTE_RETURN_48),
    (Factor.EFFICIENCY_288, 288, ShortSum.ABSOLUTE_RETURN_288),
)


@njit(**INNER)
def _write_gap(out: Rows, factor: int, long: Rings, now: int, sums: Rows, total: int, window: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = settled(long[Long.LOG_CLOSE, now, s] - sums[total, s] / window)


@njit(**INNER)
def _write_efficiency(out: Rows, factor: int, long: Rings, now: int, lag: int, sums: Rows, path: int) -> None:
    before = slot_before(now, lag, LONG_RING_BARS)
    for s in range(out.shape[1]):
        change = long[Long.LOG_CLOSE, now, s] - long[Long.LOG_CLOSE, before, s]
        out[factor, s] = share(change, sums[path, s], LOG_MIN)


@njit(**OUTER)
def write_trend(state: State, now: Now) -> None:
    """Write the trend family of the newest bar into state.factors."""
    out, long, sums = state.factors, state.long, state.long_sums
    for factor, total, window in GAPS:
        _write_gap(out, factor, long, now.long, sums, total, window)
    for factor, fast, n_fast, slow, n_slow in DIFFERENCES:
        write_average_difference(out, factor, sums, fast, n_fast, slow, n_slow)
    for factor, lag, path in EFFICIENCIES:
        _write_efficiency(out, factor, long, now.long, lag, state.short_sums, path)
