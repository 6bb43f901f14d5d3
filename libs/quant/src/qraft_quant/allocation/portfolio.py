"""From all horizons' rows to target weights: thresholds, sizes, limits, attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.allocation import sizing
from qraft_quant.allocation.candidates import (
    HorizonRows,
    JudgedRows,
    Refusal,
    ScoreStatistics,
    judge,
    refusals,
    score_statistics,
)
from qraft_quant.allocation.correlation import Correlations
from qraft_quant.allocation.limits import AllocationLimits

FloatArray = npt.NDArray[np.float64]

# Weights are whole millionths of equity, cut towards zero: shares then add up to the weight exactly, a cap is never
# passed by a rounding error, and the numbers read well. The dust undoes 0.05 * 1e6 = 49999.999…
_UNITS: Final = 1_000_000
_DUST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """What one horizon contributes to a symbol's weight. weight: signed fraction of equity."""

    horizon: str
    bucket: str
    weight: float
    score: float
    edge: float
    confidence: float


@dataclass(frozen=True, slots=True)
class TargetWeight:
    """One symbol's target, the exact sum of its shares. dominant: the horizon with the largest absolute share."""

    symbol: str
    weight: float
    dominant: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Allocation:
    """
    The outcome for one bar; targets sorted by symbol, a symbol that is not named is to be flat.

    gross: sum of absolute shares. volatility: ex-ante, fraction a year.
    """

    targets: tuple[TargetWeight, ...]
    scores: tuple[ScoreStatistics, ...]
    refused: tuple[Refusal, ...]
    gross: float
    volatility: float


def allocate(
    horizons: Sequence[HorizonRows], correlations: Correlations | None, limits: AllocationLimits
) -> Allocation:
    """
    Return target weights with their attribution. No candidate gives no targets.

    A pair that passes the thresholds of `judge` asks for side * symbol_cap * horizon_share * size, with
    size = score / score_full cut to [size_min, 1]. The limits of `sizing` then shrink in this order: symbol, bucket,
    correlation, gross, risk. Volatilities are annualized by the square root of time; of a symbol's passing horizons
    the largest counts. correlations None = nothing is known, the worst case for every pair.

    Raises:
        ValueError: if a horizon stands twice or is unknown to the limits.
    """
    ordered = sorted(horizons, key=lambda rows: (rows.horizon_s, rows.horizon))
    if len({rows.horizon for rows in ordered}) != len(ordered):
        raise ValueError(f"expected each horizon once, received {[rows.horizon for rows in ordered]}")
    judged = [judge(rows, limits) for rows in ordered]
    scores = tuple(score_statistics(one, limits) for one in judged)
    grid = _grid(judged)
    if not grid.symbols:
        return Allocation((), scores, refusals(judged, []), 0.0, 0.0)
    known = (correlations or Correlations((), np.empty((0, 0)))).between(grid.symbols)
    after_buckets = sizing.cap_buckets(
        sizing.cap_symbols(_raw_shares(grid, judged, limits), symbol_cap=limits.symbol_cap),
        buckets=[one.rows.bucket for one in judged],
        bucket_caps=np.array([limits.bucket_caps.get(one.rows.bucket, 0.0) for one in judged]),
    )
    after_clusters = sizing.share_cap_of_clusters(
        after_buckets,
        best_score=np.nanmax(grid.score, axis=1),
        correlations=known,
        correlation_max=limits.correlation_max,
        symbol_cap=limits.symbol_cap,
    )
    within_gross = sizing.cap_gross(after_clusters, gross_max=limits.gross_max)
    within_risk = sizing.fit_risk_budget(
        within_gross, volatility=grid.volatility, correlations=known, risk_budget=limits.risk_budget
    )
    units = np.trunc(within_risk * _UNITS + np.sign(within_risk) * _DUST).astype(np.int64)
    units[units.sum(axis=1) == 0] = 0
    final = units / _UNITS
    return Allocation(
        targets=_targets(grid, judged, units),
        scores=scores,
        refused=refusals(judged, _turned_away(grid, judged, after_buckets, after_clusters, units)),
        gross=float(np.abs(units).sum() / _UNITS),
        volatility=sizing.portfolio_volatility(final.sum(axis=1), volatility=grid.volatility, correlations=known),
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Passing pairs on (n_symbols, n_horizons), NaN where one did not pass. volatility: (n_symbols,), a year."""

    symbols: tuple[str, ...]
    side: FloatArray
    score: FloatArray
    edge: FloatArray
    confidence: FloatArray
    volatility: FloatArray


def _grid(judged: Sequence[JudgedRows]) -> _Grid:
    passing = [np.flatnonzero(one.passed) for one in judged]
    symbols = tuple(sorted({one.rows.symbols[i] for one, found in zip(judged, passing, strict=True) for i in found}))
    position = {symbol: index for index, symbol in enumerate(symbols)}
    side, score, edge, confidence, volatility = (np.full((len(symbols), len(judged)), np.nan) for _ in range(5))
    for j, (one, found) in enumerate(zip(judged, passing, strict=True)):
        at = [position[one.rows.symbols[i]] for i in found]
        side[at, j], score[at, j], edge[at, j] = one.side[found], one.score[found], one.edge[found]
        confidence[at, j] = one.rows.confidence[found]
        volatility[at, j] = one.annual_volatility[found]
    a_year = np.nanmax(volatility, axis=1) if symbols else np.empty(0)
    return _Grid(symbols, side, score, edge, confidence, a_year)


def _raw_shares(grid: _Grid, judged: Sequence[JudgedRows], limits: AllocationLimits) -> FloatArray:
    horizons = [one.rows.horizon for one in judged]
    full = np.array([limits.score_full[horizon] for horizon in horizons])
    cap = limits.symbol_cap * np.array([limits.horizon_shares[horizon] for horizon in horizons])
    return np.asarray(np.nan_to_num(grid.side * np.clip(grid.score / full, limits.size_min, 1.0) * cap, nan=0.0))


def _targets(grid: _Grid, judged: Sequence[JudgedRows], units: npt.NDArray[np.int64]) -> tuple[TargetWeight, ...]:
    score, edge, confidence = grid.score.tolist(), grid.edge.tolist(), grid.confidence.tolist()
    targets: list[TargetWeight] = []
    for i, row in enumerate(units.tolist()):
        shares = tuple(
            Share(one.rows.horizon, one.rows.bucket, unit / _UNITS, score[i][j], edge[i][j], confidence[i][j])
            for j, (unit, one) in enumerate(zip(row, judged, strict=True))
            if unit
        )
        if shares:
            dominant = max(shares, key=lambda share: abs(share.weight)).horizon
            targets.append(TargetWeight(grid.symbols[i], sum(row) / _UNITS, dominant, shares))
    return tuple(targets)


def _turned_away(
    grid: _Grid,
    judged: Sequence[JudgedRows],
    after_buckets: FloatArray,
    after_clusters: FloatArray,
    units: npt.NDArray[np.int64],
) -> list[tuple[str, str]]:
    """Return (reason, pair) of each pair that passed its thresholds and still got nothing."""
    found: list[tuple[str, str]] = []
    for i, j in np.argwhere(np.isfinite(grid.score) & (units == 0)).tolist():
        if after_buckets[i, j] == 0.0:
            reason = "zero_size"
        elif after_buckets[i].sum() == 0.0:
            reason = "horizons_cancel"
        elif after_clusters[i, j] == 0.0:
            reason = "correlated"
        else:
            reason = "below_resolution"
        found.append((reason, f"{grid.symbols[i]}/{judged[j].rows.horizon}"))
    return found
