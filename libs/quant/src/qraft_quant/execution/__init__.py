"""The execution kernel: target weights to orders, orders to fills, fills to equity. Backtest and live share it."""

from qraft_quant.execution.account import mark, mark_equity, position_after, settle, settle_cash
from qraft_quant.execution.codes import (
    FILL_FULL,
    FILL_PARTIAL,
    FILL_REASONS,
    ORDER_KINDS,
    ORDER_REASONS,
    POLICY_LONG,
    POLICY_SHORT,
    is_order,
)
from qraft_quant.execution.decide import Decisions, decide_order, decide_orders
from qraft_quant.execution.fill import FillRates, Fills, fill_order, fill_orders, fill_rates
from qraft_quant.execution.volatility import N_BARS_VOLATILITY, N_RETURNS_MIN, bar_volatility

__all__ = [
    "FILL_FULL",
    "FILL_PARTIAL",
    "FILL_REASONS",
    "N_BARS_VOLATILITY",
    "N_RETURNS_MIN",
    "ORDER_KINDS",
    "ORDER_REASONS",
    "POLICY_LONG",
    "POLICY_SHORT",
    "Decisions",
    "FillRates",
    "Fills",
    "bar_volatility",
    "decide_order",
    "decide_orders",
    "fill_order",
    "fill_orders",
    "fill_rates",
    "is_order",
    "mark",
    "mark_equity",
    "position_after",
    "settle",
    "settle_cash",
]
