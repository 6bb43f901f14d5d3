import numpy as np
import pytest

from qraft_quant.labels import forward_returns, net_labels, realized_volatility, trailing_returns


@pytest.fixture
def close():
    steps = np.random.default_rng(7).normal(0.0, 0.01, (60, 2))
    return 100.0 * np.exp(np.cumsum(steps, axis=0))


def test_forward_return_by_hand():
    close = np.array([[100.0], [110.0], [99.0], [np.nan], [121.0]])

    assert forward_returns(close, 1)[:, 0] == pytest.approx([0.1, -0.1, np.nan, np.nan, np.nan], nan_ok=True)
    assert forward_returns(close, 2)[:, 0] == pytest.approx([-0.01, np.nan, 22 / 99, np.nan, np.nan], nan_ok=True)
    assert net_labels(close, 1, cost=0.0047)[0, 0] == pytest.approx(0.0953)


def test_trailing_return_is_the_forward_return_seen_from_its_end(close):
    assert np.array_equal(trailing_returns(close, 5)[5:], forward_returns(close, 5)[:-5])
    assert np.isnan(trailing_returns(close, 5)[:5]).all()


@pytest.mark.parametrize("h", [1, 3, 12])
def test_labels_use_nothing_past_their_horizon_and_something_at_its_end(close, h):
    changed = close.copy()
    changed[30:] *= 1.5

    for label in (forward_returns, realized_volatility):
        before, after = label(close, h), label(changed, h)
        assert np.array_equal(before[: 30 - h], after[: 30 - h])
        assert (before[30 - h] != after[30 - h]).all()


@pytest.mark.parametrize("h", [1, 3, 12])
def test_forward_labels_use_nothing_before_their_row(close, h):
    changed = close.copy()
    changed[:30] *= 1.5

    assert np.array_equal(forward_returns(close, h)[30:], forward_returns(changed, h)[30:], equal_nan=True)
    assert realized_volatility(changed, h)[30:] == pytest.approx(realized_volatility(close, h)[30:], nan_ok=True)


def test_realized_volatility_by_hand():
    close = np.exp(np.array([[0.0], [0.03], [-0.01], [-0.01]]))

    assert realized_volatility(close, 2)[:, 0] == pytest.approx([0.05, 0.04, np.nan, np.nan], nan_ok=True)


def test_realized_volatility_of_a_flat_price_is_zero_not_nan():
    close = np.concatenate([np.linspace(1.0, 9.0, 50), np.full(20, 9.0)])[:, None]

    assert (realized_volatility(close, 5)[52:65] == 0.0).all()


def test_missing_bar_voids_the_volatility_unless_enough_of_it_is_known(close):
    close[20, 0] = np.nan

    strict, lenient = realized_volatility(close, 10), realized_volatility(close, 10, known_frac_min=0.8)

    assert np.isnan(strict[11:20, 0]).all() and np.isfinite(strict[:10, 0]).all()
    assert np.isfinite(lenient[:50]).all()
    assert np.array_equal(strict[:, 1], lenient[:, 1], equal_nan=True)
    known = np.delete(np.diff(np.log(close[15:26, 0])), [4, 5])
    assert lenient[15, 0] == pytest.approx(np.sqrt(np.sum(known**2) * 10 / 8))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_impossible_close_counts_as_missing(bad):
    close = np.array([[1.0], [bad], [2.0]])

    assert np.isnan(forward_returns(close, 1)).all()
    assert forward_returns(close, 2)[0, 0] == 1.0


@pytest.mark.parametrize("n_bars", [0, 1, 5])
def test_history_shorter_than_the_horizon_has_no_label(n_bars):
    assert np.isnan(forward_returns(np.ones((n_bars, 2)), 5)).all()
    assert np.isnan(realized_volatility(np.ones((n_bars, 2)), 5)).all()
    assert forward_returns(np.ones((n_bars, 2)), 5).shape == (n_bars, 2)


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="horizon_bars"):
        forward_returns(np.ones((3, 1)), 0)
    with pytest.raises(ValueError, match="cost"):
        net_labels(np.ones((3, 1)), 1, cost=-0.1)
    with pytest.raises(ValueError, match="known_frac_min"):
        realized_volatility(np.ones((3, 1)), 1, known_frac_min=0.0)
