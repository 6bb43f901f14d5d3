"""One closed bar: fill the open orders on it, then mark the account at its close."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np

from qraft_contracts.orders import Fill, Order, fill_id
from qraft_contracts.origin import worst_origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_quant.execution import (
    FILL_PARTIAL,
    FILL_REASONS,
    POLICY_LONG,
    POLICY_SHORT,
    FillRates,
    Fills,
    fill_orders,
    position_after,
)
from svc_execution.domain.account import Account, Mark, apply_fills, mark_to_close
from svc_execution.domain.closes import valid_closes
from svc_execution.domain.state import BarRecord, Expiry, OpenOrder, State

POLICY_CODES = {"short": POLICY_SHORT, "long": POLICY_LONG}


def trade_bar(state: State, bar: BarBatch, *, rates: FillRates, sha256: str) -> tuple[State, BarRecord]:
    """
    Return the state after the bar and what it adds to the journal.

    Orders are good for the grid step after their decision: on a later bar they expire as `no_bar`.
    """
    closes: list[float] = valid_closes(bar.open, bar.close, bar.volume).tolist()
    rows = {symbol: i for i, symbol in enumerate(bar.symbols) if not math.isnan(closes[i])}
    filled = _fill(state, bar, rows, rates)
    fills, expiries = _outcomes(state, bar, filled)
    held = {symbol: closes[rows[symbol]] for symbol in _held(state, fills) if symbol in rows}
    account = mark_to_close(apply_fills(state.account, fills), held)
    origin = worst_origin([bar.origin, *([state.origin] if state.origin else [])])
    mark = Mark(state.market, bar.closed_at, account, origin, sha256)
    after = replace(
        state,
        account=account,
        open_orders=(),
        last_bar_at=bar.closed_at,
        origin=origin,
        n_events=state.n_events + 1,
    )
    return after, BarRecord(mark, fills, expiries)


def _fill(state: State, bar: BarBatch, rows: dict[str, int], rates: FillRates) -> Fills:
    orders = state.open_orders
    step = timedelta(seconds=INTERVAL_SECONDS[bar.interval])
    places = [rows.get(o.order.symbol, -1) if o.order.decided_at + step == bar.closed_at else -1 for o in orders]
    index = np.array(places, np.int64)
    valid = index >= 0
    return fill_orders(
        quantities=np.array([_signed(o) for o in orders], np.float64),
        policies=np.array([POLICY_CODES[o.order.policy] for o in orders], np.int8),
        theoretical_price=np.array([o.order.theoretical_price for o in orders], np.float64),
        open_price=np.where(valid, bar.open[index], np.nan),
        volume=np.where(valid, bar.volume[index], np.nan),
        valid=valid,
        sigma_bar=np.array([o.sigma_bar for o in orders], np.float64),
        rates=rates,
    )


def _signed(open_order: OpenOrder) -> float:
    order = open_order.order
    return order.quantity if order.side == "buy" else -order.quantity


def _held(state: State, fills: tuple[Fill, ...]) -> set[str]:
    return state.account.positions.keys() | {fill.symbol for fill in fills}


def _outcomes(state: State, bar: BarBatch, filled: Fills) -> tuple[tuple[Fill, ...], tuple[Expiry, ...]]:
    fills: list[Fill] = []
    expiries: list[Expiry] = []
    closed_at = format_instant(bar.closed_at)
    # Plain numbers, row by row: indexing arrays element by element was half the time of this stage.
    rows = zip(*(column.tolist() for column in filled), strict=True)
    for open_order, (*amounts, code) in zip(state.open_orders, rows, strict=True):
        order, quantity = open_order.order, abs(amounts[0])
        if quantity > 0.0:
            fills.append(_fill_message(state.account, order, bar, closed_at, amounts))
        if quantity == 0.0 or code == FILL_PARTIAL:
            left = float(position_after(order.quantity, -quantity))
            expiries.append(Expiry(order.order_id, order.symbol, bar.closed_at, left, FILL_REASONS[code]))
    return tuple(fills), tuple(expiries)


def _fill_message(account: Account, order: Order, bar: BarBatch, closed_at: str, amounts: list[float]) -> Fill:
    """Return the fill of an order. amounts: its row of Fills, without the code."""
    quantity, fill_price, drift, half_spread, slippage, impact, fee, participation = amounts
    held = account.positions.get(order.symbol)
    return Fill(
        fill_id=fill_id(order.market, closed_at, order.symbol),
        order_id=order.order_id,
        market=order.market,
        symbol=order.symbol,
        side=order.side,
        quantity=abs(quantity),
        filled_at=bar.closed_at,
        theoretical_price=order.theoretical_price,
        fill_price=fill_price,
        drift=drift,
        half_spread=half_spread,
        slippage=slippage,
        impact=impact,
        fee=fee,
        participation=participation,
        position_after=float(position_after(held.quantity if held else 0.0, quantity)),
        origin=worst_origin([order.origin, bar.origin]),
    )
