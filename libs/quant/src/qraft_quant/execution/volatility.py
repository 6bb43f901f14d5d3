"""The per-bar volatility that the impact model takes."""

from __future__ import annotations

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# One day of 5-minute bars.
N_BARS_VOLATILITY: Final = 288
# One hour of 5-minute bars; fewer returns say nothing about a day, and unknown means no order.
N_RETURNS_MIN: Final = 12


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def bar_volatility(closes: FloatArray) -> FloatArray:
    """
    Return each symbol's standard deviation (ddof 1) of 1-bar log returns, recomputed from the window in time order.

    There is no running state, so any process with the same window has the same bits. A return counts where both its
    closes are positive numbers; with fewer than N_RETURNS_MIN of them the answer is NaN.

    Args:
        closes: (n_bars, n_symbols), quote currency, the last N_BARS_VOLATILITY + 1 grid bars ending at the decision
            bar, NaN where a symbol has no bar.

    Returns:
        (n_symbols,), per bar, not annualized.
    """
    n_bars, n_symbols = closes.shape
    volatility = np.full(n_symbols, np.nan)
    returns = np.empty(max(n_bars - 1, 0), np.float64)
    for j in range(n_symbols):
        n = 0
        total = 0.0
        for i in range(1, n_bars):
            before, now = closes[i - 1, j], closes[i, j]
            if 0.0 < before < math.inf and 0.0 < now < math.inf:
                returns[n] = math.log(now / before)
                total += returns[n]
                n += 1
        if n < N_RETURNS_MIN:
            continue
        mean = total / n
        squares = 0.0
        for k in range(n):
            squares += (returns[k] - mean) ** 2
        volatility[j] = math.sqrt(squares / (n - 1))
    return volatility
