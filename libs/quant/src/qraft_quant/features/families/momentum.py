"""Returns over several lags, and returns in relation to what moved meanwhile. Runs after the volatility family."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.rows import share, write_in_deviations
from qraft_quant.features.layout import LOG_MIN, LONG_RING_BARS, Factor, Long, ShortSum
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]

# factor, from so many bars ago, back to so many bars ago
RETURNS = (
    (Factor.RETURN_1, 0, 1),
    (Factor.RETURN_3, 0, 3),
    (Factor.RETURN_12, 0, 12),
    (Factor.RETURN_48, 0, 48),
    (Factor.RETURN_144, 0, 144),
    (Factor.RETURN_288, 0, 288),
    (Factor.RETURN_864, 0, 864),
    (Factor.RETURN_2016, 0, 2016),
    (Factor.RETURN_12_LAG_12, 12, 24),
)


@njit(**INNER)
def _write_return(out: Rows, factor: int, long: Rings, now: int, newer: int, older: int) -> None:
    """Write the log return from `older` to `newer` bars ago."""
    end, start = slot_before(now, newer, LONG_RING_BARS), slot_before(now, older, LONG_RING_BARS)
    for s in range(out.shape[1]):
        out[factor, s] = long[Long.LOG_CLOSE, end, s] - long[Long.LOG_CLOSE, start, s]


@njit(**INNER)
def _write_relative_strength(out: Rows, factor: int, sums: Rows, rise: int, path: int) -> None:
    for s in range(out.shape[1]):
        out[factor, s] = share(2.0 * sums[rise, s] - sums[path, s], sums[path, s], LOG_MIN)


@njit(**OUTER)
def write_momentum(state: State, now: Now) -> None:
    """Write the momentum family of the newest bar into state.factors."""
    out, long, sums = state.factors, state.long, state.short_sums
    for factor, newer, older in RETURNS:
        _write_return(out, factor, long, now.long, newer, older)
    _write_relative_strength(out, Factor.RSI_14, sums, ShortSum.RISE_14, ShortSum.ABSOLUTE_RETURN_14)
    write_in_deviations(out, Factor.RETURN_RISK_288, Factor.RETURN_288, Factor.VOLATILITY_288, 288)
