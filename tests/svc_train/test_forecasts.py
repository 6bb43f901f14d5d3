import numpy as np
import pytest

from qraft_quant.calibration import PlattScale, sigmoid
from svc_train.domain.forecasts import Forecasts, calibrate, confidence_without_hindsight, report
from svc_train.domain.targets import make_targets

N_BARS, H = 6_000, 12


@pytest.fixture
def targets():
    steps = np.random.default_rng(4).normal(0.0, 0.01, (N_BARS, 2))
    return make_targets(np.exp(np.cumsum(steps, axis=0)), horizon="1h", n_bars_ahead=H, cost=0.0047, known_frac_min=1.0)


@pytest.fixture
def forecasts(targets):
    """Three folds of 1,500 bars; scores three times too sure of themselves."""
    bar, symbol = (grid.ravel() for grid in np.meshgrid(np.arange(1_500, N_BARS), np.arange(2), indexing="ij"))
    rng = np.random.default_rng(5)
    forward = np.nan_to_num(targets.forward[bar, symbol])
    gross = forward * 0.3 + rng.normal(0, 0.03, bar.size)
    return Forecasts(bar, symbol, (bar - 1_500) // 1_500, gross, 3.0 * gross / 0.03, np.full(bar.size, 0.03))


def test_confidence_of_a_fold_uses_earlier_folds_only(forecasts, targets):
    starts = [1_500, 3_000, 4_500]
    confidence = confidence_without_hindsight(forecasts, targets, test_starts=starts)
    reversed_end = targets.forward.copy()
    reversed_end[3_000:] *= -1.0
    object.__setattr__(targets, "forward", reversed_end)
    again = confidence_without_hindsight(forecasts, targets, test_starts=starts)

    unaffected = forecasts.fold <= 1
    assert np.array_equal(confidence[unaffected], again[unaffected])
    assert (confidence[~unaffected] != again[~unaffected]).any()


def test_rows_whose_label_ends_in_the_fold_do_not_calibrate_it(forecasts, targets):
    starts = [1_500, 3_000, 4_500]
    confidence = confidence_without_hindsight(forecasts, targets, test_starts=starts)
    changed = targets.forward.copy()
    changed[3_000 - H : 3_000] *= -1.0
    object.__setattr__(targets, "forward", changed)

    again = confidence_without_hindsight(forecasts, targets, test_starts=starts)

    assert np.array_equal(confidence[forecasts.fold == 1], again[forecasts.fold == 1])
    assert (confidence[forecasts.fold == 2] != again[forecasts.fold == 2]).any()


def test_first_fold_keeps_the_learners_own_odds(forecasts, targets):
    confidence = confidence_without_hindsight(forecasts, targets, test_starts=[1_500, 3_000, 4_500])

    first = forecasts.fold == 0
    up = sigmoid(forecasts.score[first])
    assert np.array_equal(confidence[first], np.where(forecasts.gross[first] >= 0, up, 1 - up))


def test_calibration_tames_scores_that_are_too_sure(forecasts, targets):
    everything = np.ones(forecasts.bar.size, dtype=bool)
    platt = calibrate(forecasts, targets, rows=everything)
    own = confidence_without_hindsight(forecasts, targets, test_starts=[1_500, 3_000, 4_500])
    found = report(forecasts, targets, confidence=own, platt=platt)
    raw = sigmoid(np.abs(forecasts.score))
    unsure = report(forecasts, targets, confidence=raw, platt=PlattScale())

    assert 0.0 < platt.slope < 0.9
    assert found.calibration_error < unsure.calibration_error
    assert found.n == 2 * (N_BARS - 1_500 - H) and found.n_independent == (N_BARS - 1_500 - H) // H
    assert found.ic > 0.1 and len(found.ic_by_fold) == 3


def test_too_few_outcomes_leave_the_odds_as_they_are(forecasts, targets):
    few = np.zeros(forecasts.bar.size, dtype=bool)
    few[:499] = True

    assert calibrate(forecasts, targets, rows=few) == PlattScale()


@pytest.mark.parametrize(("sign", "bucket"), [(1.0, "trend"), (-1.0, "mean_reversion")])
def test_bucket_is_the_side_that_the_forecast_takes_of_the_past_return(forecasts, targets, sign, bucket):
    follows = np.nan_to_num(targets.trailing[forecasts.bar, forecasts.symbol]) * sign
    own = Forecasts(forecasts.bar, forecasts.symbol, forecasts.fold, follows, forecasts.score, forecasts.volatility)

    found = report(own, targets, confidence=np.full(follows.size, 0.5), platt=PlattScale())

    assert found.bucket == bucket
    assert found.bucket_correlation == pytest.approx(sign, abs=1e-9)
