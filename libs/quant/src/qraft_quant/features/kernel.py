"""
The two compiled entry points, used by history and online alike: time series of a block of symbols, and ranks.

They are made inside functions that close over a digest of this package's sources. Numba's disk cache watches the file
of the entry point alone, so an edit of rolling.py would otherwise run yesterday's machine code; what a function
closes over is part of the cache key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.features.catalog import FEATURES
from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.families.candle import write_candle
from qraft_quant.features.families.momentum import write_momentum
from qraft_quant.features.families.position import write_position
from qraft_quant.features.families.trend import write_trend
from qraft_quant.features.families.volatility import write_volatility
from qraft_quant.features.families.volume import write_volume
from qraft_quant.features.layout import ANCHOR_BARS, FIRST_RANK, LONG_RING_BARS, SHORT_RING_BARS
from qraft_quant.features.ranks import write_ranks
from qraft_quant.features.rolling import advance_extremes, advance_sums
from qraft_quant.features.series import fill_series, take_bar
from qraft_quant.features.state import Bars, Now, State

Matrix = npt.NDArray[np.float32]  # (n_bars, n_symbols, n_factors)
RANK_LANES = 32
NEVER = np.iinfo(np.int64).max
LONGEST_WINDOW = max(feature.window for feature in FEATURES)
AdvanceFn = Callable[[State, Bars, int, int, Matrix], None]
RankFn = Callable[[Matrix], None]


@njit(**OUTER)
def _remember(state: State, now: Now) -> None:
    fill_series(state, now)
    advance_sums(state.long_sums, state.long, state.long_table, now.long, now.phase)
    advance_sums(state.short_sums, state.short, state.short_table, now.short, now.phase)
    advance_extremes(state, now)


@njit(**OUTER)
def _write_factors(state: State, now: Now) -> None:
    write_trend(state, now)
    write_volatility(state, now)
    write_momentum(state, now)
    write_volume(state, now)
    write_position(state, now)
    write_candle(state, now)


@njit(**INNER)
def _is_whole(state: State, index: int) -> bool:
    """Return whether every factor of every symbol has its window: the usual case."""
    for f in range(FIRST_RANK):
        if index < state.settle[f]:
            return False
    shortest = NEVER
    for s in range(state.run.size):
        shortest = min(shortest, state.run[s])
    return shortest >= LONGEST_WINDOW


@njit(**INNER)
def _mask(state: State, f: int, need: int) -> None:
    factors, run = state.factors, state.run
    for s in range(run.size):
        factors[f, s] = factors[f, s] if run[s] >= need else np.nan


@njit(**INNER)
def _emit(state: State, index: int, out: Matrix, t: int, first_column: int) -> None:
    """Write the factors as float32 into out[t]; NaN where the window is not full of valid bars."""
    if not _is_whole(state, index):
        for f in range(FIRST_RANK):
            _mask(state, f, state.need[f] if index >= state.settle[f] else NEVER)
    factors = state.factors
    for s in range(factors.shape[1]):
        for f in range(FIRST_RANK):
            out[t, first_column + s, f] = np.float32(factors[f, s])


@cache
def sources_digest() -> str:
    """Return the SHA-256 of this package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def advance_kernel() -> AdvanceFn:
    """Return the compiled step of a block of symbols; the first call compiles it or loads it from the disk cache."""
    version = sources_digest()

    @njit(cache=True, nogil=True, error_model="numpy")
    def advance(state: State, bars: Bars, first_column: int, index: int, out: Matrix) -> None:
        """
        Take the rows of the bars one by one, for the columns first_column … first_column + n of the state.

        index: grid index of row 0. out: (n_bars, all symbols, n_factors); its time series factors are written, unless
        it has no rows: then only the state moves on.
        """
        assert version != ""
        for t in range(bars.close.shape[0]):
            at = index + t
            now = Now(at % LONG_RING_BARS, at % SHORT_RING_BARS, at % ANCHOR_BARS)
            take_bar(state, bars, t, first_column)
            _remember(state, now)
            if out.shape[0] > 0:
                _write_factors(state, now)
                _emit(state, at, out, t, first_column)

    kernel: AdvanceFn = advance
    return kernel


@cache
def rank_kernel() -> RankFn:
    """Return the compiled cross-sectional pass over some bars; the first call compiles or loads it."""
    version = sources_digest()

    @njit(cache=True, nogil=True, error_model="numpy")
    def rank(out: Matrix) -> None:
        """Fill the rank factors of (n_bars, n_symbols, n_factors) from the others."""
        assert version != ""
        # NaN up to a whole number of vectors: it counts as nothing, and no values are left to count one by one.
        width = (out.shape[1] + RANK_LANES - 1) // RANK_LANES * RANK_LANES
        values, ranks = np.full(width, np.nan, np.float32), np.empty(out.shape[1], np.float32)
        for t in range(out.shape[0]):
            write_ranks(out[t], values, ranks)

    kernel: RankFn = rank
    return kernel
