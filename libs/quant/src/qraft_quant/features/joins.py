"""
Two neighbouring windows made one: a… describe the newer, b… the older. Compiled as part of machine.py.

All of them are differences of means first, so values that do not move give exactly 0, and nothing that has left a
window leaves a trace. Arguments as in elementwise.py; the constants stand in opcodes.py.

Source:
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance; Pébay (2008), Formulas for robust,
    one-pass parallel computation of covariances and arbitrary-order statistical moments, eqs. 1.5, 2.1, 3.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.compiled import INNER

Cells = npt.NDArray[np.float64]


@njit(**INNER)
def join_mean(cells: Cells, out: int, a: int, b: int, n: int, share: float) -> None:
    for i in range(n):
        x = cells[a + i]
        cells[out + i] = x + (cells[b + i] - x) * share


@njit(**INNER)
def join_squares(cells: Cells, out: int, a: int, b: int, c: int, d: int, n: int, weight: float) -> None:
    for i in range(n):
        gap = cells[d + i] - cells[c + i]
        cells[out + i] = (cells[a + i] + cells[b + i]) + gap * gap * weight


@njit(**INNER)
def join_products(
    cells: Cells, out: int, a: int, b: int, c: int, d: int, e: int, f: int, n: int, weight: float
) -> None:
    for i in range(n):
        gaps = (cells[d + i] - cells[c + i]) * (cells[f + i] - cells[e + i])
        cells[out + i] = (cells[a + i] + cells[b + i]) + gaps * weight


@njit(**INNER)
def join_cubes(
    cells: Cells, out: int, a: int, b: int, c: int, d: int, e: int, f: int, n: int, p0: float, p1: float, p2: float
) -> None:
    """p0 = p q (p - q) / (p + q)²; p1 = 3 p / (p + q); p2 = 3 q / (p + q)."""
    for i in range(n):
        gap = cells[f + i] - cells[e + i]
        inner = p1 * cells[d + i] - p2 * cells[c + i]
        cells[out + i] = (cells[a + i] + cells[b + i]) + gap * (gap * gap * p0 + inner)


@njit(**INNER)
def join_fourths(
    cells: Cells, out: int, a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, n: int,
    p0: float, p1: float, p2: float, p3: float, p4: float,
) -> None:  # fmt: skip
    """p0 = p q (p² - p q + q²) / n³; p1, p2 = 6 p² / n², 6 q² / n²; p3, p4 = 4 p / n, 4 q / n; n = p + q."""
    for i in range(n):
        gap = cells[h + i] - cells[g + i]
        square = gap * gap
        squares = p1 * cells[f + i] + p2 * cells[e + i]
        cubes = p3 * cells[d + i] - p4 * cells[c + i]
        cells[out + i] = (cells[a + i] + cells[b + i]) + (square * (square * p0 + squares) + gap * cubes)


@njit(**INNER)
def join_place(
    cells: Cells, out: int, a: int, b: int, c: int, d: int, n: int, newer_bars: float, direction: float
) -> None:
    """Of equal extremes the newest counts."""
    for i in range(n):
        newer, older = cells[c + i], cells[d + i]
        place = cells[a + i] if direction * newer >= direction * older else cells[b + i] + newer_bars
        cells[out + i] = place if (newer == newer) & (older == older) else np.nan


@njit(**INNER)
def join_weighted(cells: Cells, out: int, a: int, b: int, n: int, weight: float) -> None:
    for i in range(n):
        cells[out + i] = cells[a + i] + weight * cells[b + i]


@njit(**INNER)
def join_trend(cells: Cells, out: int, a: int, b: int, c: int, d: int, n: int, weight: float) -> None:
    for i in range(n):
        cells[out + i] = (cells[a + i] + cells[b + i]) + weight * (cells[d + i] - cells[c + i])
