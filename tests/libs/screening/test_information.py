"""Information: rank correlations that are scipy's, errors that are statsmodels', and noise with a memory is noise."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import norm, spearmanr
from tests.libs.screening.market import DAY_BARS, FIRST_US, STEP_US, autocorrelated, closes, panel_of

from qraft_quant.labels import forward_returns
from qraft_screening.hac import BLOCKS_MIN, lag_for, long_run_variance, robust_ratio
from qraft_screening.information import Labels, blocks, months_of

HORIZON = 48


@pytest.mark.parametrize("lag_blocks", [0, 3, 12])
def test_error_is_that_of_statsmodels(lag_blocks):
    values = autocorrelated((300,), memory=0.6, seed=4) + 0.1
    fit = sm.OLS(values, np.ones(300)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lag_blocks, "use_correction": False, "kernel": "bartlett"}
    )

    own = robust_ratio(values, np.ones(300), lag_blocks)

    assert own.mean == pytest.approx(fit.params[0], rel=1e-12)
    assert own.error == pytest.approx(fit.bse[0], rel=1e-9)


def test_t_is_shrunk_to_the_fixed_b_critical_value():
    values = autocorrelated((100,), memory=0.6, seed=4) + 1.0

    few, many = robust_ratio(values, np.ones(100), 10), robust_ratio(values, np.ones(100), 0)

    # Kiefer and Vogelsang (2005), table 1, Bartlett, b = 11 / 100: 1.96 + 0.32663 + 0.00503 - 0.00071 = 2.29095.
    assert few.t == pytest.approx(few.mean / few.error * 1.96 / 2.29095, rel=1e-5)
    # A lag of 0 is a bandwidth of one block, b = 1 / 100: 1.96 + 0.02969 + 0.00004 = 1.98973.
    assert many.t == pytest.approx(many.mean / many.error * 1.96 / 1.98973, rel=1e-5)


# Kiefer and Vogelsang (2005), table 1, Bartlett: two-sided p, and the polynomial in b of its critical value.
CRITICAL = {
    0.10: (1.6449, 2.1859, 0.3142, -0.3427),
    0.05: (1.9600, 2.9694, 0.4160, -0.5324),
    0.02: (2.3263, 4.1618, 0.5368, -0.9060),
}


@pytest.mark.parametrize("nominal", CRITICAL)
@pytest.mark.parametrize(("lag_blocks", "ratio_max"), [(1, 1.1), (9, 1.2), (29, 1.75)])
def test_p_at_a_fixed_b_critical_value_is_at_least_its_own_and_little_more(lag_blocks, ratio_max, nominal):
    noise = autocorrelated((100,), memory=0.6, seed=4)
    error = robust_ratio(noise, np.ones(100), lag_blocks).error  # of deviations: a shift leaves it as it is
    critical = sum(a * ((lag_blocks + 1) / 100) ** k for k, a in enumerate(CRITICAL[nominal]))

    p = robust_ratio(noise - noise.mean() + critical * error, np.ones(100), lag_blocks).p

    assert nominal <= p <= ratio_max * nominal


def test_blocks_of_different_size_weigh_by_their_items():
    sums, counts = np.array([1.0, 9.0] * 20), np.array([1.0, 3.0] * 20)

    assert robust_ratio(sums, counts, 1).mean == pytest.approx(2.5)


def test_too_few_blocks_or_no_variation_is_unknown():
    rng = np.random.default_rng(1)

    assert not robust_ratio(rng.normal(size=BLOCKS_MIN - 1), np.ones(BLOCKS_MIN - 1), 0).is_known
    assert not robust_ratio(rng.normal(size=40), np.ones(40), 20).is_known
    assert not robust_ratio(np.ones(40), np.ones(40), 1).is_known
    assert not robust_ratio(np.zeros(40), np.zeros(40), 1).is_known


def test_lag_covers_twice_the_overlap():
    assert lag_for(100, overlap_blocks=1) == 4
    assert lag_for(100, overlap_blocks=7) == 14


def test_long_run_variance_of_a_constant_step_is_hand_checked():
    # g0 = 1, g1 = (1 - 1 - 1) / 4 of [1, 1, -1, -1] = 1/4; L = 1: 1 + 2 * 0.5 * 0.25.
    assert long_run_variance(np.array([1.0, 1.0, -1.0, -1.0]), 1) == pytest.approx(1.25)


def test_one_symbol_gives_spearmans_correlation():
    close = closes(30, seed=2, n_symbols=1)
    feature = np.random.default_rng(3).normal(size=close.shape) + 50 * np.nan_to_num(forward_returns(close, HORIZON))
    feature[100:150] = np.nan
    labels = Labels(panel_of(close, {"x": feature}), HORIZON)

    found = labels.information(feature)

    known = ~np.isnan(feature[:, 0]) & ~np.isnan(labels.returns[:, 0])
    expected = spearmanr(feature[known, 0], labels.returns[known, 0]).statistic
    assert found.ic.mean == pytest.approx(expected, abs=2e-3)  # ranks are of each side's own known rows
    assert found.by_age[0] == pytest.approx(found.ic.mean, rel=1e-9)


def test_many_symbols_are_ranked_across_each_bar():
    close = closes(25, seed=2, n_symbols=24)
    feature = np.random.default_rng(3).normal(size=close.shape) + 20 * np.nan_to_num(forward_returns(close, HORIZON))
    labels = Labels(panel_of(close, {"x": feature}), HORIZON)

    found = labels.information(feature)

    n = len(close) - HORIZON
    expected = np.mean([spearmanr(feature[t], labels.returns[t]).statistic for t in range(0, n, 40)])
    assert labels.is_cross
    assert found.ic.mean == pytest.approx(expected, abs=0.01)


def test_labels_that_reach_over_the_end_are_purged():
    close = closes(25, seed=2)

    labels = Labels(panel_of(close, {"x": close}), HORIZON)

    assert labels.block_ends.size == 25 and labels.lag_blocks == 2  # days, not bars
    assert np.isnan(labels.scores[-HORIZON:]).all()
    assert np.isfinite(labels.scores[-HORIZON - 1]).all()


def test_bar_that_ends_at_midnight_belongs_to_the_day_before():
    closed_at = FIRST_US + STEP_US * np.arange(1, 2 * DAY_BARS + 1)

    ends, number = blocks(closed_at, DAY_BARS * STEP_US)

    assert ends.size == 2 and number[DAY_BARS - 1] == 0 and number[DAY_BARS] == 1
    assert months_of(np.array([FIRST_US, FIRST_US + 1])).tolist() == ["2025-02", "2025-03"]


def test_noise_with_a_memory_is_no_information_though_naive_errors_say_so():
    robust, naive = [], []
    for seed in range(40):
        close = closes(40, seed=seed, n_symbols=2)
        noise = autocorrelated(close.shape, memory=0.99, seed=500 + seed)
        labels = Labels(panel_of(close, {"x": noise}), HORIZON, ages=(0,))
        found = labels.information(noise)
        n = float(found.daily.counts.sum())
        robust.append(found.ic.p < 0.05)
        naive.append(2 * norm.sf(abs(found.ic.mean) * n**0.5) < 0.05)

    assert np.mean(robust) <= 0.15  # 5 % and three standard errors of 40 draws
    assert np.mean(naive) > 0.5


def test_few_labels_in_a_row_leave_the_information_unknown():
    close = closes(40, seed=2)
    signal = 20 * np.nan_to_num(forward_returns(close, DAY_BARS))
    panel = panel_of(close, {"x": signal})

    assert not Labels(panel, DAY_BARS).information(signal).ic.is_known  # 40 labels of a day
    assert Labels(panel, DAY_BARS // 3).information(signal).ic.is_known
