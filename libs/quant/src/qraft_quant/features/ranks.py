"""Cross-sectional ranks: where a symbol stands among all symbols of the bar. Compiled as part of kernel.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER
from qraft_quant.features.layout import Factor

Values = npt.NDArray[np.float32]


@njit(**INNER)
def _count_less(values: Values, x: np.float32) -> np.int32:
    n = np.int32(0)  # stays 32 bits wide by the casts: twice the lanes
    for s in range(values.size):
        n = np.int32(n + np.int32(values[s] < x))
    return n


@njit(**INNER)
def _count_equal(values: Values, x: np.float32) -> np.int32:
    n = np.int32(0)
    for s in range(values.size):
        n = np.int32(n + np.int32(values[s] == x))
    return n


@njit(**INNER)
def _rank(values: Values, out: Values) -> None:
    """
    Write (rank - 0.5) / n among the values that are not NaN, ties at their average rank; NaN stays NaN.

    Counting all pairs needs no sort and is vector code. Without ties the counts of smaller values add up to
    n (n - 1) / 2; only where they do not are equal values counted too.

    Args:
        values: (>= n_symbols,), NaN beyond the symbols.
        out: (n_symbols,).
    """
    n_valid, n_pairs = 0, 0
    for s in range(out.size):
        n_valid += int(values[s] == values[s])
    for s in range(out.size):
        n_less = _count_less(values, values[s])
        n_pairs += n_less
        out[s] = np.float32(n_less)
    if 2 * n_pairs == n_valid * (n_valid - 1):
        for s in range(out.size):
            out[s] += np.float32(0.5)
    else:
        for s in range(out.size):
            out[s] += np.float32(0.5 * _count_equal(values, values[s]))
    n = np.float32(n_valid)
    for s in range(out.size):
        out[s] = out[s] / n if values[s] == values[s] else np.float32(np.nan)


@njit(**INNER)
def write_ranks(matrix: Values, values: Values, ranks: Values) -> None:
    """
    Fill the rank factors of one bar from its other factors, as emitted (float32).

    Args:
        matrix: (n_symbols, n_factors), changed in place.
        values, ranks: scratch, as in `_rank`.
    """
    for rank, source in (
        (Factor.RANK_RETURN_12, Factor.RETURN_12),
        (Factor.RANK_RETURN_288, Factor.RETURN_288),
        (Factor.RANK_VOLATILITY_288, Factor.VOLATILITY_288),
        (Factor.RANK_VOLUME_Z_288, Factor.VOLUME_Z_288),
    ):
        for s in range(ranks.size):
            values[s] = matrix[s, source]
        _rank(values, ranks)
        for s in range(ranks.size):
            matrix[s, rank] = ranks[s]
