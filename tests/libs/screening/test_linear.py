"""Linear models: noise rarely beats the training mean, whatever its shape; what foretells does."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.libs.screening.market import DAY_BARS, closes, panel_of

from qraft_screening.linear import ModelFit, fit_models
from qraft_screening.thresholds import Thresholds

N_SEEDS = 40
N_DAYS = 42
# Rows are thinned to a quarter of it: 12 bars apart.
HORIZON = 48
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def fits_of(
    seed: int, *, x: Draw, y: Draw, strength: float = 0.0, n_days: int = N_DAYS, horizon_bars: int = HORIZON
) -> tuple[ModelFit, ...]:
    rng = np.random.default_rng(seed)
    close = closes(n_days, seed=seed, n_symbols=1)
    feature = x(rng, close.shape)
    label = y(rng, close.shape) + strength * feature
    return fit_models(
        panel_of(close, {"x": feature}), [0], label, horizon_bars=horizon_bars, thresholds=Thresholds()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.random.Generator.standard_normal, np.random.Generator.standard_normal),
        (np.random.Generator.standard_exponential, lambda rng, shape: -rng.standard_exponential(shape)),
    ],
    ids=["symmetric", "skewed"],
)
def test_independent_noise_beats_the_mean_in_one_window_of_twenty(x, y):
    beats = np.array([[fit.beats_the_mean for fit in fits_of(seed, x=x, y=y)] for seed in range(N_SEEDS)])

    assert (beats.sum(axis=0) <= 5).all(), beats.sum(axis=0)  # 5 % of 40 are 2; above 5 has a chance of 1 %


def test_skewed_feature_is_no_intercept_of_a_skewed_label():
    def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return rng.lognormal(sigma=1.5, size=shape)

    # 12,096 rows: squashed but not centered, one side's mean foretells the other's.
    fits = [fit for seed in range(4) for fit in fits_of(seed, x=skewed, y=lambda *it: -skewed(*it), horizon_bars=4)]

    assert sum(fit.beats_the_mean for fit in fits) <= 2
    assert max(fit.r2 for fit in fits) < 1e-3


def test_feature_that_foretells_beats_the_mean():
    for fit in fits_of(1, x=np.random.Generator.standard_normal, y=np.random.Generator.standard_normal, strength=0.3):
        assert fit.beats_the_mean and min(fit.r2_of_folds) > 0.0 and fit.gain.t > 3.0
        assert fit.coefficients[0] > 0.0 and fit.fold_share[0] == 1.0


def test_too_few_days_of_unseen_rows_are_no_proof():
    normal = np.random.Generator.standard_normal

    for fit in fits_of(1, x=normal, y=normal, strength=1.0, n_days=30):  # 18 days behind the first training part
        assert fit.r2 > 0.1 and not fit.gain.is_known and not fit.beats_the_mean


def test_unseen_rows_of_a_fold_do_not_choose_its_penalty():
    last = round(0.85 * N_DAYS * DAY_BARS)  # where the test part of the last of four folds begins

    def feature(_: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return np.random.default_rng(1_003).standard_normal(shape)

    def against_at_last(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        label = rng.standard_normal(shape)
        label[last:] -= 5.0 * feature(rng, shape)[last:]
        return label

    steady = fits_of(3, x=feature, y=np.random.Generator.standard_normal, strength=0.3)
    turned = fits_of(3, x=feature, y=against_at_last, strength=0.3)

    for fit, other in zip(steady, turned, strict=True):
        assert min(fit.r2_of_folds) > 0.0 and other.r2_of_folds[:3] == fit.r2_of_folds[:3]
        assert other.r2_of_folds[3] < 0.0 and other.penalty_frac > fit.penalty_frac
