"""Journal rows to values and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from qraft_contracts.orders import Fill, Order
from qraft_contracts.origin import Origin
from svc_execution.domain.account import Account, CostTotals, Mark, Position
from svc_execution.domain.state import Expiry, KillSwitch, OpenOrder, Refusal

_FILL_COLUMNS = (
    "fill_id", "order_id", "symbol", "side", "quantity", "theoretical_price", "fill_price", "drift", "half_spread",
    "slippage", "impact", "fee", "participation", "position_after", "origin",
)  # fmt: skip
_ORDER_COLUMNS = (
    "order_id", "symbol", "side", "quantity", "theoretical_price", "target_weight", "position_before", "policy",
    "reason", "profile", "origin",
)  # fmt: skip
# Between the examples of one refusal, whose arrays differ in length; no symbol holds a unit separator.
_SEPARATOR = "\x1f"


def fill_columns(fills: Sequence[Fill]) -> list[list[Any]]:
    """Return the fills as one array a column, in the order of COMMIT_BAR."""
    return [[getattr(fill, name) for fill in fills] for name in _FILL_COLUMNS]


def expiry_columns(expiries: Sequence[Expiry]) -> list[list[Any]]:
    """Return the expiries as one array a column, in the order of COMMIT_BAR."""
    return [[getattr(expiry, name) for expiry in expiries] for name in ("order_id", "symbol", "quantity", "reason")]


def mark_values(mark: Mark) -> list[Any]:
    """Return the mark's values from cash to the bars message's hash, in the order of COMMIT_BAR."""
    account, totals = mark.account, mark.account.totals
    positions = account.positions
    return [
        account.cash,
        account.equity,
        account.peak,
        account.drawdown,
        account.drawdown_max,
        totals.fee,
        totals.half_spread,
        totals.slippage,
        totals.impact,
        totals.drift,
        list(positions),
        [p.quantity for p in positions.values()],
        [p.average_price for p in positions.values()],
        [p.close for p in positions.values()],
        mark.sha256,
    ]


def order_columns(orders: Sequence[OpenOrder]) -> list[list[Any]]:
    """Return the orders as one array a column, in the order of COMMIT_DECISION."""
    columns = [[getattr(open_order.order, name) for open_order in orders] for name in _ORDER_COLUMNS]
    return [*columns, [open_order.sigma_bar for open_order in orders]]


def refusal_columns(refusals: Sequence[Refusal]) -> list[list[Any]]:
    """Return the refusals as one array a column, in the order of COMMIT_DECISION."""
    return [
        [refusal.reason for refusal in refusals],
        [refusal.sha256 for refusal in refusals],
        [refusal.n for refusal in refusals],
        [_SEPARATOR.join(refusal.examples) for refusal in refusals],
    ]


def fill_of(row: asyncpg.Record) -> Fill:
    """Return the fill in a row."""
    values = {name: row[name] for name in (*_FILL_COLUMNS, "market", "filled_at")}
    return Fill(**(values | {"origin": Origin(row["origin"])}))


def open_order_of(row: asyncpg.Record) -> OpenOrder:
    """Return the order in a row."""
    values = {name: row[name] for name in (*_ORDER_COLUMNS, "market", "decided_at")}
    return OpenOrder(Order(**(values | {"origin": Origin(row["origin"])})), row["sigma_bar"])


def mark_of(row: asyncpg.Record) -> Mark:
    """Return the mark in a row."""
    held = zip(row["held_symbols"], row["held_quantities"], row["held_average_prices"], row["held_closes"], strict=True)
    account = Account(
        cash=row["cash"],
        equity=row["equity"],
        peak=row["peak"],
        drawdown=row["drawdown"],
        drawdown_max=row["drawdown_max"],
        positions={symbol: Position(quantity, average, close) for symbol, quantity, average, close in held},
        totals=CostTotals(row["fee"], row["half_spread"], row["slippage"], row["impact"], row["drift"]),
    )
    return Mark(row["market"], row["closed_at"], account, Origin(row["origin"]), row["sha256"])


def kill_switch_of(row: asyncpg.Record | None) -> KillSwitch:
    """Return the switch in a row; without a row it was never touched."""
    return KillSwitch(row["engaged"], row["actor"], row["reason"], row["at"]) if row else KillSwitch(engaged=False)
