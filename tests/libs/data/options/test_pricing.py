"""Prices, greeks and implied volatility against published numbers and their own round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_data.options.implied import STATUS, implied_vol
from qraft_data.options.pricing import forward_of, greeks, normal_cdf, price, undiscounted_price

_CALL, _PUT = np.array([True]), np.array([False])


def _one(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float64)


def test_prices_are_those_of_hull() -> None:
    # Hull, 9th ed.: example 15.6 (4.76 and 0.81) and, on a future, the European put on crude oil of chapter 18 (1.12).
    stock = (_one(42), _one(40), _one(0.5), _one(0.2))
    future = (_one(20), _one(20), _one(4 / 12), _one(0.25))

    assert price(*stock, is_call=_CALL, rate=0.1, dividend_yield=0.0)[0] == pytest.approx(4.76, abs=0.005)
    assert price(*stock, is_call=_PUT, rate=0.1, dividend_yield=0.0)[0] == pytest.approx(0.81, abs=0.005)
    assert price(*future, is_call=_PUT, rate=0.09, dividend_yield=0.09)[0] == pytest.approx(1.12, abs=0.005)


def test_greeks_are_those_of_hull() -> None:
    # Hull, 9th ed., chapter 19: stock 49, strike 50, rate 5 %, volatility 20 %, 20 weeks.
    found = greeks(_one(49), _one(50), _one(20 / 52), _one(0.2), is_call=_CALL, rate=0.05, dividend_yield=0.0)

    published = {
        "delta": (0.522, 5e-4),
        "gamma": (0.066, 5e-4),
        "vega": (12.1, 0.05),
        "theta": (-4.31, 5e-3),
        "rho": (8.91, 5e-3),
    }
    for name, (value, tolerance) in published.items():
        assert getattr(found, name)[0] == pytest.approx(value, abs=tolerance), name


def test_implied_volatility_is_that_of_hull() -> None:
    # Hull, 9th ed., 15.11: a call of 1.875 on a stock of 21, strike 20, rate 10 %, three months: 23.5 %.
    found = implied_vol(
        _one(1.875), forward=_one(21 * np.exp(0.025)), strike=_one(20), years=_one(0.25),
        discount=_one(np.exp(-0.025)), is_call=_CALL,
    )  # fmt: skip

    assert found.vol[0] == pytest.approx(0.235, abs=5e-4)


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("dividend_yield", [0.0, 0.03])
def test_greeks_are_the_slopes_of_the_price(is_call: bool, dividend_yield: float) -> None:
    spot, strike, years, vol, rate, step = 100.0, 110.0, 0.7, 0.3, 0.04, 1e-4
    side = np.array([is_call])

    def worth(spot: float = spot, years: float = years, vol: float = vol, rate: float = rate) -> float:
        found = price(
            _one(spot), _one(strike), _one(years), _one(vol), is_call=side, rate=rate, dividend_yield=dividend_yield
        )
        return float(found[0])

    found = greeks(
        _one(spot), _one(strike), _one(years), _one(vol), is_call=side, rate=rate, dividend_yield=dividend_yield
    )

    assert found.delta[0] == pytest.approx((worth(spot=spot + step) - worth(spot=spot - step)) / (2 * step), rel=1e-6)
    curve = (worth(spot=spot + 0.01) - 2 * worth() + worth(spot=spot - 0.01)) / 0.01**2
    assert found.gamma[0] == pytest.approx(curve, rel=1e-4)
    assert found.vega[0] == pytest.approx((worth(vol=vol + step) - worth(vol=vol - step)) / (2 * step), rel=1e-6)
    assert found.theta[0] == pytest.approx(
        (worth(years=years - step) - worth(years=years + step)) / (2 * step), rel=1e-5
    )
    assert found.rho[0] == pytest.approx((worth(rate=rate + step) - worth(rate=rate - step)) / (2 * step), rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    moneyness=st.floats(-1.5, 1.5), years=st.floats(1 / 365, 3.0), vol=st.floats(0.03, 3.0),
    is_call=st.booleans(), rate=st.floats(-0.02, 0.2),
)  # fmt: skip
def test_volatility_comes_back_from_its_price(
    moneyness: float, years: float, vol: float, is_call: bool, rate: float
) -> None:
    forward, strike, side = _one(100.0), _one(100.0 * np.exp(moneyness)), np.array([is_call])
    discount = np.exp(-rate * _one(years))
    premium = discount * undiscounted_price(forward, strike, _one(vol * np.sqrt(years)), is_call=side)

    found = implied_vol(premium, forward=forward, strike=strike, years=_one(years), discount=discount, is_call=side)

    time_value = float((premium / discount - np.maximum(np.where(side, 1, -1) * (forward - strike), 0.0))[0])
    if time_value > 1e-6:  # below a millionth of a cent on 100 the price itself has no more digits
        assert STATUS[found.status[0]] == "ok"
        assert found.vol[0] == pytest.approx(vol, rel=1e-7)


@pytest.mark.parametrize(
    ("premium", "years", "status"),
    [
        (np.nan, 0.5, "no_price"), (0.0, 0.5, "no_price"), (1.0, 0.0, "expired"), (1.0, -0.1, "expired"),
        (5.0, 0.5, "below_intrinsic"), (101.0, 0.5, "above_bound"), (np.inf, 0.5, "no_price"),
    ],
)  # fmt: skip
def test_price_without_a_volatility_says_why(premium: float, years: float, status: str) -> None:
    found = implied_vol(
        _one(premium), forward=_one(100.0), strike=_one(90.0), years=_one(years), discount=_one(1.0), is_call=_CALL
    )

    assert (STATUS[found.status[0]], np.isnan(found.vol[0])) == (status, True)


def test_parity_of_calls_and_puts_holds() -> None:
    strikes = np.linspace(60.0, 160.0, 11)
    spot, years, vol = np.full(11, 100.0), np.full(11, 0.4), np.full(11, 0.35)
    terms = {"rate": 0.03, "dividend_yield": 0.01}

    call = price(spot, strikes, years, vol, is_call=np.full(11, True), **terms)
    put = price(spot, strikes, years, vol, is_call=np.full(11, False), **terms)

    forward = forward_of(spot, years=years, **terms)
    np.testing.assert_allclose(call - put, np.exp(-0.03 * 0.4) * (forward - strikes), atol=1e-12)


def test_normal_distribution_keeps_its_far_tail() -> None:
    # Abramowitz and Stegun, tables 26.1 and 26.2; digits beyond theirs by scipy 1.17.
    np.testing.assert_allclose(
        normal_cdf(np.array([0.0, 1.0, -1.0, -5.0, -10.0])),
        [0.5, 0.841344746068543, 0.158655253931457, 2.866515718791946e-07, 7.619853024160527e-24],
        rtol=1e-13,
    )
