"""What the machine works on: a program as tables, and the memory of one run of it. Plain arrays in named tuples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qraft_quant.features.opcodes import N_ARGUMENTS_MAX, Op

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Columns of Tables.code: operation, number of operands, then the operands' instructions, then their lags.
FIRST_ARGUMENT = 2
FIRST_LAG = FIRST_ARGUMENT + N_ARGUMENTS_MAX
# Bars outside these bounds are no prices; they also keep every product and logarithm below finite.
PRICE_MIN = 1e-30
PRICE_MAX = 1e30
# cross_rank counts whole vectors of float32.
RANK_LANES = 32


class Tables(NamedTuple):
    """
    A program. code: (instructions, 2 + 2 N_ARGUMENTS_MAX); constants: (instructions, N_CONSTANTS_MAX).

    order: the instructions to carry out, operands before what uses them. features, windows: (features,), the
    instruction that makes each and the bars that it reads. waves: tables of sines and cosines. depth: (instructions,),
    how many bars back each result is read. shared: (instructions,), the number of the cells of a result that nobody
    needs after its tile, -1 where it has its own. n_inputs: (1,).
    """

    code: IntArray
    constants: FloatArray
    order: IntArray
    features: IntArray
    windows: IntArray
    waves: FloatArray
    depth: IntArray
    shared: IntArray
    n_inputs: IntArray


class Memory(NamedTuple):
    """
    The memory of a run over `width` symbols in tiles of `tile_rows` bars.

    cells: every result, (rows, width) flat, each with a ring of rings[k] = (first row, rows) rows of its own; now: the
    row of the tile's first bar in it. windows_at: where an instruction's sorted windows begin in cells. shape: width,
    tile rows, bars seen so far, rows of the newest tile. ok: of the tile's rows, 0 = bar, NaN = none. outputs, places,
    scratch: used within a tile.
    """

    cells: FloatArray
    rings: IntArray
    now: IntArray
    windows_at: IntArray
    shape: IntArray
    ok: FloatArray
    outputs: npt.NDArray[np.uint64]
    places: npt.NDArray[np.uint64]
    scratch: npt.NDArray[np.float32]


def new_memory(tables: Tables, *, width: int, tile_rows: int) -> Memory:
    """Return a memory in which nothing has been seen: every cell is missing."""
    rows = tile_rows * (1 + -(-tables.depth // tile_rows))
    first_shared = tables.shared.max(initial=-1) + 1
    starts = np.concatenate([[0], np.cumsum(np.where(tables.shared < 0, rows, 0))])
    first_row = np.where(tables.shared < 0, first_shared * tile_rows + starts[:-1], tables.shared * tile_rows)
    rings = np.stack([first_row, rows], axis=1).astype(np.int64)
    n_cells = (first_shared * tile_rows + int(starts[-1])) * width
    sorts = tables.code[:, 0] == Op.SORTED
    sizes = np.where(sorts, tables.constants[:, 0], 0.0).astype(np.int64) * width
    windows_at = n_cells + np.cumsum(sizes) - sizes
    cells = np.full(n_cells + int(sizes.sum()), np.nan)
    cells[n_cells:] = np.inf
    for k in np.flatnonzero(tables.code[:, 0] == Op.CONSTANT):
        cells[rings[k, 0] * width : (rings[k, 0] + rings[k, 1]) * width] = tables.constants[k, 0]
    return Memory(
        cells=cells,
        rings=rings,
        now=rings[:, 1] - tile_rows,
        windows_at=windows_at.astype(np.int64),
        shape=np.array([width, tile_rows, 0, tile_rows], dtype=np.int64),
        ok=np.zeros(tile_rows * width),
        outputs=np.zeros(tables.features.size, dtype=np.uint64),
        places=np.zeros(N_ARGUMENTS_MAX, dtype=np.uint64),
        scratch=np.full(-(-width // RANK_LANES) * RANK_LANES, np.nan, dtype=np.float32),
    )


def remembered(tables: Tables, memory: Memory) -> FloatArray:
    """
    Return what later bars depend on, (values,): of each result the bars that are still read, oldest first, then the
    sorted windows. It does not depend on the tile.
    """
    width, n_rows = int(memory.shape[0]), int(memory.shape[3])
    parts = []
    for k in np.flatnonzero(tables.depth > 0):
        first, rows = memory.rings[k]
        past = (memory.now[k] + n_rows - np.arange(tables.depth[k], 0, -1)) % rows
        ring = memory.cells[first * width : (first + rows) * width].reshape(rows, width)
        parts.append(ring[past].ravel())
    parts.append(memory.cells[_n_ring_cells(memory) :])
    return np.concatenate(parts)


def recall(tables: Tables, memory: Memory, values: FloatArray, *, n_seen: int) -> None:
    """Put into a new memory what `remembered` returned after n_seen bars."""
    width, tile_rows = int(memory.shape[0]), int(memory.shape[1])
    at = 0
    for k in np.flatnonzero(tables.depth > 0):
        first, rows = memory.rings[k]
        past = (memory.now[k] + tile_rows - np.arange(tables.depth[k], 0, -1)) % rows
        ring = memory.cells[first * width : (first + rows) * width].reshape(rows, width)
        n = past.size * width
        ring[past] = values[at : at + n].reshape(past.size, width)
        at += n
    memory.cells[_n_ring_cells(memory) :] = values[at:]
    memory.shape[2] = n_seen


def _n_ring_cells(memory: Memory) -> int:
    first, rows = memory.rings.T
    return int((first + rows).max(initial=0)) * int(memory.shape[0])
