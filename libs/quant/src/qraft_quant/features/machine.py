"""
The one compiled function of the engine: it carries out any program, for histories and for live bars.

It is made inside a function that closes over a digest of this package's sources. Numba's disk cache watches the file
of the entry point alone, so an edit of joins.py would otherwise run yesterday's machine code; what a function closes
over is part of the cache key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER
from qraft_quant.features.instructions import Cells, Places, Scratch, load, rank, run_rows
from qraft_quant.features.memory import FIRST_ARGUMENT, FIRST_LAG, PRICE_MAX, PRICE_MIN, Memory, Tables
from qraft_quant.features.opcodes import Op

Integers = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]  # (bars × symbols, features)
FLOAT32_MAX = 3.4028234663852886e38
AdvanceFn = Callable[[Tables, Memory, Cells, int, Matrix], None]


@njit(**INNER)
def _judge(inputs: Cells, n_cells: int, first: int, ok: Cells, n: int) -> None:
    """
    Write 0 where the row is a bar, else NaN.

    A market can have made it if prices are finite and positive, high and low around them, and volume >= 0; comparisons
    joined by &, no branches: NaN compares false.
    """
    opens, highs, lows = first, n_cells + first, np.uint64(2) * n_cells + first
    closes, volumes = np.uint64(3) * n_cells + first, np.uint64(4) * n_cells + first
    for i in range(n):
        low, high, volume = inputs[lows + i], inputs[highs + i], inputs[volumes + i]
        is_bar = (
            (low > PRICE_MIN)
            & (low <= inputs[opens + i])
            & (low <= inputs[closes + i])
            & (inputs[opens + i] <= high)
            & (inputs[closes + i] <= high)
            & (high < PRICE_MAX)
            & (volume >= 0.0)
            & (volume * high < PRICE_MAX)
        )
        ok[i] = 0.0 if is_bar else np.nan


@njit(**INNER)
def _turn(memory: Memory) -> None:
    """Move every ring on to where the next tile goes; rings hold whole tiles."""
    now, rings, tile_rows = memory.now, memory.rings, memory.shape[1]
    for k in range(now.size):
        row = now[k] + tile_rows
        now[k] = row if row < rings[k, 1] else 0


@njit(**INNER)
def _emit(outputs: Places, cells: Cells, ok: Cells, out: Scratch, first: int, n: int) -> None:
    """Write the features of n rows as float32, row after row; NaN where the row is no bar or a value is too large."""
    width = outputs.size
    for i in range(n):
        valid, row = ok[i], (first + i) * width
        for f in range(width):
            x = cells[outputs[f] + i] + valid
            out[row + f] = np.float32(x if abs(x) <= FLOAT32_MAX else np.nan)


@njit(**INNER)
def _hide_young(windows: Integers, out: Matrix, first: int, n_rows: int, width: int, age: int) -> None:
    """Make NaN what has not seen its whole window yet: a filled value would change with more history."""
    for row in range(n_rows):
        for f in range(windows.size):
            if age + row < windows[f] - 1:
                for s in range(width):
                    out[first + row * width + s, f] = np.nan


@njit(**INNER)
def _publish(tables: Tables, memory: Memory, out: Matrix, first: int, n_rows: int) -> None:
    """Write the features of the newest tile into out, from row `first` on."""
    width, age = memory.shape[0], memory.shape[2]
    for f in range(tables.features.size):
        k = tables.features[f]
        memory.outputs[f] = np.uint64((memory.rings[k, 0] + memory.now[k]) * width)
    _emit(memory.outputs, memory.cells, memory.ok, out.reshape(-1), np.uint64(first), np.uint64(n_rows * width))
    if age < tables.windows.max():
        _hide_young(tables.windows, out, first, n_rows, width, age)


@cache
def sources_digest() -> str:
    """Return the SHA-256 of this package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def machine() -> AdvanceFn:
    """Return the compiled machine; the first call compiles it or loads it from the disk cache."""
    version = sources_digest()

    @njit(cache=True, nogil=True, error_model="numpy")
    def advance(tables: Tables, memory: Memory, inputs: Cells, index: int, out: Matrix) -> None:
        """
        Take the bars of `inputs` one tile after the other.

        Args:
            inputs: (inputs, bars, symbols), flat; open, high, low, close and volume come first.
            index: grid index of the first bar.
            out: (bars × symbols, features), or no rows: then only the memory moves on.
        """
        assert version != ""
        width, tile_rows = memory.shape[0], memory.shape[1]
        code, constants, order, waves = tables.code, tables.constants, tables.order, tables.waves
        cells, rings, now, places, ok = memory.cells, memory.rings, memory.now, memory.places, memory.ok
        windows_at, scratch = memory.windows_at, memory.scratch
        n_cells = inputs.size // tables.n_inputs[0]
        for t in range(0, n_cells // width, tile_rows):
            n_rows, first = min(tile_rows, n_cells // width - t), t * width
            _turn(memory)
            _judge(inputs, np.uint64(n_cells), np.uint64(first), ok, np.uint64(n_rows * width))
            for i in range(order.size):
                k = order[i]
                op, out_at = code[k, 0], (rings[k, 0] + now[k]) * width
                if op <= Op.LOAD_STATE:
                    load(op, cells, out_at, inputs, int(constants[k, 0]) * n_cells + first, ok, n_rows * width)
                elif op == Op.RANK:
                    ring, window = code[k, FIRST_ARGUMENT], int(constants[k, 0])
                    rank(cells, out_at, rings[ring, 0], now[ring], rings[ring, 1], window, n_rows, width)
                else:
                    n_arguments, done = code[k, 1], 0
                    while done < n_rows:
                        # As many rows as no operand wraps around its ring.
                        n_together = n_rows - done
                        for a in range(n_arguments):
                            ring = code[k, FIRST_ARGUMENT + a]
                            row = now[ring] + done - code[k, FIRST_LAG + a]
                            row = row if row >= 0 else row + rings[ring, 1]
                            n_together = min(n_together, rings[ring, 1] - row)
                            places[a] = np.uint64((rings[ring, 0] + row) * width)
                        run_rows(
                            op, k, constants, waves, n_arguments, windows_at[k], cells, scratch, out_at + done * width,
                            places, n_together, width, index + t + done,
                        )  # fmt: skip
                        done += n_together
            if out.shape[0] > 0:
                _publish(tables, memory, out, first, n_rows)
            memory.shape[2] += n_rows
            memory.shape[3] = n_rows

    kernel: AdvanceFn = advance
    return kernel
