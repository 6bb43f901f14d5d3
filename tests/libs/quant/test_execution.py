"""The execution kernel: hand-checked numbers, conservation of cash, and one answer however it is called."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qraft_quant.costs import CostModel
from qraft_quant.execution import (
    FILL_REASONS,
    N_BARS_VOLATILITY,
    ORDER_REASONS,
    POLICY_LONG,
    POLICY_SHORT,
    bar_volatility,
    decide_order,
    decide_orders,
    fill_order,
    fill_orders,
    fill_rates,
    mark,
    position_after,
    settle,
)

RATES = fill_rates(CostModel())


def decide(target: float, position: float, close: float = 100.0, *, valid: bool = True, equity: float = 1e6):
    answer = decide_orders(
        target_weights=np.array([target]),
        positions=np.array([position]),
        close=np.array([close]),
        valid=np.array([valid]),
        equity=equity,
        band=0.01,
        min_notional=10.0,
    )
    return float(answer.quantities[0]), ORDER_REASONS[answer.codes[0]]


def fill(quantity: float, *, policy: int = POLICY_SHORT, price: float = 100.0, volume: float = 1e6, **other):
    given_ = {"theoretical_price": 99.0, "is_valid": True, "sigma_bar": 0.01} | other
    return fill_orders(
        quantities=np.array([quantity]),
        policies=np.array([policy], np.int8),
        theoretical_price=np.array([given_["theoretical_price"]]),
        open_price=np.array([price]),
        volume=np.array([volume]),
        valid=np.array([given_["is_valid"]]),
        sigma_bar=np.array([given_["sigma_bar"]]),
        rates=RATES,
    )


@pytest.mark.parametrize(
    ("target", "position", "quantity", "reason"),
    [
        (0.10, 0.0, 1000.0, "open"),  # 0.10 * 1,000,000 / 100
        (-0.10, 0.0, -1000.0, "open"),
        (0.20, 1000.0, 1000.0, "increase"),
        (-0.20, -1000.0, -1000.0, "increase"),
        (0.05, 1000.0, -500.0, "reduce"),
        (0.0, 1000.0, -1000.0, "close"),
        (0.0, -0.000001, 0.000001, "close"),  # dust is closed whatever its notional
        (-0.10, 1000.0, -2000.0, "flip"),
        (-0.001, 1000.0, -1010.0, "flip"),  # inside the band, but the side changes
        (0.0, 0.0, 0.0, "none"),
        (0.105, 1000.0, 0.0, "in_band"),
        (0.009, 0.0, 0.0, "in_band"),
        (math.nan, 1000.0, 0.0, "nan_target"),
        (math.inf, 1000.0, 0.0, "nan_target"),
    ],
)
def test_each_difference_gives_its_quantity_and_reason(target, position, quantity, reason):
    assert decide(target, position) == (pytest.approx(quantity, abs=1e-9), reason)


def test_band_is_half_open_at_its_edge():
    assert decide(0.25, 0.0, equity=1e6)[1] == "open"
    assert decide(0.010, 0.0)[1] == "open"
    assert decide(0.00999, 0.0)[1] == "in_band"


@pytest.mark.parametrize("close", [math.nan, math.inf, 0.0, -1.0])
def test_a_price_that_is_none_gives_no_order(close):
    assert decide(0.1, 0.0, close) == (0.0, "nan_price")
    assert decide(0.0, 5.0, close) == (0.0, "nan_price")


def test_a_symbol_without_a_bar_gives_no_order():
    assert decide(0.1, 0.0, valid=False) == (0.0, "nan_price")


@pytest.mark.parametrize("equity", [0.0, -5.0, math.nan, math.inf])
def test_without_equity_positions_may_only_be_closed(equity):
    assert decide(0.1, 0.0, equity=equity) == (0.0, "no_equity")
    assert decide(0.0, 3.0, equity=equity) == (-3.0, "close")


def test_an_order_below_the_smallest_notional_is_not_made():
    assert decide(0.02, 0.0, equity=400.0) == (0.0, "below_min_notional")  # 8 of 10 needed


def test_quantity_is_floored_to_six_decimals():
    quantity, _ = decide(0.1, 0.0, close=3.0, equity=1000.0)

    assert quantity == 33.333333


def test_fill_of_a_buy_matches_the_numbers_by_hand():
    # short policy: half-spread 1 bp, slippage 18 bps; q/V = 0.001, impact = 0.142 * 0.01 * 0.001 ** 0.6
    impact_frac = 0.142 * 0.01 * 0.001**0.6

    got = fill(1000.0)

    price = 100.0 * (1.0 + 0.0001 + 0.0018 + impact_frac)
    assert got.fill_price[0] == pytest.approx(price, rel=1e-15)
    assert got.quantities[0] == 1000.0
    assert got.drift[0] == pytest.approx(1000.0)  # the market moved from 99 to 100 before we could buy
    assert got.half_spread[0] == pytest.approx(10.0)
    assert got.slippage[0] == pytest.approx(180.0)
    assert got.impact[0] == pytest.approx(2.25054833, rel=1e-8)  # 100,000 * 0.00142 * 10 ** -1.8
    assert got.fee[0] == pytest.approx(1000.0 * price * 0.00045)
    assert got.participation[0] == 0.001
    assert FILL_REASONS[got.codes[0]] == "filled"


def test_fill_of_a_sell_pays_on_the_other_side_and_the_long_policy_pays_less():
    got = fill(-1000.0, policy=POLICY_LONG, sigma_bar=0.0)

    assert got.fill_price[0] == pytest.approx(100.0 * (1.0 - 0.0011))
    assert got.drift[0] == pytest.approx(-1000.0)
    assert got.slippage[0] == pytest.approx(100.0)


@pytest.mark.parametrize(("policy", "filled"), [(POLICY_SHORT, 350.0), (POLICY_LONG, 120.0)])
def test_participation_caps_the_fill_and_the_rest_expires(policy, filled):
    got = fill(1000.0, policy=policy, volume=1000.0)

    assert got.quantities[0] == pytest.approx(filled, abs=1e-6)
    assert FILL_REASONS[got.codes[0]] == "participation"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"is_valid": False}, "no_bar"),
        ({"price": math.nan}, "no_bar"),
        ({"price": 0.0}, "no_bar"),
        ({"volume": math.nan}, "no_bar"),
        ({"volume": math.inf}, "no_bar"),
        ({"volume": 0.0}, "zero_volume"),
        ({"volume": -1.0}, "zero_volume"),
        ({"volume": 1e-7}, "volume_too_small"),
        ({"sigma_bar": math.nan}, "no_volatility"),
        ({"sigma_bar": math.inf}, "no_volatility"),
    ],
)
def test_an_order_that_cannot_be_filled_expires_with_its_reason(other, reason):
    got = fill(10.0, **other)

    assert FILL_REASONS[got.codes[0]] == reason
    assert got.quantities[0] == 0.0
    assert math.isnan(got.fill_price[0])
    assert sum(part[0] for part in got[2:8]) == 0.0


FRACTION = st.floats(-0.3, 0.3, allow_nan=False)
PRICE = st.floats(1e-4, 1e5) | st.just(math.nan)
QUANTITY = st.floats(-1e6, 1e6).map(lambda q: math.floor(q * 1e6) / 1e6)
ORDER = st.tuples(
    QUANTITY,
    st.sampled_from([POLICY_SHORT, POLICY_LONG]),
    st.floats(1e-4, 1e5),
    PRICE,
    st.floats(0.0, 1e7),
    st.booleans(),
    st.floats(0.0, 0.2) | st.just(math.nan),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ORDER, min_size=1, max_size=8), st.floats(-1e6, 1e7))
def test_cash_is_conserved_part_by_part_and_the_cap_holds(orders, cash):
    columns = [np.array(column, dtype) for column, dtype in zip(zip(*orders, strict=True), "dbddd?d", strict=True)]
    quantities, policies, theoretical, open_price, volume, valid, sigma = columns

    got = fill_orders(
        quantities=quantities,
        policies=policies,
        theoretical_price=theoretical,
        open_price=open_price,
        volume=volume,
        valid=valid,
        sigma_bar=sigma,
        rates=RATES,
    )

    after = settle(cash=cash, quantities=got.quantities, fill_price=got.fill_price, fee=got.fee)
    positions = np.array([position_after(0.0, q) for q in got.quantities])
    marks = np.where(got.quantities != 0.0, theoretical, np.nan)
    equity = mark(cash=after, positions=positions, close=marks)
    parts = sum(float(np.sum(part)) for part in (got.drift, got.half_spread, got.slippage, got.impact, got.fee))
    scale = abs(cash) + float(np.sum(np.abs(got.quantities) * np.maximum(theoretical, np.nan_to_num(open_price)))) + 1
    # Marked at the theoretical price, the equity lost is exactly the sum of what the fills report.
    assert cash - equity == pytest.approx(parts, abs=1e-9 * scale)
    cap = np.where(policies == POLICY_SHORT, 0.35, 0.12) * volume
    assert np.all(np.abs(got.quantities) <= np.minimum(np.abs(quantities), cap * (1 + 1e-12)))
    assert np.all(got.quantities * quantities >= 0.0)
    assert np.all(got.quantities[(volume == 0.0) | ~valid] == 0.0)
    for i, order in enumerate(orders):
        alone = np.array(fill_order(*order, RATES))
        together = np.array([column[i] for column in got], np.float64)
        assert alone.tobytes() == together.tobytes()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(FRACTION | st.just(math.nan), QUANTITY, PRICE, st.booleans()), min_size=1, max_size=8),
    st.floats(-10.0, 1e7),
)
def test_a_symbol_decides_the_same_alone_and_among_others(rows, equity):
    weights, positions, close, valid = (np.array(column) for column in zip(*rows, strict=True))

    got = decide_orders(
        target_weights=weights, positions=positions, close=close, valid=valid, equity=equity, band=0.01,
        min_notional=10.0,
    )  # fmt: skip

    for i, row in enumerate(rows):
        assert decide_order(*row, equity, 0.01, 10.0) == (got.quantities[i], got.codes[i])
        after = position_after(positions[i], got.quantities[i])
        if ORDER_REASONS[got.codes[i]] == "close":
            assert after == 0.0
        elif got.quantities[i] != 0.0:  # an order never goes past its target
            assert abs(after * close[i]) <= max(abs(weights[i]) * equity, abs(positions[i]) * close[i]) + close[i]


def test_many_fills_leave_positions_on_the_grid():
    position = 0.0
    for _ in range(1000):
        position = position_after(position, 0.1)

    assert position == 100.0


def test_mark_leaves_out_flat_symbols_and_never_hides_an_unknown_price():
    assert mark(cash=10.0, positions=np.array([0.0, 2.0]), close=np.array([math.nan, 3.0])) == 16.0
    assert math.isnan(mark(cash=10.0, positions=np.array([1.0]), close=np.array([math.nan])))


def test_volatility_matches_numpy_and_ignores_other_symbols():
    rng = np.random.default_rng(7)
    closes = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (N_BARS_VOLATILITY + 1, 3)), axis=0))

    got = bar_volatility(closes)

    assert got == pytest.approx(np.std(np.diff(np.log(closes), axis=0), axis=0, ddof=1), rel=1e-12)
    for j in range(3):
        assert bar_volatility(closes[:, j : j + 1]).tobytes() == got[j : j + 1].tobytes()


def test_volatility_skips_returns_across_a_gap_and_is_unknown_with_too_few():
    closes = np.exp(np.arange(40.0) ** 1.5 / 1000.0)[:, None]
    with_gap = closes.copy()
    with_gap[20] = math.nan

    returns = np.diff(np.log(with_gap[:, 0]))
    assert bar_volatility(with_gap)[0] == pytest.approx(np.nanstd(returns, ddof=1), rel=1e-9)
    assert math.isnan(bar_volatility(closes[:12])[0])
    assert not math.isnan(bar_volatility(closes[:13])[0])
    assert math.isnan(bar_volatility(closes[:0])[0])
    assert bar_volatility(np.full((40, 1), 5.0))[0] == 0.0
