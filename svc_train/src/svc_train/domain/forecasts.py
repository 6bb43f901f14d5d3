"""Forecasts of rows that their model never saw, and what they were worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from qraft_quant.calibration import (
    PlattScale,
    calibration_buckets,
    expected_calibration_error,
    fit_platt,
)
from qraft_quant.measures import hit_rate, rank_correlation
from svc_train.domain.heads import confidence_of
from svc_train.domain.samples import BoolArray, FloatArray, IntArray
from svc_train.domain.targets import HorizonTargets

# A 0.05 step is what the confidence thresholds (.50, .55) are told apart by.
_BUCKET_EDGES = np.linspace(0.0, 1.0, 21)
# Two parameters from fewer rows than this are noise; the raw log-odds are used as they are.
_PLATT_ROWS_MIN = 500


@dataclass(frozen=True, slots=True)
class Forecasts:
    """
    Out-of-fold forecasts of one horizon, in the order of bar, then symbol.

    bar, symbol: row and column in the panel. fold: index of the fold. gross: expected return before costs.
    score: log-odds of up. volatility: over the horizon. All (n,); values float64.
    """

    bar: IntArray
    symbol: IntArray
    fold: IntArray
    gross: FloatArray
    score: FloatArray
    volatility: FloatArray

    def at(self, values: FloatArray) -> FloatArray:
        """Return a panel's value (n_bars, n_symbols) at each forecast, (n,)."""
        picked: FloatArray = values[self.bar, self.symbol]
        return picked


class CalibrationRow(msgspec.Struct, frozen=True):
    """A confidence bucket: n forecasts, their mean, and how often the return had the sign of the forecast."""

    lower: float
    upper: float
    n: int
    confidence_mean: float
    hit_frac: float


class HorizonReport(msgspec.Struct, frozen=True):
    """
    What the out-of-fold forecasts of one horizon were worth; NaN (null in JSON) = not defined.

    n: rows with a known label; they overlap, n_independent counts spans that do not. ic: rank correlation of expected
    and realized return. bucket_correlation: rank correlation of the forecast with the return over the same span
    before it; its sign makes the bucket. Calibration is of confidences that used earlier folds only.
    """

    horizon: str
    n_bars_ahead: int
    cost: float
    bucket: str
    bucket_correlation: float
    n: int
    n_independent: int
    ic: float
    ic_by_fold: tuple[float, ...]
    hit_rate: float
    volatility_ic: float
    brier: float
    calibration_error: float
    calibration: tuple[CalibrationRow, ...]
    platt_slope: float
    platt_intercept: float


def calibrate(forecasts: Forecasts, targets: HorizonTargets, *, rows: BoolArray) -> PlattScale:
    """Fit the Platt scale on some of the forecasts with a known outcome; the identity where they are too few."""
    forward = forecasts.at(targets.forward)
    usable = rows & np.isfinite(forward)
    went_up = forward[usable] > 0.0
    if usable.sum() < _PLATT_ROWS_MIN or went_up.all() or not went_up.any():
        return PlattScale()
    return fit_platt(forecasts.score[usable], went_up)


def confidence_without_hindsight(
    forecasts: Forecasts, targets: HorizonTargets, *, test_starts: Sequence[int]
) -> FloatArray:
    """
    Return each forecast's confidence, (n,), calibrated by the folds before it only.

    A row calibrates fold k if its label ended before that fold's first test bar. The first fold has none before it
    and keeps the learner's own log-odds.
    """
    ends_at = forecasts.bar + targets.n_bars_ahead
    up = np.full(forecasts.score.shape, np.nan)
    for k, test_start in enumerate(test_starts):
        here = forecasts.fold == k
        scale = calibrate(forecasts, targets, rows=ends_at < test_start)
        up[here] = scale.probability(forecasts.score[here])
    return confidence_of(forecasts.gross, up)


def report(
    forecasts: Forecasts, targets: HorizonTargets, *, confidence: FloatArray, platt: PlattScale
) -> HorizonReport:
    """Measure a horizon's out-of-fold forecasts."""
    forward = forecasts.at(targets.forward)
    known = np.isfinite(forward)
    hit = (np.sign(forward) == np.where(forecasts.gross >= 0.0, 1.0, -1.0))[known]
    buckets = calibration_buckets(confidence[known], hit, edges=_BUCKET_EDGES)
    trailing_correlation = rank_correlation(forecasts.gross, forecasts.at(targets.trailing))
    folds = range(int(forecasts.fold.max(initial=-1)) + 1)
    n_bars = int(np.unique(forecasts.bar[known]).size)
    return HorizonReport(
        horizon=targets.horizon,
        n_bars_ahead=targets.n_bars_ahead,
        cost=targets.cost,
        bucket="mean_reversion" if trailing_correlation < 0.0 else "trend",
        bucket_correlation=trailing_correlation,
        n=int(known.sum()),
        n_independent=n_bars // targets.n_bars_ahead,
        ic=rank_correlation(forecasts.gross, forward),
        ic_by_fold=tuple(
            rank_correlation(forecasts.gross[forecasts.fold == k], forward[forecasts.fold == k]) for k in folds
        ),
        hit_rate=hit_rate(forecasts.gross, forward),
        volatility_ic=rank_correlation(np.log(forecasts.volatility), forecasts.at(targets.log_volatility)),
        brier=float(np.mean((confidence[known] - hit) ** 2)) if known.any() else float("nan"),
        calibration_error=expected_calibration_error(buckets),
        calibration=tuple(
            CalibrationRow(bucket.lower, bucket.upper, bucket.n, bucket.predicted_mean, bucket.observed_frac)
            for bucket in buckets
            if bucket.n
        ),
        platt_slope=platt.slope,
        platt_intercept=platt.intercept,
    )
