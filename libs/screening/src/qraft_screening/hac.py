"""Errors of a mean that hold where neighbors resemble each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from qraft_quant.align import lag

FloatArray = npt.NDArray[np.float64]

# Critical value of the Bartlett kernel at 97.5 % by bandwidth over sample: 1.9600 + 2.9694 b + 0.4160 b^2 - 0.5324 b^3.
_FIXED_B: Final = (1.9600, 2.9694, 0.4160, -0.5324)
# Below so many blocks, or blocks a lag, an error is a guess.
BLOCKS_MIN: Final = 20
_BLOCKS_A_LAG_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class RobustMean:
    """A mean with its standard error, t and two-sided p; NaN where there is too little to tell."""

    mean: float
    error: float
    t: float
    p: float

    @property
    def is_known(self) -> bool:
        """Return whether there was enough to tell."""
        return math.isfinite(self.p)


def lag_for(n_blocks: int, *, overlap_blocks: int) -> int:
    """
    Return the Newey-West lag in blocks: twice the overlap of labels at least, or 4 (n / 100)^(2/9) if that is more.

    Twice, because Bartlett weights count neighbors at the distance of the overlap for nothing and halve those before.

    Source:
        Newey and West (1994), Automatic Lag Selection in Covariance Matrix Estimation.
    """
    automatic = math.floor(4.0 * math.pow(n_blocks / 100.0, 2.0 / 9.0))
    return max(2 * overlap_blocks, automatic)


def long_run_variance(deviations: FloatArray, lag_blocks: int) -> float:
    """
    Return g_0 + 2 sum_k (1 - k / (L + 1)) g_k with g_k = sum_t d_t d_(t-k) / n, never negative.

    Args:
        deviations: (n,), of zero mean, no NaN.
        lag_blocks: L >= 0; 0 is the plain variance.

    Source:
        Newey and West (1987), A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation Consistent
        Covariance Matrix, eq. 5.
    """
    n = deviations.size
    total = float(deviations @ deviations)
    for k in range(1, min(lag_blocks, n - 1) + 1):
        total += 2.0 * (1.0 - k / (lag_blocks + 1.0)) * float(np.nansum(deviations * lag(deviations, k)))
    return max(total / n, 0.0)


def robust_ratio(sums: FloatArray, counts: FloatArray, lag_blocks: int) -> RobustMean:
    """
    Return the mean over all items of blocks, sum(sums) / sum(counts), with an error robust to autocorrelation.

    t is shrunk by 1.96 over the fixed-b critical value at b = (lag + 1) / n, so that few blocks a lag do not look like
    evidence; p is Student's with the degrees of freedom of a Bartlett window, 3 n / (lag + 1). Both together are on
    the careful side: where fixed-b theory says 0.05, p is 0.053 at b = 0.02, 0.059 at 0.1, 0.078 at 0.3.

    Args:
        sums, counts: (n_blocks,), of each block, in order; blocks without items count as such.
        lag_blocks: of the long-run variance.

    Returns:
        Error, t and p are NaN below BLOCKS_MIN blocks with items, below three blocks a lag, and without variation.

    Source:
        Kiefer and Vogelsang (2005), A New Asymptotic Theory for Heteroskedasticity-Autocorrelation Robust Tests,
        table 1; Priestley (1981), Spectral Analysis and Time Series, table 6.2.
    """
    total = float(counts.sum())
    n_blocks, n_full = counts.size, int((counts > 0).sum())
    if total == 0.0:
        return RobustMean(math.nan, math.nan, math.nan, math.nan)
    mean = float(sums.sum()) / total
    if n_full < max(BLOCKS_MIN, _BLOCKS_A_LAG_MIN * lag_blocks):
        return RobustMean(mean, math.nan, math.nan, math.nan)
    error = math.sqrt(long_run_variance(sums - mean * counts, lag_blocks) * n_blocks) / total
    if error <= 1e-15:
        return RobustMean(mean, math.nan, math.nan, math.nan)
    # Weights 1 - k / (L + 1) are those of a bandwidth of L + 1.
    b = (lag_blocks + 1.0) / n_full
    critical = sum(a * b**k for k, a in enumerate(_FIXED_B))
    t = mean / error * (_FIXED_B[0] / critical)
    # A false discovery rate over hundreds of features asks for tails far beyond 97.5 %.
    freedom = min(n_full - 1.0, 3.0 * n_full / (lag_blocks + 1.0))
    return RobustMean(mean, error, t, float(2.0 * student.sf(abs(t), freedom)))
