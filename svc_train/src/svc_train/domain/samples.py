"""The training matrix: one row a (bar, symbol) whose features are all known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Samples:
    """x: (n, n_features) float32, no NaN. bar, symbol: (n,), row and column in the panel; ordered by bar, symbol."""

    x: Float32Array
    bar: IntArray
    symbol: IntArray

    def at(self, values: FloatArray) -> FloatArray:
        """Return a panel's value (n_bars, n_symbols) at each sample, (n,)."""
        picked: FloatArray = values[self.bar, self.symbol]
        return picked

    def take(self, rows: IntArray | BoolArray) -> Samples:
        """Return some of the samples, by index or mask."""
        return Samples(self.x[rows], self.bar[rows], self.symbol[rows])


def complete_samples(features: Float32Array) -> Samples:
    """
    Return the rows of a feature history that hold no NaN and no infinity.

    Args:
        features: (n_bars, n_symbols, n_features), float32.

    Raises:
        ValueError: if no row is complete.
    """
    assert features.dtype == np.float32 and features.ndim == 3, (features.dtype, features.shape)
    complete = np.isfinite(features).all(axis=2)
    bar, symbol = np.nonzero(complete)
    if bar.size == 0:
        n_bars, n_symbols, n_features = features.shape
        raise ValueError(
            f"expected rows with all {n_features} features known, received none in {n_bars} bars of {n_symbols} "
            "symbols: load more history than the features' warm-up, and see the data quality report for gaps"
        )
    return Samples(np.ascontiguousarray(features[complete]), bar.astype(np.int64), symbol.astype(np.int64))


def on_stride(samples: Samples, *, first_index: int, stride: int) -> BoolArray:
    """
    Return which samples lie on the stride, staggered by symbol so that every bar trains with some symbol.

    Counted on the absolute time grid: a longer history keeps the rows that a shorter one used.
    """
    is_on: BoolArray = (first_index + samples.bar + samples.symbol) % stride == 0
    return is_on
