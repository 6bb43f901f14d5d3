"""
Measures of a return series, an equity curve or a forecast.

Returns are simple, per period, as fractions; `periods_per_year` annualizes them and has no default, because a silent
252 on a market that trades 365 days is the commonest way to get a wrong number. A NaN among returns is an error, not
a zero: the caller decides what a missing period means. Where a measure is not defined, NaN is returned and the
docstring says when.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def total_return(returns: FloatArray) -> float:
    """Return the compounded return of the whole series; 0 for an empty one."""
    return float(np.prod(1.0 + _checked(returns)) - 1.0)


def annualized_return(returns: FloatArray, *, periods_per_year: float) -> float:
    """Return the compound return per year; NaN for an empty series, -1 where capital was lost entirely."""
    if returns.size == 0:
        return float("nan")
    growth = 1.0 + total_return(returns)
    return float(growth ** (periods_per_year / returns.size) - 1.0) if growth > 0.0 else -1.0


def annualized_volatility(returns: FloatArray, *, periods_per_year: float) -> float:
    """Return the sample standard deviation (ddof 1) per year; NaN below two returns."""
    if returns.size < 2:
        return float("nan")
    return float(_checked(returns).std(ddof=1) * np.sqrt(periods_per_year))


def sharpe(returns: FloatArray, *, periods_per_year: float, risk_free: float = 0.0) -> float:
    """
    Return the annualized Sharpe ratio, (mean - risk_free) / sd (ddof 1) * sqrt(periods_per_year).

    Args:
        returns: (n,), per period.
        periods_per_year: such as 105,120 for 5-minute bars of a market that never closes.
        risk_free: per period.

    Returns:
        NaN below two returns or where the returns do not vary.

    Source:
        Sharpe (1994), The Sharpe Ratio, Journal of Portfolio Management 21(1).
    """
    deviation = annualized_volatility(returns, periods_per_year=periods_per_year)
    if not deviation > 0.0:
        return float("nan")
    return float((returns.mean() - risk_free) * periods_per_year / deviation)


def sortino(returns: FloatArray, *, periods_per_year: float, target: float = 0.0) -> float:
    """
    Return the annualized mean over target divided by the annualized downside deviation.

    The downside deviation is over all periods (those above target count as zero). NaN for an empty series, infinite
    where nothing fell below target.

    Source:
        Sortino and Price (1994), Performance Measurement in a Downside Risk Framework.
    """
    if returns.size == 0:
        return float("nan")
    excess = _checked(returns) - target
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2)))
    mean = float(excess.mean())
    if downside == 0.0:
        return float("inf") if mean > 0.0 else float("nan")
    return mean * float(np.sqrt(periods_per_year)) / downside


def omega(returns: FloatArray, *, threshold: float = 0.0) -> float:
    """
    Return the sum of gains over a per-period threshold divided by the sum of shortfalls below it.

    Infinite where nothing falls short; NaN where nothing differs from the threshold.

    Source:
        Keating and Shadwick (2002), A Universal Performance Measure.
    """
    excess = _checked(returns) - threshold
    gains, shortfalls = float(excess[excess > 0.0].sum()), float(-excess[excess < 0.0].sum())
    if shortfalls == 0.0:
        return float("inf") if gains > 0.0 else float("nan")
    return gains / shortfalls


def value_at_risk(returns: FloatArray, *, tail_frac: float = 0.05) -> float:
    """Return the tail_frac quantile of the returns (linear interpolation), signed: a loss is negative."""
    return float(np.quantile(_checked(returns), tail_frac)) if returns.size else float("nan")


def conditional_value_at_risk(returns: FloatArray, *, tail_frac: float = 0.05) -> float:
    """Return the mean of the returns at or below the value at risk (the lowest one at least), signed."""
    if returns.size == 0:
        return float("nan")
    ordered = np.sort(_checked(returns))
    return float(ordered[: int((returns.size - 1) * tail_frac) + 1].mean())


def tail_ratio(returns: FloatArray, *, tail_frac: float = 0.05) -> float:
    """Return the size of the upper tail quantile over that of the lower one; NaN where the lower one is zero."""
    lower = abs(value_at_risk(returns, tail_frac=tail_frac))
    upper = abs(value_at_risk(returns, tail_frac=1.0 - tail_frac))
    return upper / lower if lower > 0.0 else float("nan")


def drawdowns(equity: FloatArray) -> FloatArray:
    """
    Return how far each point lies below the highest point up to it, as a fraction >= 0. Row t uses rows 0..t.

    Args:
        equity: (n,), > 0 at its first point.

    Raises:
        ValueError: if a point is not finite or the first one is not positive.
    """
    if equity.size == 0:
        return np.empty(0)
    if not np.isfinite(equity).all() or equity[0] <= 0.0:
        raise ValueError("expected a finite equity curve that starts above zero")
    peak = np.maximum.accumulate(equity)
    return 1.0 - equity / peak


def max_drawdown(equity: FloatArray) -> float:
    """Return the largest drawdown as a fraction >= 0; 0 for an empty curve. Errors as in drawdowns."""
    return float(drawdowns(equity).max(initial=0.0))


def calmar(returns: FloatArray, *, periods_per_year: float) -> float:
    """Return the annualized return over the maximal drawdown of the compounded series; NaN without a drawdown."""
    equity = np.concatenate([[1.0], np.cumprod(1.0 + _checked(returns))])
    deepest = max_drawdown(equity)
    return annualized_return(returns, periods_per_year=periods_per_year) / deepest if deepest > 0.0 else float("nan")


def hit_rate(forecasts: FloatArray, outcomes: FloatArray) -> float:
    """Return the share of outcomes with the sign of their forecast; pairs with a zero or NaN do not count."""
    voted = np.sign(forecasts) * np.sign(outcomes)
    voted = voted[np.isfinite(voted) & (voted != 0.0)]
    return float(np.mean(voted > 0.0)) if voted.size else float("nan")


def correlation(left: FloatArray, right: FloatArray) -> float:
    """Return the Pearson correlation over pairs without NaN; NaN below two pairs or where a side does not vary."""
    left, right = _pairs(left, right)
    if left.size < 2 or left.min() == left.max() or right.min() == right.max():
        return float("nan")
    a, b = left - left.mean(), right - right.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def rank_correlation(left: FloatArray, right: FloatArray) -> float:
    """
    Return Spearman's rank correlation over pairs without NaN, ties at their mean rank: the information coefficient.

    NaN below two pairs or where a side does not vary.
    """
    left, right = _pairs(left, right)
    return correlation(ranks(left), ranks(right)) if left.size >= 2 else float("nan")


def ranks(values: FloatArray) -> FloatArray:
    """Return the ranks 1..n of a vector without NaN; ties share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[place]


def _pairs(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    assert left.shape == right.shape and left.ndim == 1, (left.shape, right.shape)
    known = ~(np.isnan(left) | np.isnan(right))
    return left[known], right[known]


def _checked(returns: FloatArray) -> FloatArray:
    if returns.ndim != 1 or not np.isfinite(returns).all():
        raise ValueError("expected a vector of finite returns: decide first what a missing period means")
    return returns
