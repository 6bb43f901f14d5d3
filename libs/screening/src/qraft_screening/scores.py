"""Ranks made comparable: zero mean and unit variance, so that the mean of a product is a rank correlation."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]

# Fewer symbols than this say nothing about their order within one bar.
CROSS_SYMBOLS_MIN: Final = 20


def rank_scores(values: npt.NDArray[np.floating], *, axis: int) -> FloatArray:
    """
    Return the ranks along an axis, ties at their mean rank, scaled to zero mean and unit variance of what is known.

    Args:
        values: (n_bars, n_symbols); NaN and infinities are not known.
        axis: 0 = each symbol over time, 1 = across the symbols of each bar.

    Returns:
        Float64 of the same shape; NaN where not known, and along a whole line that does not vary.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    ranks: FloatArray = rankdata(finite, axis=axis, nan_policy="omit")
    return standardized(ranks, axis=axis)


def standardized(values: FloatArray, *, axis: int) -> FloatArray:
    """Return values with zero mean and unit variance along an axis; NaN stays, and lines without variation become."""
    is_known = ~np.isnan(values)
    n_known = is_known.sum(axis=axis, keepdims=True)
    filled = np.where(is_known, values, 0.0)
    mean = filled.sum(axis=axis, keepdims=True) / np.maximum(n_known, 1)
    centered = np.where(is_known, values - mean, 0.0)
    spread = np.sqrt((centered * centered).sum(axis=axis, keepdims=True) / np.maximum(n_known, 1))
    varies = spread > 1e-12
    return np.where(is_known & varies, centered / np.where(varies, spread, 1.0), np.nan)
