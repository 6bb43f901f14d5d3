"""
Look back by rows: earlier rows, windows of rows, and means of all rows so far. Row t uses rows 0..t only.

Values are (n_bars, ...), float, on the full time grid; what lies before the first row is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# (values, axis=-1) -> values without that axis, such as np.mean.
Reduce = Callable[..., npt.NDArray[Any]]


def lag(values: FloatArray, n_bars: int) -> FloatArray:
    """
    Return the values of n_bars rows earlier: row t holds row t - n_bars.

    Raises:
        ValueError: if n_bars is negative (that would be the future) or the values are no floats.
    """
    checked = _floats(values)
    if n_bars < 0:
        raise ValueError(f"expected a lag of >= 0 bars, received {n_bars}: a negative lag looks ahead")
    lagged = np.full(checked.shape, np.nan)
    lagged[n_bars:] = checked[: max(0, checked.shape[0] - n_bars)]
    return lagged


def windows(values: FloatArray, n_bars: int) -> FloatArray:
    """
    Return the last n_bars rows of every row, oldest first: (n_bars_of_values, ..., n_bars), read-only.

    Row t holds rows t - n_bars + 1 .. t, NaN where there were none yet. The windows share memory: values + one window.

    Raises:
        ValueError: if n_bars is below 1 or the values are no floats.
    """
    checked = _floats(values)
    if n_bars < 1:
        raise ValueError(f"expected a window of >= 1 bar, received {n_bars}")
    before = np.full((n_bars - 1, *checked.shape[1:]), np.nan)
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([before, checked]), n_bars, axis=0)


def rolling(values: FloatArray, n_bars: int, reduce: Reduce) -> FloatArray:
    """
    Return reduce(window, axis=-1) of the last n_bars rows of every row; NaN until there are so many.

    Each window is reduced by itself, so a value does not depend on where the history began, bit for bit.

    Args:
        reduce: takes an array and axis=-1, such as np.mean; it sees NaN where a value is missing.

    Raises:
        ValueError: as windows.
    """
    seen = windows(values, n_bars)
    out = np.full(seen.shape[:-1], np.nan)
    if len(seen) >= n_bars:
        out[n_bars - 1 :] = reduce(seen[n_bars - 1 :], axis=-1)
    return out


def expanding_mean(values: FloatArray) -> FloatArray:
    """Return the mean of all values up to each row; missing ones (NaN) are left out, NaN before the first."""
    checked = _floats(values)
    n_known = np.cumsum(~np.isnan(checked), axis=0)
    total = np.nancumsum(checked, axis=0)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)


def _floats(values: FloatArray) -> FloatArray:
    if values.ndim < 1 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"expected floats with bars along the first axis, received {values.dtype} {values.shape}")
    return np.asarray(values, dtype=np.float64)
