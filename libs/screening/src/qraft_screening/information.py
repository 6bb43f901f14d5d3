"""
What a feature says about the return that follows: rank correlation (IC), by day, with robust errors; how fast it fades.

With few symbols the order within one bar says little, so each symbol is ranked over time and the symbols are pooled;
from CROSS_SYMBOLS_MIN symbols on the ranks are those across the symbols of each bar. Either way the IC is the mean over
bars and symbols of a product of scores, its days are sums of the same products, and errors are taken over days: symbols
that move together and bars whose labels overlap are one observation, not many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align import bucket_ends, lag
from qraft_quant.align.times import MicrosArray
from qraft_quant.labels import forward_returns
from qraft_screening.hac import RobustMean, lag_for, robust_ratio
from qraft_screening.panel import FeaturePanel, FloatArray
from qraft_screening.scores import CROSS_SYMBOLS_MIN, rank_scores, standardized

IntArray = npt.NDArray[np.int64]
DAY_US: Final = 86_400_000_000
# Labels in a row that do not overlap. On random walks 5 % tests of the catalogue reject 6 % with 270 of them, 16 % with
# 60: a slow feature and a long label have met too seldom by then, whatever the error says.
LABELS_MIN: Final = 90
# Ages at which what a feature once said is tried again: fresh, then about every 1.5 to 2 times as old.
AGES: Final = (0, 1, 2, 3, 6, 12, 24, 48, 96, 192, 384, 768, 1_536)


@dataclass(frozen=True, slots=True)
class DailyInformation:
    """Sums and counts of products of scores by block, in order: their ratio is the IC of a block."""

    sums: FloatArray
    counts: FloatArray

    def part(self, chosen: npt.NDArray[np.bool_]) -> float:
        """Return the IC of some blocks; NaN if they hold nothing."""
        n = float(self.counts[chosen].sum())
        return float(self.sums[chosen].sum()) / n if n else float("nan")


@dataclass(frozen=True, slots=True)
class Information:
    """IC of a feature. ir: mean over long-run deviation of one block, not annualized. by_age: IC of older values."""

    ic: RobustMean
    ir: float
    daily: DailyInformation
    by_age: tuple[float, ...]


class Labels:
    """The label of one horizon over one window, ranked once for all features."""

    def __init__(self, panel: FeaturePanel, horizon_bars: int, *, ages: Sequence[int] = AGES) -> None:
        self.horizon_bars = horizon_bars
        # The panel ends where the window ends: a label that would reach beyond is NaN, which is the purge.
        self.returns = forward_returns(panel.close, horizon_bars)
        n_symbols = int(np.isfinite(self.returns).any(axis=0).sum())
        self.is_cross = n_symbols >= CROSS_SYMBOLS_MIN
        self.axis = 1 if self.is_cross else 0
        self.scores = rank_scores(self.returns, axis=self.axis)
        block_us = max(DAY_US, panel.interval_us)
        self.block_ends, self.block = blocks(panel.closed_at, block_us)
        n_blocks = self.block_ends.size
        self.lag_blocks = lag_for(n_blocks, overlap_blocks=-(-horizon_bars * panel.interval_us // block_us))
        self.ages = tuple(age for age in ages if age < panel.closed_at.size // 4)
        self.block_us = block_us
        self.n_apart = panel.closed_at.size // horizon_bars

    def information(self, values: npt.NDArray[np.floating]) -> Information:
        """
        Return what a feature says about this label; too few labels, as LABELS_MIN says, leave it unknown.

        Args:
            values: (n_bars, n_symbols), NaN = not known.
        """
        own, label = self._joint(rank_scores(values, axis=self.axis))
        daily = self._by_block(own * label)
        ic = robust_ratio(daily.sums, daily.counts, self.lag_blocks)
        if self.n_apart < LABELS_MIN:
            ic = RobustMean(ic.mean, math.nan, math.nan, math.nan)
        n_full = float((daily.counts > 0).sum())
        ir = ic.mean / (ic.error * n_full**0.5) if ic.is_known else float("nan")
        by_age = tuple(_mean(own * label if age == 0 else lag(own, age) * label) for age in self.ages)
        return Information(ic, ir, daily, by_age)

    def _joint(self, own: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return both scores where both are known, again of zero mean and unit variance: else it is no correlation."""
        is_known = ~(np.isnan(own) | np.isnan(self.scores))
        return tuple(standardized(np.where(is_known, scores, np.nan), axis=self.axis) for scores in (own, self.scores))  # type: ignore[return-value]

    def _by_block(self, products: FloatArray) -> DailyInformation:
        is_known = ~np.isnan(products)
        sums = np.where(is_known, products, 0.0).sum(axis=1)
        n = self.block_ends.size
        return DailyInformation(
            _sums_by(self.block, sums, n), _sums_by(self.block, is_known.sum(axis=1).astype(np.float64), n)
        )


def blocks(closed_at: MicrosArray, block_us: int) -> tuple[MicrosArray, IntArray]:
    """Return the ends of all blocks from the first bar to the last, and the number of each bar's block."""
    ends = bucket_ends(closed_at, block_us)
    first = int(ends[0])
    number = (ends - first) // block_us
    return first + block_us * np.arange(int(number[-1]) + 1), number


def months_of(times: MicrosArray) -> npt.NDArray[np.str_]:
    """Return the month, such as 2025-03, in which what ends at each time lies: midnight belongs to the day before."""
    return np.datetime_as_string((times - 1).view("datetime64[us]"), unit="M")


def _sums_by(block: IntArray, values: FloatArray, n_blocks: int) -> FloatArray:
    return np.bincount(block, weights=values, minlength=n_blocks).astype(np.float64)


def _mean(products: FloatArray) -> float:
    is_known = ~np.isnan(products)
    n = int(is_known.sum())
    return float(np.where(is_known, products, 0.0).sum() / n) if n else float("nan")
