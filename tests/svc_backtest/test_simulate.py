"""The bar loop: a hand-checked trade, the order of events, no look-ahead, the books balance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.svc_backtest.kit import BUCKETS, COSTS, SYMBOLS, prices

from qraft_quant.allocation import DEMO, STANDARD, Allocation, TargetWeight
from qraft_quant.costs import CostModel
from svc_backtest.domain.market import HorizonForecasts, Market, forecasts_by_bar, usable_market
from svc_backtest.domain.measure import measure_span, order_list
from svc_backtest.domain.simulate import Account, AccountTerms, Simulation, simulate

TERMS = AccountTerms(start_cash=1_000_000.0, band=0.01, min_notional=10.0, n_common_returns_min=84)
N_BARS, FIRST = 620, 320
DAY_START_S = 1_748_736_000  # 2025-06-01T00:00:00Z


def market_of(close: np.ndarray) -> Market:
    at_s = DAY_START_S + 300 * np.arange(1, len(close) + 1, dtype=np.int64)
    open_ = np.vstack([close[:1], close[:-1]])
    return usable_market(SYMBOLS[: close.shape[1]], at_s, open_=open_, close=close, volume=np.full(close.shape, 1e7))


def random_forecasts(market: Market, *, seed: int = 3) -> list[HorizonForecasts]:
    rng = np.random.default_rng(seed)
    n = (N_BARS - FIRST) * len(SYMBOLS)
    bar, symbol = np.divmod(np.arange(n), len(SYMBOLS))
    return [
        forecasts_by_bar(
            market,
            as_of_s=market.closed_at_s[FIRST + bar],
            symbol=symbol,
            values=np.column_stack([rng.normal(0.0, 0.02, n), rng.uniform(0.45, 0.7, n), np.full(n, 0.03)]),
            horizon=horizon,
            bucket=BUCKETS[horizon],
            cost=COSTS[horizon],
        )
        for horizon in COSTS
    ]


def run(market: Market, forecasts: list[HorizonForecasts], **changes: object) -> Simulation:
    limits = replace(DEMO, **changes)
    return simulate(
        market, forecasts, first=FIRST, limits=limits, costs=CostModel(), terms=TERMS, tell=lambda done, n: None
    )


def target(symbol: str, weight: float, dominant: str = "7d") -> Allocation:
    return Allocation((TargetWeight(symbol, weight, dominant, ()),), (), (), abs(weight), 0.0)


def test_one_order_by_hand():
    close = prices(400)
    close[398:, 0] = [100.0, 101.0]
    market = market_of(close)
    account = Account(market, costs=CostModel(), terms=TERMS)
    account.trade(398)
    account.decide(398, target(SYMBOLS[0], 0.10))

    (order,) = account.trade(399)

    # 10 % of a million at 100 is 1000 units, filled at the next open of 100, long policy: 1 bp + 10 bps + impact.
    assert (order.quantity, order.filled, order.policy, order.reason) == (1000.0, 1000.0, "long", "open")
    sigma = np.diff(np.log(close[398 - 288 : 399, 0])).std(ddof=1)
    impact = 0.142 * sigma * (1000.0 / 1e7) ** 0.6
    assert order.fill_price == pytest.approx(100.0 * (1 + 0.0001 + 0.0010 + impact))
    assert order.fee == pytest.approx(1000.0 * order.fill_price * 0.00045)
    assert account.equity == pytest.approx(1_000_000.0 + 1000.0 * (101.0 - order.fill_price) - order.fee)
    assert account.exposure() == (pytest.approx(101_000.0 / account.equity), pytest.approx(101_000.0 / account.equity))


def test_a_held_symbol_that_no_target_names_is_closed_with_the_short_policy():
    market = market_of(prices(400))
    account = Account(market, costs=CostModel(), terms=TERMS)
    account.trade(396)
    account.decide(396, target(SYMBOLS[0], -0.10, "1h"))
    account.trade(397)
    account.decide(397, Allocation((), (), (), 0.0, 0.0))

    (order,) = account.trade(398)

    assert (order.reason, order.policy, order.target_weight) == ("close", "short", 0.0)
    assert account.exposure() == (0.0, 0.0)


def test_an_order_expires_where_the_next_bar_is_missing():
    close = prices(400)
    close[399, 0] = np.nan
    market = market_of(close)
    account = Account(market, costs=CostModel(), terms=TERMS)
    account.trade(398)
    account.decide(398, target(SYMBOLS[0], 0.10))

    (order,) = account.trade(399)

    assert order.filled == 0.0 and account.equity == 1_000_000.0


def test_what_comes_later_never_changes_an_earlier_bar():
    close = prices(N_BARS)
    market = market_of(close)
    changed = close.copy()
    changed[500:] *= 1.3
    later = market_of(changed)

    whole, other = run(market, random_forecasts(market)), run(later, random_forecasts(later))

    until = 500 - FIRST
    assert np.array_equal(whole.equity[:until], other.equity[:until])
    # Decisions on bar 499 are filled on bar 500, at its open, which is the close of 499.
    early = [[o for o in one.orders if o.bar < 499] for one in (whole, other)]
    assert order_list(market, early[0]) == order_list(later, early[1]) and early[0]
    assert not np.array_equal(whole.equity, other.equity)


def test_equity_is_start_cash_plus_price_moves_minus_costs():
    close = prices(N_BARS)
    market = market_of(close)
    result = run(market, random_forecasts(market))

    # Rebuild the account from the order list alone.
    cash, held = TERMS.start_cash, np.zeros(len(SYMBOLS))
    for order in result.orders:
        if order.filled != 0.0:
            cash -= order.filled * order.fill_price + order.fee
            held[SYMBOLS.index(order.symbol)] += order.filled

    assert result.equity[-1] == pytest.approx(cash + held @ close[-1], rel=1e-9)
    assert len(result.orders) > 100 and result.gross.max() <= 1.02


def test_bars_without_forecasts_are_held_and_nothing_passing_is_flat():
    market = market_of(prices(N_BARS))
    none = [replace(one, first_row=np.minimum(one.first_row, one.first_row[500])) for one in random_forecasts(market)]

    held = run(market, none)
    flat = run(market, random_forecasts(market), score_min=dict.fromkeys(COSTS, 1e6))

    assert held.is_held.sum() == N_BARS - 500 and not held.is_held[:180].any()
    assert max(order.bar for order in held.orders) < 500
    assert flat.orders == [] and not flat.is_held.any() and (flat.equity == TERMS.start_cash).all()


def test_standard_limits_hold_in_every_bar():
    market = market_of(prices(N_BARS))
    result = run(market, random_forecasts(market), score_min=STANDARD.score_min)

    assert all(abs(order.target_weight) <= 0.20 for order in result.orders)


def test_measured_numbers_of_a_known_curve():
    close = np.full((2 * 288 + 1, 1), 100.0)
    at_s = DAY_START_S + 300 * np.arange(0, len(close), dtype=np.int64)
    market = usable_market(("A",), at_s, open_=close, close=close, volume=close)
    equity = np.concatenate([[100.0], np.full(288, 110.0), np.full(288, 99.0)])
    known = Simulation(
        first=0,
        equity=equity,
        gross=np.full(equity.size, 0.5),
        net=np.zeros(equity.size),
        is_held=np.zeros(equity.size, np.bool_),
        n_passed=np.zeros(equity.size, np.int64),
    )

    span = measure_span("whole", market, known, start=0, end=equity.size, start_cash=100.0)

    # Daily returns + 10 % and - 10 %: mean 0.
    assert (span.total_return, span.n_observations, span.sharpe) == (
        pytest.approx(-0.01),
        2,
        pytest.approx(0.0, abs=1e-12),
    )
    assert span.max_drawdown == pytest.approx(0.10) and span.market_return == 0.0
    assert (span.n_orders, span.turnover, span.fee, span.gross_mean) == (0, 0.0, 0.0, 0.5)


def test_forecasts_off_the_grid_or_twice_are_refused():
    market = market_of(prices(10))
    values = np.ones((2, 3))
    terms = {"horizon": "1h", "bucket": "trend", "cost": 0.0, "symbol": np.zeros(2, np.int64), "values": values}
    with pytest.raises(ValueError, match="grid"):
        forecasts_by_bar(market, as_of_s=market.closed_at_s[:2] + 1, **terms)
    with pytest.raises(ValueError, match="several"):
        forecasts_by_bar(market, as_of_s=market.closed_at_s[[3, 3]], **terms)
