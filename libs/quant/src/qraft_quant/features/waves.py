"""Sines and cosines of the calendar, as tables: in plain arithmetic, so that their bits depend on no C library."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_QUARTER_PI = 0.7853981633974483
_N_TERMS = 10  # of Taylor's series up to an eighth of a turn: the next one is below 1e-21


@dataclass(slots=True)
class Waves:
    """Tables one after the other; each holds one turn at the steps that a grid's bars can fall on."""

    _values: list[float] = field(default_factory=list)
    _known: dict[tuple[int, int, bool, int], tuple[int, int, int]] = field(default_factory=dict)

    def add(self, *, period_s: int, interval_s: int, is_cosine: bool, offset_s: int) -> tuple[int, int, int]:
        """
        Return start, step and length of a table: bar `index` has entry start + (index · step) mod length.

        offset_s: of the instant 0 (1970-01-01, a Thursday) within the period.
        """
        key = (period_s, interval_s, is_cosine, offset_s)
        if key not in self._known:
            unit_s = math.gcd(period_s, interval_s, offset_s)
            n, shift = period_s // unit_s, offset_s // unit_s
            self._known[key] = (len(self._values), interval_s // unit_s, n)
            self._values += [_wave(k + shift, n, is_cosine=is_cosine) for k in range(n)]
        return self._known[key]

    def table(self) -> npt.NDArray[np.float64]:
        """Return all tables."""
        return np.array(self._values)


def _wave(k: int, n: int, *, is_cosine: bool) -> float:
    """Return sin or cos of k / n turns; the eighth of the turn is taken in whole numbers, so quarters are exact."""
    eighth, rest = divmod(8 * k + (2 * n if is_cosine else 0), n)
    eighth %= 8
    part = rest / n
    flipped = eighth % 2 == 1
    angle = _QUARTER_PI * (1.0 - part if flipped else part)
    # Quarters of the turn: sin, cos, -sin, -cos; a flipped eighth counts down from the next quarter.
    quarter = (eighth + 1) // 2 % 4
    value = _series(angle, first=quarter % 2 == 0)
    sign = -1.0 if quarter in (2, 3) else 1.0
    if quarter % 2 == 0 and flipped:
        sign = -sign
    return sign * value if value != 0.0 else 0.0


def _series(x: float, *, first: bool) -> float:
    """Return sin x (first) or cos x for 0 <= x <= π / 4, smallest terms added first."""
    start = 1 if first else 0
    term = x if first else 1.0
    terms = [term]
    for k in range(start + 2, start + 2 * _N_TERMS, 2):
        term = -term * x * x / ((k - 1) * k)
        terms.append(term)
    return sum(reversed(terms), 0.0)
