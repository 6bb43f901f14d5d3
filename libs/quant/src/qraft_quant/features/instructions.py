"""
What every instruction does to the rows of a tile. Compiled as part of machine.py.

Arrays are handed over one by one, and no more of them than needed: each costs several nanoseconds an instruction to
count references of, a named tuple of them 300.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features import elementwise as e
from qraft_quant.features import joins
from qraft_quant.features import order as o
from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.opcodes import Op

Cells = npt.NDArray[np.float64]
Places = npt.NDArray[np.uint64]
Scratch = npt.NDArray[np.float32]


@njit(**OUTER)
def _calculate(op: int, cells: Cells, out: int, at: Places, n: int, p: Cells, k: int) -> None:
    """Carry out an instruction that looks at one place of each operand, for n places from `at` on."""
    a, b, c, d = at[0], at[1], at[2], at[3]
    if op == Op.JOIN_MEAN:
        joins.join_mean(cells, out, a, b, n, p[k, 0])
    elif op == Op.JOIN_SQUARES:
        joins.join_squares(cells, out, a, b, c, d, n, p[k, 0])
    elif op == Op.LARGER:
        e.larger(cells, out, a, b, n)
    elif op == Op.SMALLER:
        e.smaller(cells, out, a, b, n)
    elif op == Op.SUBTRACT:
        e.subtract(cells, out, a, b, n)
    elif op == Op.DIVIDE:
        e.divide(cells, out, a, b, n)
    elif op == Op.AFFINE:
        e.affine(cells, out, a, n, p[k, 0], p[k, 1])
    elif op == Op.ADD:
        e.add(cells, out, a, b, n)
    elif op == Op.MULTIPLY:
        e.multiply(cells, out, a, b, n)
    elif op == Op.COPY:
        e.copy(cells, out, a, n)
    elif op == Op.ABOVE:
        e.above(cells, out, a, b, n)
    elif op == Op.WHERE:
        e.where(cells, out, a, b, c, n)
    elif op == Op.LOG:
        e.logarithm(cells, out, a, n)
    elif op == Op.ABS:
        e.absolute(cells, out, a, n)
    elif op == Op.SIGN:
        e.sign(cells, out, a, n)
    elif op == Op.SQRT:
        e.root(cells, out, a, n)
    elif op == Op.CLIP:
        e.clip(cells, out, a, n, p[k, 0], p[k, 1])
    elif op == Op.MISSING:
        e.missing(cells, out, a, n)
    elif op == Op.FILL:
        e.fill(cells, out, a, n, p[k, 0])
    elif op == Op.JOIN_PRODUCTS:
        joins.join_products(cells, out, a, b, c, d, at[4], at[5], n, p[k, 0])
    elif op == Op.JOIN_CUBES:
        joins.join_cubes(cells, out, a, b, c, d, at[4], at[5], n, p[k, 0], p[k, 1], p[k, 2])
    elif op == Op.JOIN_FOURTHS:
        joins.join_fourths(
            cells, out, a, b, c, d, at[4], at[5], at[6], at[7], n, p[k, 0], p[k, 1], p[k, 2], p[k, 3], p[k, 4]
        )
    elif op == Op.JOIN_PLACE:
        joins.join_place(cells, out, a, b, c, d, n, p[k, 0], p[k, 1])
    elif op == Op.JOIN_WEIGHTED:
        joins.join_weighted(cells, out, a, b, n, p[k, 0])
    elif op == Op.JOIN_TREND:
        joins.join_trend(cells, out, a, b, c, d, n, p[k, 0])
    else:
        assert False, "no such instruction"  # noqa: B011


@njit(**INNER)
def load(op: int, cells: Cells, out: int, inputs: Cells, source: int, ok: Cells, n: int) -> None:
    """Take n cells of an input: of a bar only where the row is one."""
    if op == Op.LOAD_BAR:
        e.load_bar(cells, np.uint64(out), inputs, np.uint64(source), ok, np.uint64(n))
    else:
        e.load_state(cells, np.uint64(out), inputs, np.uint64(source), np.uint64(n))


@njit(**INNER)
def rank(cells: Cells, out: int, base: int, row: int, ring_rows: int, window: int, n_rows: int, width: int) -> None:
    """Rank each value among its last `window` ones; the newest stand in n_rows rows from `row` of a ring at `base`."""
    o.set_all(cells, np.uint64(out), np.uint64(n_rows * width), 0.0)
    for lag in range(window):
        done = 0
        while done < n_rows:
            older = row + done - lag
            older = older if older >= 0 else older + ring_rows
            n = min(n_rows - done, ring_rows - older)
            newer = np.uint64((base + row + done) * width)
            target = np.uint64(out + done * width)
            o.count_below(cells, target, newer, np.uint64((base + older) * width), np.uint64(n * width))
            done += n
    o.scale(cells, np.uint64(out), np.uint64(n_rows * width), 1.0 / window)


@njit(**OUTER)
def run_rows(
    op: int, k: int, constants: Cells, waves: Cells, n_arguments: int, windows: int, cells: Cells, scratch: Scratch,
    out: int, places: Places, n_rows: int, width: int, index: int,
) -> None:  # fmt: skip
    """Carry out instruction k for n_rows rows from `out`, operands at `places`: none of them wraps around its ring."""
    if op == Op.SORTED:
        rows, symbols, window = np.uint64(n_rows), np.uint64(width), np.uint64(constants[k, 0])
        n_outputs = np.uint64(n_arguments - 2)
        o.sorted_window(cells, places, n_outputs, np.uint64(windows), window, rows, symbols, constants[k, 1:])
    elif op == Op.CROSS_RANK:
        for row in range(n_rows):
            shift = np.uint64(row * width)
            o.cross_rank(cells, np.uint64(out) + shift, places[0] + shift, np.uint64(width), scratch)
    elif op == Op.CROSS_ZSCORE or op == Op.CROSS_DEMEAN:
        for row in range(n_rows):
            shift = np.uint64(row * width)
            o.cross_center(cells, np.uint64(out) + shift, places[0] + shift, np.uint64(width), op == Op.CROSS_ZSCORE)
    elif op == Op.WAVE:
        for row in range(n_rows):
            at = int(constants[k, 0]) + ((index + row) * int(constants[k, 1])) % int(constants[k, 2])
            o.set_all(cells, np.uint64(out + row * width), np.uint64(width), waves[at])
    else:
        _calculate(op, cells, np.uint64(out), places, np.uint64(n_rows * width), constants, k)
