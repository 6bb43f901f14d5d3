"""
The limits, one function each. Every one takes and returns signed shares (n_symbols, n_horizons), fractions of equity,
and only ever shrinks them: no sign changes, no absolute share grows.

Caps count absolute shares, so that two horizons of opposite side both use up their symbol's cap. It is the stricter
reading, and the one under which no later step can break an earlier cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

YEAR_S: Final = 365.0 * 86_400.0


def cap_symbols(shares: FloatArray, *, symbol_cap: float) -> FloatArray:
    """Return the shares with each symbol's sum of absolute shares at most symbol_cap."""
    return shares * _shrink(np.abs(shares).sum(axis=1), symbol_cap)[:, None]


def cap_buckets(shares: FloatArray, *, buckets: Sequence[str], bucket_caps: FloatArray) -> FloatArray:
    """Return the shares with each bucket's sum of absolute shares at most its cap. buckets, caps: (n_horizons,)"""
    of_horizon = np.abs(shares).sum(axis=0)
    used = np.array([sum(of_horizon[j] for j, other in enumerate(buckets) if other == one) for one in buckets])
    return shares * _shrink(used, bucket_caps)


def cap_gross(shares: FloatArray, *, gross_max: float) -> FloatArray:
    """Return the shares with the sum of all absolute shares at most gross_max."""
    return shares * _shrink(np.abs(shares).sum(), gross_max)


def share_cap_of_clusters(
    shares: FloatArray, *, best_score: FloatArray, correlations: FloatArray, correlation_max: float, symbol_cap: float
) -> FloatArray:
    """
    Return the shares with each cluster of correlated same-side symbols within one symbol cap.

    A cluster is the symbol with the best score that is in none yet, and every later one of its side that is
    correlated with it above correlation_max or in an unknown way. The same amount is taken from each member until
    they fit, so the lower scores give way first and reach zero first; unlike dropping all but the best, small
    changes of scores make small changes of weights, which are turnover and therefore money.

    Args:
        shares: (n_symbols, n_horizons).
        best_score: (n_symbols,); ties keep the order of the rows.
        correlations: (n_symbols, n_symbols), NaN = unknown = taken as 1.

    Source:
        Duchi, Shalev-Shwartz, Singer, Chandra (2008), Efficient projections onto the l1-ball, figure 1.
    """
    side = np.sign(shares.sum(axis=1))
    size = np.abs(shares).sum(axis=1)
    related = np.where(np.isnan(correlations), 1.0, correlations) > correlation_max
    np.fill_diagonal(related, True)  # also when correlation_max is 1
    related &= side[:, None] == side
    # A symbol that is related to none is its own cluster; only the others need the loop.
    shrunk = np.where(side != 0.0, np.minimum(size, symbol_cap), 0.0)
    is_free = (side != 0.0) & (related.sum(axis=1) > 1)
    for leader in np.argsort(-best_score, kind="stable"):
        if not is_free[leader]:
            continue
        members = np.flatnonzero(is_free & related[leader])
        is_free[members] = False
        shrunk[members] = project_to_cap(size[members], symbol_cap)
    return shares * np.where(size > 0.0, shrunk / np.where(size > 0.0, size, 1.0), 0.0)[:, None]


def project_to_cap(sizes: FloatArray, cap: float) -> FloatArray:
    """Return sizes (>= 0) minus one common amount, floored at 0, so that they sum to at most cap."""
    if sizes.sum() <= cap:
        return sizes
    descending = np.sort(sizes)[::-1]
    taken = (np.cumsum(descending) - cap) / np.arange(1, sizes.size + 1)
    n_left = np.flatnonzero(descending > taken)
    if n_left.size == 0:  # cap 0
        return np.zeros_like(sizes)
    return np.asarray(np.maximum(sizes - taken[n_left[-1]], 0.0))


def portfolio_volatility(weights: FloatArray, *, volatility: FloatArray, correlations: FloatArray) -> float:
    """
    Return the ex-ante volatility of signed weights, in the unit of `volatility`.

    An unknown correlation (NaN) is taken as the one that adds most risk: +1 on the same side, -1 on opposite sides,
    so that an unknown hedge is no hedge. The same holds for all pairs if the known ones contradict each other.
    """
    exposure = weights * volatility
    # A power of two keeps the squares of absurd volatilities in range and changes no bit of the usual ones.
    _, exponent = np.frexp(np.abs(exposure).max(initial=0.0))
    exposure = np.ldexp(exposure, -exponent)
    if np.isnan(correlations).any():
        sign = np.sign(weights)
        correlations = np.where(np.isnan(correlations), sign[:, None] * sign, correlations)
    # einsum and not `@`: BLAS may give other bits with another number of threads.
    variance = float((exposure * np.einsum("ij,j->i", correlations, exposure)).sum())
    if variance < 0.0:
        return float(np.ldexp(np.abs(exposure).sum(), exponent))
    return float(np.ldexp(np.sqrt(variance), exponent))


def fit_risk_budget(
    shares: FloatArray, *, volatility: FloatArray, correlations: FloatArray, risk_budget: float
) -> FloatArray:
    """Return the shares scaled down together until the portfolio's volatility is at most risk_budget."""
    risk = portfolio_volatility(shares.sum(axis=1), volatility=volatility, correlations=correlations)
    return shares * _shrink(risk, risk_budget)


def _shrink(used: npt.ArrayLike, allowed: npt.ArrayLike) -> FloatArray:
    used, allowed = np.asarray(used, dtype=np.float64), np.asarray(allowed, dtype=np.float64)
    return np.asarray(np.where(used > allowed, allowed / np.where(used > allowed, used, 1.0), 1.0))
