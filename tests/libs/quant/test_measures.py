import numpy as np
import pytest
from scipy import stats

from qraft_quant import measures


def returns_of(prices):
    prices = np.asarray(prices, dtype=float)
    return prices[1:] / prices[:-1] - 1.0


A, B, C = returns_of([1, 2, 3, 4, 5]), returns_of([5, 4, 3, 2, 1]), returns_of([1, 2, 3, 2, 1])

# Published in vectorbt's tests/test_returns.py: daily prices a, b, c; risk-free .01 a day; 365 days a year.


@pytest.mark.parametrize(("returns", "published"), [(A, 29.052280), (B, -48.065921), (C, 4.232900)])
def test_sharpe_equals_the_published_number(returns, published):
    assert measures.sharpe(returns, periods_per_year=365, risk_free=0.01) == pytest.approx(published, abs=1e-6)


@pytest.mark.parametrize(("returns", "published"), [(A, 6.417884), (B, 2.512262), (C, 13.509256)])
def test_annualized_volatility_equals_the_published_number(returns, published):
    assert measures.annualized_volatility(returns, periods_per_year=365) == pytest.approx(published, abs=1e-6)


@pytest.mark.parametrize(("returns", "published"), [(A, np.inf), (B, 0.0), (C, 1.732702)])
def test_omega_equals_the_published_number(returns, published):
    threshold = 0.01 + 1.1 ** (1 / 365) - 1  # risk-free, and the required 10 % a year

    assert measures.omega(returns, threshold=threshold) == pytest.approx(published, abs=1e-6)


@pytest.mark.parametrize(
    ("returns", "at_risk", "conditional", "ratio"),
    [(A, 0.2625, 0.25, 3.523810), (B, -0.475, -0.5, 0.436842), (C, -0.475, -0.5, 1.947368)],
)
def test_tail_measures_equal_the_published_numbers(returns, at_risk, conditional, ratio):
    assert measures.value_at_risk(returns) == pytest.approx(at_risk, abs=1e-9)
    assert measures.conditional_value_at_risk(returns) == pytest.approx(conditional, abs=1e-9)
    assert measures.tail_ratio(returns) == pytest.approx(ratio, abs=1e-6)


def test_sortino_equals_the_published_number():
    assert measures.sortino(C, periods_per_year=365, target=0.1) == pytest.approx(3.441779, abs=1e-6)
    assert measures.sortino(A, periods_per_year=365, target=0.1) == np.inf


def test_drawdown_by_hand():
    equity = np.array([100.0, 120.0, 90.0, 130.0, 104.0, 131.0])

    assert measures.drawdowns(equity) == pytest.approx([0.0, 0.0, 0.25, 0.0, 0.2, 0.0])
    assert measures.max_drawdown(equity) == 0.25
    assert measures.max_drawdown(np.empty(0)) == 0.0
    assert measures.calmar(returns_of(equity), periods_per_year=5) == pytest.approx(0.31 / 0.25)


def test_drawdown_at_a_row_does_not_see_later_rows():
    equity = np.array([1.0, 0.9, 1.1, 0.7])

    assert np.array_equal(measures.drawdowns(equity)[:3], measures.drawdowns(np.append(equity[:3], 50.0))[:3])


def test_first_loss_counts_as_a_drawdown_of_a_return_series():
    assert measures.calmar(np.array([-0.5, 0.0]), periods_per_year=2) == pytest.approx(-1.0)


def test_compounding_by_hand():
    assert measures.total_return(np.array([0.1, -0.1])) == pytest.approx(-0.01)
    assert measures.annualized_return(np.array([0.1, 0.1]), periods_per_year=1) == pytest.approx(0.1)
    assert measures.annualized_return(np.array([-1.0, 3.0]), periods_per_year=1) == -1.0
    assert measures.total_return(np.empty(0)) == 0.0


@pytest.mark.parametrize("returns", [np.empty(0), np.array([0.1]), np.full(5, 0.0)])
def test_measures_without_variation_are_not_a_number(returns):
    assert np.isnan(measures.sharpe(returns, periods_per_year=365))


def test_nan_among_returns_is_refused():
    with pytest.raises(ValueError, match="missing period"):
        measures.sharpe(np.array([0.1, np.nan]), periods_per_year=365)
    with pytest.raises(ValueError, match="starts above zero"):
        measures.max_drawdown(np.array([0.0, 1.0]))


def test_rank_correlation_equals_scipy_with_ties():
    rng = np.random.default_rng(11)
    left = rng.integers(0, 20, 500).astype(float)
    right = left + rng.normal(0, 10, 500)

    assert measures.ranks(left) == pytest.approx(stats.rankdata(left))
    assert measures.rank_correlation(left, right) == pytest.approx(stats.spearmanr(left, right)[0], abs=1e-12)
    assert measures.correlation(left, right) == pytest.approx(stats.pearsonr(left, right)[0], abs=1e-12)


def test_rank_correlation_is_invariant_under_monotone_maps_and_leaves_nan_pairs_out():
    rng = np.random.default_rng(12)
    left, right = rng.normal(size=(2, 100))
    with_hole = np.append(left, np.nan)

    assert measures.rank_correlation(np.exp(left), right) == pytest.approx(measures.rank_correlation(left, right))
    assert measures.rank_correlation(with_hole, np.append(right, 1.0)) == measures.rank_correlation(left, right)
    assert measures.rank_correlation(left, -np.exp(left)) == pytest.approx(-1.0)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_correlation_without_variation_is_not_a_number(values):
    constant = np.array(values)

    assert np.isnan(measures.correlation(constant, constant))
    assert np.isnan(measures.rank_correlation(constant, constant))


def test_hit_rate_counts_only_pairs_with_a_sign():
    forecasts, outcomes = np.array([1.0, -1.0, 1.0, 0.0, np.nan]), np.array([2.0, 1.0, 0.0, 1.0, 1.0])

    assert measures.hit_rate(forecasts, outcomes) == 0.5
    assert np.isnan(measures.hit_rate(np.zeros(2), np.ones(2)))
