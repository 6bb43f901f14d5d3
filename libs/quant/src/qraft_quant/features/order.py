"""Where values stand among others: in their own past, and among the symbols of a bar. Compiled with machine.py."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER

Cells = npt.NDArray[np.float64]
Places = npt.NDArray[np.uint64]
Scratch = npt.NDArray[np.float32]


@njit(**INNER)
def count_below(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    """Add to the counts in out: 1 for each older value b below a, 1/2 for an equal one; a missing one makes it NaN."""
    for i in range(n):
        x, y = cells[a + i], cells[b + i]
        below = 1.0 if y < x else (0.5 if y == x else 0.0)
        cells[out + i] = cells[out + i] + below + 0.0 * y


@njit(**INNER)
def scale(cells: Cells, out: int, n: int, factor: float) -> None:
    for i in range(n):
        cells[out + i] = cells[out + i] * factor


@njit(**INNER)
def set_all(cells: Cells, out: int, n: int, value: float) -> None:
    for i in range(n):
        cells[out + i] = value


@njit(**INNER)
def _lower_bound(cells: Cells, first: int, n: int, x: float) -> np.uint64:
    """Return how many of n ascending cells are below x."""
    low, high, one = np.uint64(0), np.uint64(n), np.uint64(1)
    while low < high:
        middle = (low + high) >> one
        if cells[first + middle] < x:
            low = middle + one
        else:
            high = middle
    return low


@njit(**INNER)
def _replace(cells: Cells, first: int, n: int, gone: float, new: float) -> None:
    """Take `gone` out of n ascending cells and put `new` in; what lies between the two moves by one."""
    zero, one = np.uint64(0), np.uint64(1)
    at = _lower_bound(cells, first, n, gone)
    if new > gone:
        while at + one < n and cells[first + at + one] < new:
            cells[first + at] = cells[first + at + one]
            at += one
    else:
        while at > zero and cells[first + at - one] > new:
            cells[first + at] = cells[first + at - one]
            at -= one
    cells[first + at] = new


@njit(**INNER)
def sorted_window(
    cells: Cells,
    places: Places,
    n_outputs: int,
    windows: int,
    window: int,
    n_rows: int,
    n_symbols: int,
    quantiles: Cells,
) -> None:
    """
    Move the sorted window of every symbol on by n_rows bars and write its quantiles, linear between neighbours.

    Args:
        places: newest value, value that leaves, then each output, as in elementwise.py.
        windows: where the sorted windows begin, one after the other; missing values stand at their end as infinity.
        quantiles: of each output.
    """
    for row in range(n_rows):
        for s in range(n_symbols):
            at = row * n_symbols + s
            # + 0.0: a zero has one sign here, or which of two equal zeros leaves would depend on the start.
            new, gone = cells[places[0] + at] + 0.0, cells[places[1] + at] + 0.0
            first = windows + s * window
            _replace(cells, first, window, gone if gone == gone else np.inf, new if new == new else np.inf)
            is_whole = cells[first + window - np.uint64(1)] < np.inf
            for k in range(n_outputs):
                height = quantiles[k] * np.float64(window - np.uint64(1))
                low = np.uint64(math.floor(height))
                value = cells[first + low]
                if np.float64(low) < height:
                    value += (cells[first + low + np.uint64(1)] - value) * (height - np.float64(low))
                cells[places[np.uint64(2) + k] + at] = value if is_whole else np.nan


@njit(**INNER)
def _count_less(values: Scratch, x: np.float32) -> np.int32:
    n = np.int32(0)  # stays 32 bits wide by the casts: twice the lanes
    for s in range(values.size):
        n = np.int32(n + np.int32(values[s] < x))
    return n


@njit(**INNER)
def _count_equal(values: Scratch, x: np.float32) -> np.int32:
    n = np.int32(0)
    for s in range(values.size):
        n = np.int32(n + np.int32(values[s] == x))
    return n


@njit(**INNER)
def cross_rank(cells: Cells, out: int, a: int, n: int, scratch: Scratch) -> None:
    """
    Write (rank - 1/2) / count among the symbols whose value is not missing, ties at their average rank.

    Values are compared as float32, as they are emitted. Counting all pairs needs no sort and is vector code; without
    ties the counts of smaller values add up to count (count - 1) / 2, and only where they do not are equals counted.

    Args:
        scratch: (>= n,), NaN from n on: a whole number of vectors.
    """
    n_valid, n_pairs = 0, 0
    for s in range(n):
        scratch[s] = np.float32(cells[a + s])
        n_valid += int(scratch[s] == scratch[s])
    for s in range(n):
        n_less = _count_less(scratch, scratch[s])
        n_pairs += n_less
        cells[out + s] = np.float64(n_less)
    has_ties = 2 * n_pairs != n_valid * (n_valid - 1)
    for s in range(n):
        half = 0.5 * np.float64(_count_equal(scratch, scratch[s])) if has_ties else 0.5
        x = (cells[out + s] + half) / np.float64(n_valid)
        cells[out + s] = x if scratch[s] == scratch[s] else np.nan


@njit(**INNER)
def cross_center(cells: Cells, out: int, a: int, n: int, is_scaled: bool) -> None:
    """Write the value less the mean over symbols; scaled: divided by their deviation, 0 where that is 0."""
    total, n_valid = 0.0, 0
    for s in range(n):
        x = cells[a + s]
        total += x if x == x else 0.0
        n_valid += int(x == x)
    mean = total / np.float64(n_valid)
    squares = 0.0
    for s in range(n):
        x = cells[a + s] - mean
        cells[out + s] = x
        squares += x * x if x == x else 0.0
    if is_scaled:
        deviation = math.sqrt(squares / np.float64(n_valid))
        for s in range(n):
            x = cells[out + s]
            cells[out + s] = (x if deviation > 0.0 else 0.0 * x) / (deviation if deviation > 0.0 else 1.0)
