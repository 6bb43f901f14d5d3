"""Longer bars out of shorter ones. A longer bar exists at its end and not before: unfinished ones are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.align.times import FloatArray, IntArray, MicrosArray, ascending_micros


@dataclass(frozen=True, slots=True)
class LongerBars:
    """
    closed_at: (n,), end of each bar, exclusive, and the time at which it is known. open .. volume: (n, n_symbols), NaN
    where no short bar is known. n_known: (n, n_symbols), how many short bars went in.
    """

    closed_at: MicrosArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    n_known: IntArray


def resample(
    closed_at: npt.NDArray[Any],
    *,
    open: FloatArray,  # noqa: A002  the field's words
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    interval_us: int,
    to_us: int,
) -> LongerBars:
    """
    Return the bars of a longer interval that lie in the history as a whole: begun with it or later, and over.

    The bar that ends at e is made of the short bars with e - to_us < closed_at <= e. A short bar that is missing (NaN
    in its close) is left out, and counted by its absence in n_known; the others still make the longer bar.

    Args:
        closed_at: (n_bars,), strictly ascending, on the grid of interval_us; gaps in it are missing bars.
        open, high, low, close, volume: (n_bars, n_symbols).
        interval_us, to_us: lengths; to_us is a multiple of interval_us.

    Raises:
        ValueError: if the lengths do not fit, times are out of order or off the grid, or shapes differ.
    """
    ends = ascending_micros(closed_at, "closed_at", strictly=True)
    if interval_us < 1 or to_us <= interval_us or to_us % interval_us:
        raise ValueError(f"expected a multiple of {interval_us} us above it, received {to_us} us")
    if (ends % interval_us).any():
        row = int((ends % interval_us != 0).argmax())
        raise ValueError(f"closed_at: expected multiples of {interval_us} us, received {ends[row]} in row {row}")
    bars = [np.ascontiguousarray(values, dtype=np.float64) for values in (open, high, low, close, volume)]
    if any(values.shape != bars[0].shape or values.ndim != 2 or len(values) != ends.size for values in bars):
        raise ValueError(f"expected five arrays ({ends.size}, n_symbols), received {[v.shape for v in bars]}")
    owner = -(-ends // to_us)  # the end of the longer bar, in units of its length
    # The longer bar that began before the first short one would depend on where the history begins.
    first = int(-(-(ends[0] - interval_us) // to_us)) + 1 if ends.size else 1
    last = int(ends[-1] // to_us) if ends.size else 0
    n_longer, n_symbols = max(0, last - first + 1), bars[0].shape[1]
    out = np.full((5, n_longer, n_symbols), np.nan)
    n_known = np.zeros((n_longer, n_symbols), np.int64)
    _gather(owner - first, *bars, out, n_known)
    return LongerBars(np.arange(first, first + n_longer) * to_us, out[0], out[1], out[2], out[3], out[4], n_known)


@njit(cache=True)
def _gather(
    place: IntArray, open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray,
    out: FloatArray, n_known: IntArray,
) -> None:  # fmt: skip
    for i in range(place.size):
        k = place[i]
        if k < 0:
            continue
        if k >= n_known.shape[0]:
            return  # the longer bar that is not over
        for s in range(n_known.shape[1]):
            if np.isnan(close[i, s]):
                continue
            if n_known[k, s] == 0:
                out[0, k, s], out[1, k, s], out[2, k, s] = open_[i, s], high[i, s], low[i, s]
                out[4, k, s] = 0.0
            out[1, k, s] = max(out[1, k, s], high[i, s])
            out[2, k, s] = min(out[2, k, s], low[i, s])
            out[3, k, s] = close[i, s]
            out[4, k, s] += volume[i, s]
            n_known[k, s] += 1
