"""The rules that the families share, and the one loop that several of them need."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER
from qraft_quant.features.layout import LOG_MIN, RETURN_VARIANCE_MIN

Rows = npt.NDArray[np.float64]  # (rows, n_symbols)


@njit(**INNER)
def settled(difference: float) -> float:
    """Return a difference of logs, with the rounding of running sums (below 1e-12) taken for 0."""
    return difference if abs(difference) >= LOG_MIN else 0.0


@njit(**INNER)
def return_variance(sum_of_squares: float, total: float, window: int) -> float:
    """Return the population variance of log returns per bar; 0 below RETURN_VARIANCE_MIN."""
    variance = (sum_of_squares - total * total / window) / window
    return variance if variance > RETURN_VARIANCE_MIN else 0.0


@njit(**INNER)
def share(part: float, whole: float, whole_min: float) -> float:
    """Return part / whole within [-1, 1]; 0 where the whole is below whole_min."""
    ratio = part / whole if whole >= whole_min else 0.0
    ratio = ratio if ratio < 1.0 else 1.0
    return ratio if ratio > -1.0 else -1.0


@njit(**INNER)
def write_average_difference(
    out: Rows, factor: int, sums: Rows, fast: int, n_fast: int, slow: int, n_slow: int
) -> None:
    """Write mean over the fast window - mean over the slow one."""
    for s in range(out.shape[1]):
        out[factor, s] = settled(sums[fast, s] / n_fast - sums[slow, s] / n_slow)


@njit(**INNER)
def write_in_deviations(out: Rows, factor: int, change: int, volatility: int, n_bars: int) -> None:
    """Write change / (volatility × √n_bars) of two other factors; 0 where the volatility is 0."""
    root = math.sqrt(n_bars)
    for s in range(out.shape[1]):
        deviation = out[volatility, s] * root
        out[factor, s] = out[change, s] / deviation if deviation > 0.0 else 0.0
