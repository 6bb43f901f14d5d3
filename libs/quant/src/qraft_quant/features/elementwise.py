"""
Instructions that look at one place of each operand. Compiled as part of machine.py.

Every function works on one flat array of cells: `out`, `a`, `b`, … are where the n cells of the result and of the
operands begin. They are unsigned: numba would otherwise look for negative positions, and the loops would not become
vector code. Results never overlap operands.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER
from qraft_quant.features.logarithm import log

Cells = npt.NDArray[np.float64]
FINITE_MAX = 1.7e308


@njit(**INNER)
def load_bar(cells: Cells, out: int, inputs: Cells, a: int, ok: Cells, n: int) -> None:
    for i in range(n):
        cells[out + i] = inputs[a + i] + ok[i]


@njit(**INNER)
def load_state(cells: Cells, out: int, inputs: Cells, a: int, n: int) -> None:
    for i in range(n):
        x = inputs[a + i]
        cells[out + i] = x if abs(x) <= FINITE_MAX else np.nan


@njit(**INNER)
def copy(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i]


@njit(**INNER)
def affine(cells: Cells, out: int, a: int, n: int, factor: float, term: float) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i] * factor + term


@njit(**INNER)
def add(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i] + cells[b + i]


@njit(**INNER)
def subtract(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i] - cells[b + i]


@njit(**INNER)
def multiply(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i] * cells[b + i]


@njit(**INNER)
def divide(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        x, y = cells[a + i], cells[b + i]
        # 0 · x, not 0: a missing part stays missing. Dividing by 1 instead keeps the flags of the processor clean.
        cells[out + i] = (0.0 * x if y == 0.0 else x) / (1.0 if y == 0.0 else y)


@njit(**INNER)
def larger(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        x, y = cells[a + i], cells[b + i]
        cells[out + i] = x if (x > y) | (x != x) else y


@njit(**INNER)
def smaller(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        x, y = cells[a + i], cells[b + i]
        cells[out + i] = x if (x < y) | (x != x) else y


@njit(**INNER)
def above(cells: Cells, out: int, a: int, b: int, n: int) -> None:
    for i in range(n):
        x, y = cells[a + i], cells[b + i]
        sign = 1.0 if x > y else 0.0
        cells[out + i] = sign if (x == x) & (y == y) else np.nan


@njit(**INNER)
def where(cells: Cells, out: int, a: int, b: int, c: int, n: int) -> None:
    for i in range(n):
        x = cells[a + i]
        picked = cells[b + i] if x > 0.0 else cells[c + i]
        cells[out + i] = picked if x == x else np.nan


@njit(**INNER)
def logarithm(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = log(x) if x > 0.0 else np.nan


@njit(**INNER)
def absolute(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        cells[out + i] = abs(cells[a + i])


@njit(**INNER)
def sign(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0 * x)


@njit(**INNER)
def root(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = math.sqrt(0.0 if x < 0.0 else x)


@njit(**INNER)
def clip(cells: Cells, out: int, a: int, n: int, low: float, high: float) -> None:
    for i in range(n):
        x = cells[a + i]
        x = low if x < low else x
        cells[out + i] = high if x > high else x


@njit(**INNER)
def missing(cells: Cells, out: int, a: int, n: int) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = 0.0 if x == x else 1.0


@njit(**INNER)
def fill(cells: Cells, out: int, a: int, n: int, value: float) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = x if x == x else value
