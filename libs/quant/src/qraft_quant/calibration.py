"""Probabilities that mean what they say: Platt scaling of scores, and a table that shows how far they are off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Newton converges in under 10 steps on any data with both classes; the bound only stops a defect.
_N_STEPS_MAX: Final = 100
_GRADIENT_TOLERANCE: Final = 1e-10


@dataclass(frozen=True, slots=True)
class PlattScale:
    """p = 1 / (1 + exp(-(slope * score + intercept))). The identity (1, 0) takes the score as log-odds."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, scores: FloatArray) -> FloatArray:
        """Return the probability of each score, any shape; NaN stays NaN."""
        return sigmoid(self.slope * scores + self.intercept)


@dataclass(frozen=True, slots=True)
class CalibrationBucket:
    """One row of a reliability table: forecasts in [lower, upper), their mean, and how often the event came."""

    lower: float
    upper: float
    n: int
    predicted_mean: float
    observed_frac: float


def sigmoid(log_odds: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0.0, 1.0, small) / (1.0 + small)


def fit_platt(scores: FloatArray, happened: BoolArray) -> PlattScale:
    """
    Fit the Platt scale of out-of-fold scores by Newton's method.

    Scores that were made by a model trained on the same rows are too sure of themselves; pass out-of-fold ones.

    Args:
        scores: (n,), finite, higher = likelier.
        happened: (n,).

    Raises:
        ValueError: if shapes differ, a score is not finite, or one of the two classes is missing.

    Source:
        Platt (1999), Probabilistic Outputs for Support Vector Machines, with its smoothed targets; minimization as in
        Lin, Lin and Weng (2007), A Note on Platt's Probabilistic Outputs, algorithm 1.
    """
    if scores.ndim != 1 or scores.shape != happened.shape:
        raise ValueError(f"expected two vectors of one length, received {scores.shape} and {happened.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("expected finite scores: drop rows without a score before calibrating")
    n_up = int(np.count_nonzero(happened))
    n_down = happened.size - n_up
    if n_up == 0 or n_down == 0:
        raise ValueError(f"expected both classes, received {n_up} that happened and {n_down} that did not")
    targets = np.where(happened, (n_up + 1.0) / (n_up + 2.0), 1.0 / (n_down + 2.0))
    # Standardized scores keep the Hessian well conditioned whatever the scale of the model.
    center, spread = float(scores.mean()), float(scores.std()) or 1.0
    slope, intercept = _newton((scores - center) / spread, targets, start=float(np.log((n_up + 1) / (n_down + 1))))
    return PlattScale(slope / spread, intercept - slope * center / spread)


def _newton(scores: FloatArray, targets: FloatArray, *, start: float) -> tuple[float, float]:
    slope, intercept = 0.0, start
    loss = _log_loss(scores, targets, slope, intercept)
    for _ in range(_N_STEPS_MAX):
        p = sigmoid(slope * scores + intercept)
        error, weight = p - targets, p * (1.0 - p)
        g_slope, g_intercept = float(error @ scores), float(error.sum())
        if max(abs(g_slope), abs(g_intercept)) <= _GRADIENT_TOLERANCE * scores.size:
            return slope, intercept
        # 1e-12 as in Lin et al.: keeps the Hessian positive definite when all scores are equal.
        h_ss, h_ii = float(weight @ (scores * scores)) + 1e-12, float(weight.sum()) + 1e-12
        h_si = float(weight @ scores)
        determinant = h_ss * h_ii - h_si * h_si
        d_slope = -(h_ii * g_slope - h_si * g_intercept) / determinant
        d_intercept = -(h_ss * g_intercept - h_si * g_slope) / determinant
        step, descent = 1.0, g_slope * d_slope + g_intercept * d_intercept
        while step >= 1e-10:
            new_loss = _log_loss(scores, targets, slope + step * d_slope, intercept + step * d_intercept)
            if new_loss <= loss + 1e-4 * step * descent:
                break
            step /= 2.0
        else:
            return slope, intercept  # no descent left at the precision of the loss: this is the minimum
        reached = slope + step * d_slope, intercept + step * d_intercept
        if reached == (slope, intercept):
            return reached  # nor at that of the numbers: the loss was only not seen to rise
        (slope, intercept), loss = reached, new_loss
    raise ArithmeticError(f"Platt scaling did not converge in {_N_STEPS_MAX} Newton steps")


def _log_loss(scores: FloatArray, targets: FloatArray, slope: float, intercept: float) -> float:
    log_odds = slope * scores + intercept
    # -log(sigmoid(z)) = log(1 + exp(-z)), in the form that does not overflow.
    return float(np.sum(np.logaddexp(0.0, log_odds) - targets * log_odds))


def calibration_buckets(
    probabilities: FloatArray, happened: BoolArray, *, edges: FloatArray
) -> tuple[CalibrationBucket, ...]:
    """
    Return the reliability table of forecasts over the given bucket edges.

    Args:
        probabilities: (n,), in [0, 1].
        happened: (n,).
        edges: (n_buckets + 1,), increasing; the last bucket includes its upper edge.

    Returns:
        one bucket per pair of edges; NaN means where a bucket is empty.

    Raises:
        ValueError: if the edges do not increase or do not span every forecast.
    """
    if edges.size < 2 or not (np.diff(edges) > 0.0).all():
        raise ValueError(f"expected increasing bucket edges, received {edges.tolist()}")
    if probabilities.size and not (probabilities.min() >= edges[0] and probabilities.max() <= edges[-1]):
        raise ValueError(f"expected forecasts in [{edges[0]}, {edges[-1]}], and none that is NaN")
    place = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, edges.size - 2)
    n = np.bincount(place, minlength=edges.size - 1)
    predicted = np.bincount(place, weights=probabilities, minlength=edges.size - 1)
    observed = np.bincount(place, weights=happened.astype(np.float64), minlength=edges.size - 1)
    return tuple(
        CalibrationBucket(
            lower=float(edges[k]),
            upper=float(edges[k + 1]),
            n=int(n[k]),
            predicted_mean=float(predicted[k] / n[k]) if n[k] else float("nan"),
            observed_frac=float(observed[k] / n[k]) if n[k] else float("nan"),
        )
        for k in range(edges.size - 1)
    )


def expected_calibration_error(buckets: tuple[CalibrationBucket, ...]) -> float:
    """
    Return the mean absolute gap of forecast and outcome over the buckets, weighted by their counts; NaN if empty.

    Source:
        Naeini, Cooper and Hauskrecht (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning, eq. 3.
    """
    filled = [bucket for bucket in buckets if bucket.n]
    n = sum(bucket.n for bucket in filled)
    if not n:
        return float("nan")
    return sum(bucket.n * abs(bucket.predicted_mean - bucket.observed_frac) for bucket in filled) / n
