"""Shape of the newest bar."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.layout import LOG_MIN, Factor, Long, Short, ShortSum
from qraft_quant.features.series import LOG_OPEN
from qraft_quant.features.state import Now, State

Rows = npt.NDArray[np.float64]
Rings = npt.NDArray[np.float64]


@njit(**INNER)
def _write_body(out: Rows, bar: Rows, long: Rings, short: Rings, now: Now) -> None:
    for s in range(out.shape[1]):
        width = short[Short.RANGE, now.short, s]
        body = long[Long.LOG_CLOSE, now.long, s] - bar[LOG_OPEN, s]
        out[Factor.CANDLE_BODY, s] = body / width if width >= LOG_MIN else 0.0


@njit(**INNER)
def _write_close_location(out: Rows, long: Rings, short: Rings, now: Now) -> None:
    for s in range(out.shape[1]):
        width, close = short[Short.RANGE, now.short, s], long[Long.LOG_CLOSE, now.long, s]
        above, below = short[Short.HIGH_1, now.short, s] - close, close - short[Short.LOW_1, now.short, s]
        out[Factor.CLOSE_LOCATION, s] = (below - above) / width if width >= LOG_MIN else 0.0


@njit(**INNER)
def _write_range_ratio(out: Rows, short: Rings, now: Now, sums: Rows) -> None:
    for s in range(out.shape[1]):
        mean = sums[ShortSum.RANGE_48, s] / 48
        out[Factor.RANGE_RATIO_48, s] = short[Short.RANGE, now.short, s] / mean if mean >= LOG_MIN else 0.0


@njit(**OUTER)
def write_candle(state: State, now: Now) -> None:
    """Write the candle family of the newest bar into state.factors."""
    out, long, short = state.factors, state.long, state.short
    _write_body(out, state.bar, long, short, now)
    _write_close_location(out, long, short, now)
    _write_range_ratio(out, short, now, state.short_sums)
