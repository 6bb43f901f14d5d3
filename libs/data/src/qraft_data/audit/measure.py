"""Pure measures of one series: what is missing, what jumps and comes back, where the unit seems to change."""

from __future__ import annotations

from typing import Final

import numpy as np

from qraft_data.times import FloatArray, Int64Array

# A bad tick jumps and comes back at once. 20 robust deviations and half a percent keep real moves out: the crash of
# 2024-08-05 has none, a price ten times too high has two.
OUTLIER_DEVIATIONS: Final = 20.0
OUTLIER_RETURN_MIN: Final = 0.005
OUTLIER_RETURN_FRAC: Final = 0.2
_MAD_TO_STD: Final = 1.4826
# Percent for fraction is a factor of 100, milliseconds for seconds 1000; prices of one coin move tenfold by themselves.
DRIFT_STRETCHES: Final = 12
DRIFT_ROWS_MIN: Final = 30


def missing_runs(found: Int64Array, expected: Int64Array) -> tuple[Int64Array, Int64Array]:
    """
    Return (first, length) of each run of expected times that were not found, as indices into `expected`.

    Args:
        found, expected: sorted, unique microseconds.
    """
    is_missing = ~np.isin(expected, found, assume_unique=True)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_missing, [False]]).astype(np.int8)))
    first, last = edges[::2], edges[1::2]
    return first.astype(np.int64), (last - first).astype(np.int64)


def coverage(found: Int64Array, expected: Int64Array, *, start_us: int, end_us: int, n_parts: int) -> FloatArray:
    """Return found over expected in n_parts equal parts of (start, end]; -1 where nothing is expected."""
    edges = np.linspace(start_us, end_us, n_parts + 1)
    n_expected = np.histogram(expected, edges)[0].astype(np.float64)
    n_found = np.histogram(found[np.isin(found, expected)], edges)[0]
    return np.where(n_expected > 0, n_found / np.maximum(n_expected, 1.0), -1.0)


def spikes(prices: FloatArray) -> Int64Array:
    """
    Return the rows whose price jumps and comes back with the next row: bad ticks, not moves.

    Args:
        prices: (n_rows,), NaN rows are passed over. Looks one row ahead: an audit judges the past.
    """
    known = np.flatnonzero(np.isfinite(prices) & (prices > 0.0))
    if known.size < DRIFT_ROWS_MIN:
        return np.empty(0, dtype=np.int64)
    steps = np.diff(np.log(prices[known]))
    deviation = _MAD_TO_STD * float(np.median(np.abs(steps - np.median(steps))))
    limit = max(OUTLIER_DEVIATIONS * deviation, OUTLIER_RETURN_MIN)
    there, back = steps[:-1], steps[1:]
    is_spike = (np.abs(there) > limit) & (np.abs(there + back) < OUTLIER_RETURN_FRAC * np.abs(there))
    found: Int64Array = known[1:-1][is_spike].astype(np.int64)
    return found


def unit_drift(values: FloatArray) -> float:
    """
    Return the largest ratio between the typical sizes of neighbouring stretches of a series, >= 1.

    The typical size is the median of the absolute values that are not 0. A series too short for two stretches gives 1.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0.0)])
    n_parts = min(DRIFT_STRETCHES, sizes.size // DRIFT_ROWS_MIN)
    if n_parts < 2:
        return 1.0
    medians = np.array([np.median(part) for part in np.array_split(sizes, n_parts)])
    ratios = medians[1:] / medians[:-1]
    return float(max(1.0, ratios.max(), (1.0 / ratios).max()))
