"""Returns over several lags, and returns in relation to what moved meanwhile. Runs after the volatility family."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.families.rows import share, write_in_deviations
from qraft_quant.features.layout import LOG_MIN, LONG_RING_BARS, Factor, Long, ShortSum
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]


@njit(error_model="numpy")
def _write_return(out: Rows, factor: int, long: Rings, now: int, newer: int, older: int) -> None:
    """Write the log return from `older` to `newer` bars ago."""
    end, start = slot_before(now, newer, LONG_RING_BARS), slot_before(now, older, LONG_RING_BARS)
    for s in range(out.shape[1]):
        out[factor, s] = long[Long.LOG_CLOSE, end, s] - long[Long.LOG_CLOSE, start, s]


@njit(error_model="numpy")
def _write_relative_strength(out: Rows, factor: int, sums: Rows, rise: int, path: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = share(2.0 * sums[rise, s] - sums[path, s], sums[path, s], LOG_MIN)


@njit(error_model="numpy")
def write_momentum(state: State, now: Now) -> None:
    """Write the momentum family of the newest bar into state.factors."""
    out, long, sums = state.factors, state.long, state.short_sums
    _write_return(out, Factor.RETURN_1, long, now.long, 0, 1)
    _write_return(out, Factor.RETURN_3, long, now.long, 0, 3)
    _write_return(out, Factor.RETURN_12, long, now.long, 0, 12)
    _write_return(out, Factor.RETURN_48, long, now.long, 0, 48)
    _write_return(out, Factor.RETURN_144, long, now.long, 0, 144)
    _write_return(out, Factor.RETURN_288, long, now.long, 0, 288)
    _write_return(out, Factor.RETURN_864, long, now.long, 0, 864)
    _write_return(out, Factor.RETURN_2016, long, now.long, 0, 2016)
    _write_return(out, Factor.RETURN_12_LAG_12, long, now.long, 12, 24)
    _write_relative_strength(out, Factor.RSI_14, sums, ShortSum.RISE_14, ShortSum.ABSOLUTE_RETURN_14)
    write_in_deviations(out, Factor.RETURN_RISK_288, Factor.RETURN_288, Factor.VOLATILITY_288, 288)
