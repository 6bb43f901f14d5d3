"""A normalizer that is fitted on a training window, knows which, and refuses to pretend that it was known earlier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qraft_quant.align.times import FloatArray, IntArray, ascending_micros

# A spread below this is rounding, not variation; such a column becomes 0.
SPREAD_MIN = 1e-12


@dataclass(frozen=True, slots=True)
class FittedScaler:
    """
    (x - center) / spread, fitted on the rows with fitted_after < at <= fitted_until, in microseconds.

    center, spread: (n_columns,), mean and population standard deviation of what was known; n_known: (n_columns,), how
    many values that were.
    """

    center: FloatArray
    spread: FloatArray
    n_known: IntArray
    fitted_after: int
    fitted_until: int

    def apply(self, values: FloatArray, at: npt.NDArray[Any], *, in_sample: bool = False) -> FloatArray:
        """
        Return scaled rows, (n, n_columns); NaN stays NaN.

        Args:
            at: (n,), ascending, when each row is used.
            in_sample: True = the rows belong to the training window and are used for training alone.

        Raises:
            ValueError: if a row is used before the scaler was known (at < fitted_until) without in_sample.
        """
        times = ascending_micros(at, "at")
        if values.ndim != 2 or values.shape != (times.size, self.center.size):
            raise ValueError(f"values: expected ({times.size}, {self.center.size}), received {values.shape}")
        if not in_sample and times.size and times[0] < self.fitted_until:
            raise ValueError(
                f"expected rows at or after {self.fitted_until}, the end of the fit, received {times[0]}: what was "
                "fitted on later rows was not known then (in_sample=True for the training rows themselves)"
            )
        is_flat = self.spread < SPREAD_MIN
        scaled = (values - self.center) / np.where(is_flat, 1.0, self.spread)
        return np.where(is_flat & ~np.isnan(values), 0.0, scaled)


def fit_scaler(values: FloatArray, at: npt.NDArray[Any], *, after: int, until: int) -> FittedScaler:
    """
    Fit on the rows with after < at <= until, and on nothing else.

    Args:
        values: (n, n_columns), NaN = not known.
        at: (n,), ascending microseconds.

    Raises:
        ValueError: if times are out of order, no row lies in the window, or a column is never known in it.
    """
    times = ascending_micros(at, "at")
    if values.ndim != 2 or len(values) != times.size:
        raise ValueError(f"values: expected ({times.size}, n_columns), received {values.shape}")
    first, end = np.searchsorted(times, [after, until], side="right")
    window = values[first:end]
    n_known = (~np.isnan(window)).sum(axis=0)
    if window.size == 0 or (n_known == 0).any():
        empty = np.flatnonzero(n_known == 0).tolist()
        raise ValueError(f"expected known values of every column with {after} < at <= {until}, none of {empty}")
    center = np.nansum(window, axis=0) / n_known
    spread = np.sqrt(np.nansum((window - center) ** 2, axis=0) / n_known)
    return FittedScaler(center, spread, n_known, after, until)
