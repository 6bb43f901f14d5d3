"""Features of a whole history, in parallel over time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.features.catalog import DEFAULT_INTERVAL, FeatureSet
from qraft_quant.features.inputs import Inputs, shape_of, stacked
from qraft_quant.features.machine import machine
from qraft_quant.features.memory import Memory, new_memory

# Cells of a result in one tile: long enough for vector code and to forget what decoding an instruction costs, short
# enough for the results of a tile to stay in the cache.
TILE_CELLS: Final = 1_024
TILE_ROWS_MAX: Final = 256
# Inputs are handed over so many tiles at a time, as one array.
CHUNK_TILES: Final = 8


def compute_history(
    inputs: Inputs,
    first_index: int,
    *,
    features: FeatureSet,
    interval: str = DEFAULT_INTERVAL,
    n_threads: int = 1,
) -> npt.NDArray[np.float32]:
    """
    Return every feature of every bar; row t uses rows 0..t only.

    A row that is no bar (NaN, infinite or non-positive price, a price outside [low, high], negative volume) is a
    missing bar: all features of that symbol and row are NaN, and what reads bars is NaN until its window holds bars
    only. The first `window - 1` rows of a feature are NaN. A value that is there is the same, bit for bit, for every
    earlier first row, for any number of threads, and from OnlineFeatures.

    Args:
        inputs: (n_bars, n_symbols) each, on the full time grid: open, high, low, close, volume and any of
            operators.STATE_INPUTS, each the newest value known at the bar's end; absent ones are NaN.
        first_index: grid index of row 0, its closed_at in unix seconds // seconds of the interval.
        interval: of the grid, such as `5m`; the calendar needs it.
        n_threads: each computes a part of the time, `features.warm_up_bars` of it twice.

    Returns:
        (n_bars, n_symbols, n_features), float32, columns as in features.names. Memory beyond it: 85 kB (CORE) to
        280 kB (FULL) a symbol and thread, and 16 kB an instruction.

    Raises:
        ValueError: if inputs are absent, unknown or of different shapes.
    """
    n_bars, n_symbols = shape_of(inputs, n_dimensions=2)
    assert first_index >= 0 and n_threads >= 1, (first_index, n_threads)
    out = np.empty((n_bars, n_symbols, len(features.features)), np.float32)
    if out.size == 0:
        return out
    # A thread computes the warm-up before its part without output; shorter parts are not worth that.
    n_parts = min(n_threads, max(1, n_bars // max(1, 2 * features.warm_up_bars)))
    # Parts are whole tiles: a tile that is not full is the last one of a memory.
    tile_rows = tile_rows_for(n_symbols)
    edges = [min(n_bars, _up_to(n_bars * k // n_parts, tile_rows)) for k in range(n_parts + 1)]
    history = _History(inputs, features, first_index, interval, out)
    if n_parts == 1:
        history.compute(0, n_bars)
        return out
    with ThreadPoolExecutor(n_parts) as pool:
        for part in [pool.submit(history.compute, start, end) for start, end in pairwise(edges)]:
            part.result()
    return out


def tile_rows_for(n_symbols: int) -> int:
    """Return how many bars a tile of so many symbols takes."""
    return max(1, min(TILE_ROWS_MAX, TILE_CELLS // n_symbols))


def _up_to(n_bars: int, tile_rows: int) -> int:
    """Return the number of bars of as many whole tiles as hold n_bars."""
    return -(-n_bars // tile_rows) * tile_rows


class _History:
    def __init__(
        self, inputs: Inputs, features: FeatureSet, first_index: int, interval: str, out: npt.NDArray[np.float32]
    ) -> None:
        self._inputs = inputs
        self._features = features
        self._first_index = first_index
        self._tables = features.program(interval)
        self._out = out

    def compute(self, start: int, end: int) -> None:
        """Fill out[start:end]."""
        width = self._out.shape[1]
        tile_rows = tile_rows_for(width)
        memory = new_memory(self._tables, width=width, tile_rows=tile_rows)
        n_warm = min(start, _up_to(self._features.warm_up_bars, tile_rows))
        for row in range(start - n_warm, start, CHUNK_TILES * tile_rows):
            self._advance(memory, row, min(row + CHUNK_TILES * tile_rows, start), self._out[:0])
        for row in range(start, end, CHUNK_TILES * tile_rows):
            stop = min(row + CHUNK_TILES * tile_rows, end)
            self._advance(memory, row, stop, self._out[row:stop])

    def _advance(self, memory: Memory, start: int, stop: int, out: npt.NDArray[np.float32]) -> None:
        rows = stacked(self._inputs, self._features.inputs, slice(start, stop))
        machine()(self._tables, memory, rows, self._first_index + start, out.reshape(-1, self._out.shape[2]))
