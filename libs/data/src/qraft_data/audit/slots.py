"""Rows without a schedule: in how many stretches of time there is one, which says nothing about how many there were."""

from __future__ import annotations

import numpy as np

from qraft_data.audit.expectation import Window
from qraft_data.times import SECOND_US, Int64Array

_N_PARTS = 60


class Slots:
    """
    The stretches of `width_s` of a window and which of them have a row.

    Nothing says whether a stretch without a row is one without an event or one that was not collected, so the share is
    told and not judged.
    """

    def __init__(self, found: Int64Array, *, width_s: int, window: Window) -> None:
        self._width_s, self._width_us = width_s, width_s * SECOND_US
        self._first = window.start_us // self._width_us
        n_slots = max(1, -(-(window.end_us - self._first * self._width_us) // self._width_us))
        inside = found[(found > window.start_us) & (found <= window.end_us)]
        self._filled = np.zeros(n_slots, dtype=bool)
        self._filled[(inside - 1) // self._width_us - self._first] = True

    @property
    def filled_frac(self) -> float:
        """Return the share of stretches with a row."""
        return round(float(self._filled.mean()), 6)

    @property
    def said(self) -> list[str]:
        """Return what a reader must know, nothing when every stretch has a row."""
        if self._filled.all():
            return []
        n_empty = int((~self._filled).sum())
        return [
            f"no row in {n_empty:,} of {self._filled.size:,} stretches of {_duration(self._width_s)}: "
            "nothing tells whether nothing happened or nothing was collected"
        ]

    def coverage(self, window: Window) -> tuple[float, ...]:
        """Return the share of stretches with a row in equal parts of a window; -1 outside the first and last row."""
        edges = np.linspace(window.start_us, window.end_us, _N_PARTS + 1)
        ends = (self._first + 1 + np.arange(self._filled.size)) * self._width_us
        n_slots = np.histogram(ends, edges)[0]
        n_filled = np.histogram(ends[self._filled], edges)[0]
        parts = np.where(n_slots > 0, n_filled / np.maximum(n_slots, 1), -1.0)
        there = np.flatnonzero(n_filled)
        parts[: there[0] if there.size else _N_PARTS] = -1.0
        parts[there[-1] + 1 if there.size else 0 :] = -1.0
        return tuple(round(float(it), 3) for it in parts)


def _duration(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
