"""Positions, cash and PnL: by hand, as a property of any history, and rebuilt from the journal alone."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.svc_execution.kit import SYMBOLS, make_bar, make_targets, walk

from qraft_quant.costs import CostModel
from qraft_quant.execution import fill_rates
from svc_execution.domain.account import apply_fills, open_account, signed_quantity
from svc_execution.domain.closes import CloseWindow, valid_closes
from svc_execution.domain.decide import OrderRules, decide_targets, hold
from svc_execution.domain.rebuild import RebuildMismatch, rebuild
from svc_execution.domain.refusals import VenueLimits
from svc_execution.domain.state import KillSwitch, State
from svc_execution.domain.trade import trade_bar

RATES = fill_rates(CostModel())
RULES = OrderRules(band=0.01, min_notional=10.0, venue=VenueLimits(symbol_cap=0.2, gross_max=1.0))
OFF = KillSwitch(engaged=False)
CASH = 1_000_000.0


class Play:
    """The pure fold, with everything it records."""

    def __init__(self) -> None:
        self.state = State("crypto", "5m", open_account(CASH))
        self.window = CloseWindow()
        self.window.load((), np.empty((0, 0)), last_index=-1)
        self.fills, self.marks, self.orders, self.expiries = [], [], [], []

    def bar(self, i, closes, **changes):
        bar = make_bar(i, closes, **changes)
        self.window.push(i, bar.symbols, valid_closes(bar.open, bar.close, bar.volume))
        self.state, record = trade_bar(self.state, bar, rates=RATES, sha256="x")
        self.fills += record.fills
        self.expiries += record.expiries
        self.marks.append(record.mark)
        return record

    def targets(self, i, weights, **changes):
        self.state, record = decide_targets(
            self.state, self.window, make_targets(i, weights, **changes), kill_switch=OFF, rules=RULES, sha256="x"
        )
        self.orders += [open_order.order for open_order in record.orders]
        return record


def warmed_up(closes=None):
    play = Play()
    for i in range(14):
        play.bar(i, closes or {"AAA": 100.0 + i % 2})
        if i < 13:
            play.state, _ = hold(play.state, reason="warm-up")
    return play


def test_order_of_one_bar_is_filled_on_the_next_and_the_numbers_add_up():
    play = warmed_up()  # last close 101

    record = play.targets(13, {"AAA": 0.1})
    order = record.orders[0].order
    assert (order.side, order.quantity, order.theoretical_price) == ("buy", 990.099009, 101.0)
    assert order.order_id == "orders.paper/crypto/2025-06-01T01:05:00Z/AAA"

    fill = play.bar(14, {"AAA": 103.0}, opens={"AAA": 102.0}).fills[0]

    account = play.state.account
    assert fill.fill_id == "fills.paper/crypto/2025-06-01T01:10:00Z/AAA"
    assert fill.order_id == order.order_id
    assert fill.drift == pytest.approx(990.099009)  # the open was 1 above the close on which it was decided
    assert fill.fill_price > 102.0 * 1.0019
    assert account.cash == CASH - 990.099009 * fill.fill_price - fill.fee
    assert account.equity == account.cash + 990.099009 * 103.0
    assert account.positions["AAA"].average_price == fill.fill_price
    assert fill.position_after == 990.099009


def test_average_price_follows_increase_reduce_flip_and_close():
    play = warmed_up()
    seen = []
    for i, weight in enumerate((0.1, 0.2, 0.1, -0.1, 0.0), start=13):
        play.targets(i, {"AAA": weight} if weight else {})
        play.bar(i + 1, {"AAA": 101.0})
        position = play.state.account.positions.get("AAA")
        seen.append((position.quantity, position.average_price) if position else None)
    prices = [fill.fill_price for fill in play.fills]
    quantities = [signed_quantity(fill) for fill in play.fills]

    assert [order.reason for order in play.orders] == ["open", "increase", "reduce", "flip", "close"]
    assert seen[0][1] == prices[0]
    assert seen[1][1] == pytest.approx(
        (prices[0] * quantities[0] + prices[1] * quantities[1]) / (quantities[0] + quantities[1])
    )
    assert seen[2][1] == seen[1][1]
    assert seen[3][1] == prices[3]
    assert seen[3][0] < 0.0
    assert seen[4] is None
    assert play.state.account.equity == play.state.account.cash


def test_position_without_a_bar_is_marked_at_its_last_known_close_and_its_order_expires():
    play = warmed_up({"AAA": 100.0, "BBB": 50.0})
    play.targets(13, {"AAA": 0.1})
    play.bar(14, {"AAA": 110.0, "BBB": 50.0})
    play.targets(14, {})

    record = play.bar(15, {"BBB": 50.0})

    assert [(e.reason, e.symbol) for e in record.expiries] == [("no_bar", "AAA")]
    assert record.fills == ()
    assert play.state.account.positions["AAA"].close == 110.0
    assert play.state.open_orders == ()


def test_zero_volume_fills_nothing_and_thin_volume_fills_a_part():
    play = warmed_up()
    play.targets(13, {"AAA": 0.1})
    empty = play.bar(14, {"AAA": 101.0}, volumes={"AAA": 0.0})
    play.targets(14, {"AAA": 0.1})
    thin = play.bar(15, {"AAA": 101.0}, volumes={"AAA": 100.0})

    assert [e.reason for e in empty.expiries] == ["zero_volume"]
    assert thin.fills[0].quantity == pytest.approx(35.0, abs=1e-6)
    assert [e.reason for e in thin.expiries] == ["participation"]
    assert thin.expiries[0].quantity + thin.fills[0].quantity == pytest.approx(play.orders[1].quantity)


def test_order_does_not_outlive_a_gap_of_the_whole_market():
    play = warmed_up()
    play.targets(13, {"AAA": 0.1})
    bar = make_bar(20, {"AAA": 101.0})

    _, record = trade_bar(play.state, bar, rates=RATES, sha256="x")

    assert record.fills == ()
    assert [e.reason for e in record.expiries] == ["no_bar"]


WEIGHTS = st.dictionaries(st.sampled_from(SYMBOLS), st.floats(-0.2, 0.2, allow_nan=False), max_size=3)
STEPS = st.lists(
    st.tuples(WEIGHTS, st.sampled_from(["short", "long"]), st.booleans(), st.sampled_from([0.0, 20.0, 1e6])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_any_history_conserves_cash_and_is_rebuilt_bit_for_bit(steps, seed):
    closes = walk(15 + len(steps), seed=seed)
    play = Play()
    for i in range(14):
        play.bar(i, closes[i])
        if i < 13:
            play.state, _ = hold(play.state, reason="warm-up")
    for i, (weights, policy, is_missing, volume) in enumerate(steps, start=13):
        weights = {s: w for s, w in weights.items() if w != 0.0}
        play.targets(i, weights, policy=policy)
        there = {s: p for s, p in closes[i + 1].items() if not (is_missing and s == "BBB")}
        play.bar(i + 1, there, volumes={"AAA": volume})

    account = play.state.account
    spent = math.fsum(signed_quantity(f) * f.fill_price + f.fee for f in play.fills)
    assert account.cash == pytest.approx(CASH - spent, rel=1e-12)
    value = math.fsum(p.quantity * p.close for p in account.positions.values())
    assert account.equity == pytest.approx(account.cash + value, rel=1e-12)
    assert account.peak == max(CASH, *(mark.account.equity for mark in play.marks))
    answered = {f.order_id for f in play.fills} | {e.order_id for e in play.expiries}
    assert answered == {order.order_id for order in play.orders}
    held = {symbol: position.quantity for symbol, position in account.positions.items()}
    for symbol in SYMBOLS:
        total = sum(round(signed_quantity(f) * 1e6) for f in play.fills if f.symbol == symbol)
        assert round(held.get(symbol, 0.0) * 1e6) == total
    assert rebuild(CASH, play.fills, play.marks) == account
    assert msgspec.json.encode(rebuild(CASH, play.fills, play.marks)) == msgspec.json.encode(account)


@pytest.mark.parametrize("field", ["quantity", "fill_price", "fee", "position_after", "slippage"])
def test_a_changed_fill_is_found(field):
    play = warmed_up()
    play.targets(13, {"AAA": 0.1})
    play.bar(14, {"AAA": 101.0})
    fill = play.fills[0]
    # One step of the quantity grid, one ulp of anything else.
    value = fill.quantity + 1e-6 if field == "quantity" else math.nextafter(getattr(fill, field), math.inf)
    changed = msgspec.structs.replace(fill, **{field: value})

    with pytest.raises(RebuildMismatch):
        rebuild(CASH, [changed], play.marks)


def test_a_missing_or_foreign_row_is_found():
    play = warmed_up()
    play.targets(13, {"AAA": 0.1})
    play.bar(14, {"AAA": 101.0})
    mark = play.marks[-1]

    for fills, marks in (
        ([], play.marks),
        (play.fills, play.marks[:-1]),
        (play.fills, [*play.marks[:-1], replace(mark, account=replace(mark.account, cash=mark.account.cash + 1e-6))]),
    ):
        with pytest.raises(RebuildMismatch):
            rebuild(CASH, fills, marks)


def test_fills_are_applied_in_their_order():
    play = warmed_up()
    play.targets(13, {"AAA": 0.1})
    play.bar(14, {"AAA": 101.0})

    assert apply_fills(open_account(CASH), tuple(play.fills)).cash == play.state.account.cash
