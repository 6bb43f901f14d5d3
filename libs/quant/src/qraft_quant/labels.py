"""
What a model learns to foretell: forward returns, net of costs, and the volatility on the way there.

Labels look ahead by design, and this is the one module that does: row t uses closes t..t+horizon_bars and nothing
later, which qraft_quant.proof shows of each label in the row in which it is complete. Whoever trains on them must purge
(qraft_quant.splits). A close that is not finite and positive counts as missing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qraft_quant.align import lag

FloatArray = npt.NDArray[np.float64]


def forward_returns(close: FloatArray, horizon_bars: int) -> FloatArray:
    """
    Return the simple return from each bar's close to the close horizon_bars later.

    Row t uses closes t and t + horizon_bars.

    Args:
        close: (n_bars, n_symbols) on the full time grid, NaN where a symbol has no bar.
        horizon_bars: >= 1.

    Returns:
        (n_bars, n_symbols), fraction; NaN in the last horizon_bars rows and where either close is missing.

    Raises:
        ValueError: if horizon_bars is below 1.
    """
    known = _known(close, horizon_bars)
    returns = np.full(close.shape, np.nan)
    if horizon_bars < close.shape[0]:
        returns[:-horizon_bars] = known[horizon_bars:] / known[:-horizon_bars] - 1.0
    return returns


def trailing_returns(close: FloatArray, horizon_bars: int) -> FloatArray:
    """
    Return the simple return over the horizon_bars that end at each bar: row t uses closes t - horizon_bars and t.

    Shapes, unit, NaN rule and errors are those of forward_returns, with the NaN rows at the beginning.
    """
    known = _known(close, horizon_bars)
    return known / lag(known, horizon_bars) - 1.0


def net_labels(close: FloatArray, horizon_bars: int, *, cost: float) -> FloatArray:
    """
    Return y_h = forward return - round-trip cost, the label of the expected-return head.

    Args:
        close: as in forward_returns.
        horizon_bars: >= 1.
        cost: round trip, as a fraction of notional; finite, >= 0.

    Raises:
        ValueError: if horizon_bars is below 1 or the cost is negative or not finite.
    """
    if not (np.isfinite(cost) and cost >= 0.0):
        raise ValueError(f"a round-trip cost must be finite and >= 0, received {cost}")
    return forward_returns(close, horizon_bars) - cost


def realized_volatility(close: FloatArray, horizon_bars: int, *, known_frac_min: float = 1.0) -> FloatArray:
    """
    Return the square root of the sum of squared 1-bar log returns over the horizon_bars that follow each bar.

    Row t uses closes t..t + horizon_bars. Where at least known_frac_min of those returns are known, the sum of the
    known ones is scaled up to the whole horizon, so that one missing bar does not void a week of labels.

    Args:
        close: as in forward_returns.
        horizon_bars: >= 1.
        known_frac_min: in (0, 1]; 1 = every return must be known.

    Returns:
        (n_bars, n_symbols), fraction over the horizon (not annualized), >= 0; NaN where too little is known.

    Raises:
        ValueError: if horizon_bars is below 1 or known_frac_min is out of range.

    Source:
        Andersen, Bollerslev, Diebold and Labys (2003), Modeling and Forecasting Realized Volatility, eq. 6.
    """
    if not 0.0 < known_frac_min <= 1.0:
        raise ValueError(f"known_frac_min must be in (0, 1], received {known_frac_min}")
    known = _known(close, horizon_bars)
    n_bars = close.shape[0]
    volatility = np.full(close.shape, np.nan)
    if horizon_bars >= n_bars:
        return volatility
    steps = np.diff(np.log(known), axis=0)
    is_known = ~np.isnan(steps)
    total = _window_sums(np.where(is_known, steps * steps, 0.0), horizon_bars)
    n_known = _window_sums(is_known.astype(np.float64), horizon_bars)
    enough = n_known >= known_frac_min * horizon_bars
    scale = horizon_bars / np.where(enough, n_known, 1.0)
    # Differences of running sums may fall a rounding error below zero over a flat stretch.
    volatility[:-horizon_bars] = np.where(enough, np.sqrt(np.maximum(total * scale, 0.0)), np.nan)
    return volatility


def _known(close: FloatArray, horizon_bars: int) -> FloatArray:
    assert close.ndim == 2, f"expected (n_bars, n_symbols), received shape {close.shape}"
    if horizon_bars < 1:
        raise ValueError(f"horizon_bars must be >= 1, received {horizon_bars}")
    return np.where(np.isfinite(close) & (close > 0.0), close, np.nan)


def _window_sums(values: FloatArray, window: int) -> FloatArray:
    """Return the sums of each run of `window` rows; row t sums rows t..t + window - 1."""
    running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    sums: FloatArray = running[window:] - running[:-window]
    return sums
