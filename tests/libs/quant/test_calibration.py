import numpy as np
import pytest
from scipy.optimize import minimize

from qraft_quant.calibration import (
    PlattScale,
    calibration_buckets,
    expected_calibration_error,
    fit_platt,
    sigmoid,
)


def test_platt_recovers_the_scale_that_made_the_outcomes():
    rng = np.random.default_rng(3)
    scores = rng.normal(0.4, 2.0, 200_000)
    happened = rng.random(scores.size) < sigmoid(0.7 * scores - 0.3)

    scale = fit_platt(scores, happened)

    assert (scale.slope, scale.intercept) == pytest.approx((0.7, -0.3), abs=0.02)


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e4])
def test_platt_is_the_minimum_that_a_general_optimizer_finds(spread):
    rng = np.random.default_rng(5)
    scores = rng.normal(0.0, 1.0, 500)
    happened = rng.random(500) < sigmoid(1.3 * scores + 0.5)
    n_up = happened.sum()
    targets = np.where(happened, (n_up + 1) / (n_up + 2), 1 / (500 - n_up + 2))

    def loss(x):
        return float(np.sum(np.logaddexp(0, x[0] * scores + x[1]) - targets * (x[0] * scores + x[1])))

    best = minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    scale = fit_platt(scores * spread, happened)

    assert scale.slope * spread == pytest.approx(best.x[0], rel=1e-5)
    assert scale.intercept == pytest.approx(best.x[1], rel=1e-5)


def test_scores_that_separate_the_classes_give_a_finite_scale():
    # Two of each: Platt's targets are 3/4 and 1/4, which the scale can reach exactly.
    scale = fit_platt(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([False, False, True, True]))

    assert scale.slope == pytest.approx(np.log(3.0), abs=1e-6)
    assert scale.intercept == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", [125, 346, 378])
def test_fit_ends_where_the_loss_is_too_coarse_to_show_the_last_steps(seed):
    """One in 130 fits of drawn scores never met the tolerance: its last step changed no bit, again and again."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.0, 1.0, 2_000)

    scale = fit_platt(scores, rng.random(2_000) < sigmoid(0.12 * scores))

    assert scale.slope == pytest.approx(0.12, abs=0.15) and abs(scale.intercept) < 0.2


def test_constant_scores_give_the_base_rate():
    scale = fit_platt(np.full(10, 3.0), np.array([True] * 7 + [False] * 3))

    targets_mean = (7 * 8 / 9 + 3 * 1 / 5) / 10
    assert scale.probability(np.array([3.0]))[0] == pytest.approx(targets_mean, abs=1e-6)


def test_sigmoid_neither_overflows_nor_loses_nan():
    values = sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4, np.nan]))

    assert values[:5] == pytest.approx([0.0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1.0])
    assert np.isnan(values[5])
    assert PlattScale().probability(np.array([0.0]))[0] == 0.5


@pytest.mark.parametrize(
    ("scores", "happened", "reason"),
    [
        ([1.0, np.nan], [True, False], "finite"),
        ([1.0, 2.0], [True, True], "both classes"),
        ([1.0, 2.0, 3.0], [True, False], "one length"),
        ([], [], "both classes"),
    ],
)
def test_unusable_scores_are_refused(scores, happened, reason):
    with pytest.raises(ValueError, match=reason):
        fit_platt(np.array(scores, dtype=float), np.array(happened, dtype=bool))


def test_buckets_count_every_forecast_once_by_hand():
    buckets = calibration_buckets(
        np.array([0.0, 0.1, 0.5, 0.6, 1.0]),
        np.array([False, True, True, False, True]),
        edges=np.array([0.0, 0.5, 0.9, 1.0]),
    )

    assert [(b.n, b.predicted_mean, b.observed_frac) for b in buckets] == [
        (2, pytest.approx(0.05), 0.5),
        (2, pytest.approx(0.55), 0.5),
        (1, 1.0, 1.0),
    ]
    assert expected_calibration_error(buckets) == pytest.approx((2 * 0.45 + 2 * 0.05 + 0.0) / 5)


def test_empty_bucket_has_no_frequency_and_no_weight():
    buckets = calibration_buckets(np.array([0.2]), np.array([True]), edges=np.array([0.0, 0.5, 1.0]))

    assert buckets[1].n == 0 and np.isnan(buckets[1].observed_frac)
    assert expected_calibration_error(buckets) == pytest.approx(0.8)
    assert np.isnan(expected_calibration_error(()))


def test_forecast_outside_the_buckets_is_refused():
    with pytest.raises(ValueError, match="forecasts"):
        calibration_buckets(np.array([np.nan]), np.array([True]), edges=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="increasing"):
        calibration_buckets(np.array([0.5]), np.array([True]), edges=np.array([1.0, 0.0]))
