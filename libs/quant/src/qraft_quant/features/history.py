"""Features of a whole history, in parallel over time."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from qraft_quant.features.catalog import FEATURES, WARM_UP_BARS
from qraft_quant.features.kernel import Matrix, advance_kernel, rank_kernel
from qraft_quant.features.state import Bars, new_state

FloatArray = npt.NDArray[np.float64]

# Rows of 64 symbols are long enough for vector code, and a block's rings (5 MB) stay in the shared cache.
BLOCK_SYMBOLS_MAX = 64
# The output of so many bars is ranked while it is still in the cache.
CHUNK_BARS = 256
# A thread computes WARM_UP_BARS bars before its own without output; shorter parts are not worth that.
PART_BARS_MIN = 2 * WARM_UP_BARS


def compute_history(
    open: FloatArray,  # noqa: A002  the field's words; keyword arguments of callers read as such
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    first_index: int,
    n_threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """
    Return every feature of every bar; row t uses rows 0..t only.

    A row that is no bar (NaN, infinite or non-positive price, a price outside [low, high], negative volume) is a
    missing bar: each feature is NaN for that symbol until its window holds valid bars only. Rows before WARM_UP_BARS
    hold NaN where bars before row 0 would be needed to fix the last bit; a value that is there is the same, bit for
    bit, for every earlier first row, for any number of threads, and from OnlineFeatures.

    Args:
        open, high, low, close, volume: (n_bars, n_symbols) on the full time grid; float64 in C order is not copied.
        first_index: grid index of row 0, its closed_at in unix seconds // interval in seconds.
        n_threads: None = one for each processor that this process may use.

    Returns:
        (n_bars, n_symbols, n_features), float32, columns as in FEATURE_NAMES. Memory beyond it: 80 kB a symbol
        and thread.
    """
    bars = Bars.of(open, high, low, close, volume)
    n_bars, n_symbols = bars.close.shape
    assert first_index >= 0, first_index
    out = np.empty((n_bars, n_symbols, len(FEATURES)), np.float32)
    n_parts = min(n_threads or len(os.sched_getaffinity(0)), max(1, n_bars // PART_BARS_MIN))
    edges = np.linspace(0, n_bars, n_parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(n_parts) as pool:
        parts = [
            pool.submit(_compute_part, bars, out, first_index=first_index, start=start, end=end)
            for start, end in pairwise(edges)
        ]
        for part in parts:
            part.result()
    return out


def _compute_part(bars: Bars, out: Matrix, *, first_index: int, start: int, end: int) -> None:
    """
    Fill out[start:end], all symbols.

    Threads share the time, not the symbols: a value does not depend on where the history began, so a part needs no
    more than WARM_UP_BARS bars before it, rows stay as long as they can be, and ranks need no meeting of threads.
    """
    advance, rank = advance_kernel(), rank_kernel()
    warm = max(0, start - WARM_UP_BARS)
    columns = _blocks(out.shape[1])
    states = [new_state(n, first_index=first_index + warm) for _, n in columns]
    for (column, _), state in zip(columns, states, strict=True):
        advance(state, bars.rows(warm, start), column, first_index + warm, out[:0])
    for row in range(start, end, CHUNK_BARS):
        stop = min(row + CHUNK_BARS, end)
        for (column, _), state in zip(columns, states, strict=True):
            advance(state, bars.rows(row, stop), column, first_index + row, out[row:stop])
        rank(out[row:stop])


def _blocks(n_symbols: int) -> list[tuple[int, int]]:
    """Return (first column, number of columns) of blocks of near-equal size."""
    n_blocks = max(1, math.ceil(n_symbols / BLOCK_SYMBOLS_MAX))
    edges = np.linspace(0, n_symbols, n_blocks + 1).astype(int).tolist()
    return [(start, end - start) for start, end in pairwise(edges)]
