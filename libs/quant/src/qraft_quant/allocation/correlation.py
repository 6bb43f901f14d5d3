"""Correlations between symbols. What is not known is NaN, and the limits treat it as the worst case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

WEEK_S: Final = 604_800
_HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Correlations:
    """
    Pairwise correlations. matrix: (n_symbols, n_symbols), symmetric, NaN = unknown.

    Raises:
        ValueError: if the shape does not fit the symbols or a symbol stands twice.
    """

    symbols: tuple[str, ...]
    matrix: FloatArray

    def __post_init__(self) -> None:
        n = len(self.symbols)
        if self.matrix.shape != (n, n) or len(set(self.symbols)) != n:
            raise ValueError(f"expected a ({n}, {n}) matrix of distinct symbols, received {self.matrix.shape}")

    def between(self, symbols: Sequence[str]) -> FloatArray:
        """Return the (k, k) matrix of some symbols; NaN where a symbol is not among ours. The diagonal is 1."""
        position = {symbol: index for index, symbol in enumerate(self.symbols)}
        known = np.array([symbol in position for symbol in symbols], dtype=bool)
        index = np.array([position.get(symbol, 0) for symbol in symbols], dtype=np.intp)
        if not known.any():
            found = np.full((len(symbols), len(symbols)), np.nan)
        else:
            found = self.matrix.take(index, axis=0).take(index, axis=1)
            found[~known] = np.nan
            found[:, ~known] = np.nan
        np.fill_diagonal(found, 1.0)
        return found


def weekly_correlations(
    symbols: Sequence[str], close: FloatArray, *, closed_at_s: npt.NDArray[np.int64], end_s: int, n_common_min: int
) -> Correlations:
    """
    Return the correlations of hourly log returns over the week that ends at end_s. Bars after end_s are not looked at.

    Args:
        symbols: columns of close.
        close: (n_bars, n_symbols), quote currency; NaN or not positive = no price, and no return on either side of it.
        closed_at_s: (n_bars,), unix seconds, strictly increasing; bars that do not end on the hour are left out.
        end_s: unix seconds, such as a UTC midnight.
        n_common_min: see correlation_matrix.
    """
    hours = np.arange(end_s - WEEK_S, end_s + 1, _HOUR_S)
    place = np.searchsorted(closed_at_s, hours)
    is_found = place < closed_at_s.size
    is_found[is_found] = closed_at_s[place[is_found]] == hours[is_found]
    hourly = np.full((hours.size, len(symbols)), np.nan)
    hourly[is_found] = close[place[is_found]]
    log_price = np.log(np.where(np.isfinite(hourly) & (hourly > 0.0), hourly, np.nan))
    return Correlations(tuple(symbols), correlation_matrix(np.diff(log_price, axis=0), n_common_min=n_common_min))


def correlation_matrix(returns: FloatArray, *, n_common_min: int) -> FloatArray:
    """
    Return the Pearson correlation of each pair of columns over the rows that both have.

    Sums run row after row and never through BLAS, so the bits do not depend on threads or memory layout.

    Args:
        returns: (n_rows, n_symbols); NaN or infinity = no return.
        n_common_min: >= 2; a pair with fewer common rows is unknown.

    Returns:
        (n_symbols, n_symbols), in [-1, 1], NaN = unknown (too few common rows, or a column that does not move).

    Raises:
        ValueError: if n_common_min is below 2 or returns is not two-dimensional.
    """
    if returns.ndim != 2 or n_common_min < 2:
        raise ValueError(f"expected 2 dimensions and n_common_min >= 2, received {returns.shape}, {n_common_min}")
    has = np.isfinite(returns)
    x = np.where(has, returns, 0.0)
    weight = has.astype(np.float64)
    # Centering by the column's own mean first keeps the pairwise differences below from cancelling.
    x = np.where(has, x - x.sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0), 0.0)
    n_symbols = returns.shape[1]
    matrix = np.full((n_symbols, n_symbols), np.nan)
    for i in range(n_symbols):
        matrix[i, i:] = _one_row(x[:, i:], weight[:, i:], n_common_min)
        matrix[i:, i] = matrix[i, i:]
    return matrix


def _one_row(x: FloatArray, weight: FloatArray, n_common_min: int) -> FloatArray:
    """Return the correlation of column 0 with each column. (n_columns,)"""
    mine, my_weight = x[:, :1], weight[:, :1]
    n = np.maximum((my_weight * weight).sum(axis=0), 1.0)
    sum_mine, sum_theirs = (mine * weight).sum(axis=0), (my_weight * x).sum(axis=0)
    covariance = (mine * x).sum(axis=0) - sum_mine * sum_theirs / n
    spread_mine = (mine * mine * weight).sum(axis=0) - sum_mine * sum_mine / n
    spread_theirs = (my_weight * x * x).sum(axis=0) - sum_theirs * sum_theirs / n
    # A column that does not move leaves rounding dust of about 1e-32; nothing real is below 1e-24 (a basis point of a
    # basis point, squared).
    is_known = (n >= n_common_min) & (spread_mine > 1e-24) & (spread_theirs > 1e-24)
    scale = np.sqrt(np.where(is_known, spread_mine * spread_theirs, 1.0))
    return np.where(is_known, np.clip(covariance / scale, -1.0, 1.0), np.nan)
