"""The memory of the feature engine for a block of symbols: plain arrays, a row for a series, a column for a symbol."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qraft_quant.features.catalog import FEATURES
from qraft_quant.features.layout import (
    ANCHOR_BARS,
    FIRST_RANK,
    LONG_RING_BARS,
    SHORT_RING_BARS,
    Long,
    LongSum,
    Short,
    ShortSum,
    sum_table,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Bars(NamedTuple):
    """Bars as compiled code takes them: (n_bars, n_symbols) each, float64, C order, NaN where one is missing."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    @classmethod
    def of(cls, *arrays: npt.ArrayLike) -> Bars:
        """Return the five arrays in that form; they are not copied where they have it already."""
        bars = cls(*(np.ascontiguousarray(values, dtype=np.float64) for values in arrays))
        assert all(values.ndim == 2 and values.shape == bars.close.shape for values in bars), [v.shape for v in bars]
        return bars

    def rows(self, start: int, end: int) -> Bars:
        """Return the bars in [start, end), not copied."""
        return Bars(*(values[start:end] for values in self))


class Now(NamedTuple):
    """Where the newest bar stands: its slot in each ring, and its place between anchors. Computed once a bar."""

    long: int
    short: int
    phase: int


class State(NamedTuple):
    """
    What the engine remembers; n = symbols of the block.

    long, short: (series, ring bars, n), bar i in slot i % ring bars. long_sums, short_sums: (sums, n).
    run: (n,), valid bars in a row up to the newest. bar: (6, n), factors: (factors, n) and extremes: (4, n) hold the
    newest bar alone. long_table, short_table: see layout.sum_table. need, settle: (factors,), see `new_state`.
    """

    long: FloatArray
    short: FloatArray
    long_sums: FloatArray
    short_sums: FloatArray
    run: IntArray
    bar: FloatArray
    factors: FloatArray
    extremes: FloatArray
    long_table: IntArray
    short_table: IntArray
    need: IntArray
    settle: IntArray


def new_state(n_symbols: int, *, first_index: int) -> State:
    """
    Return the state before the bar `first_index`, which is the first one that will ever be seen.

    need: a factor is valid after so many valid bars in a row. settle: and from this grid index on. A factor with a
    rolling sum settles ANCHOR_BARS after its window is full: by then the sum has been computed from bars that were
    all seen, so a value that is emitted is the same for every earlier first_index.
    """
    time_series = FEATURES[:FIRST_RANK]
    wait = [feature.window - 1 + (ANCHOR_BARS if feature.is_anchored else 0) for feature in time_series]
    return State(
        long=np.zeros((len(Long), LONG_RING_BARS, n_symbols)),
        short=np.zeros((len(Short), SHORT_RING_BARS, n_symbols)),
        long_sums=np.zeros((len(LongSum), n_symbols)),
        short_sums=np.zeros((len(ShortSum), n_symbols)),
        run=np.zeros(n_symbols, dtype=np.int64),
        bar=np.zeros((6, n_symbols)),
        factors=np.zeros((FIRST_RANK, n_symbols)),
        extremes=np.zeros((4, n_symbols)),
        long_table=sum_table(LongSum),
        short_table=sum_table(ShortSum),
        need=np.array([feature.window for feature in time_series], dtype=np.int64),
        settle=first_index + np.array(wait, dtype=np.int64),
    )
