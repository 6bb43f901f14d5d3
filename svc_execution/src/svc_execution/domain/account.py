"""The paper account as values: positions, cash and costs so far. All of it follows from the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from qraft_contracts.orders import Fill
from qraft_contracts.origin import Origin
from qraft_quant.execution import mark, position_after

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Position:
    """quantity: signed base asset, never 0. average_price: of entry. close: last known. Quote currency."""

    quantity: float
    average_price: float
    close: float


@dataclass(frozen=True, slots=True)
class CostTotals:
    """Sums over all fills, quote currency. drift is signed, + = against us."""

    fee: float = 0.0
    half_spread: float = 0.0
    slippage: float = 0.0
    impact: float = 0.0
    drift: float = 0.0

    def plus(self, fill: Fill) -> CostTotals:
        """Return the totals with one more fill."""
        return CostTotals(
            fee=self.fee + fill.fee,
            half_spread=self.half_spread + fill.half_spread,
            slippage=self.slippage + fill.slippage,
            impact=self.impact + fill.impact,
            drift=self.drift + fill.drift,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """
    Where the account stands. positions: sorted by symbol, flat symbols left out.

    peak: highest equity so far; drawdown and drawdown_max: fractions of the peak, >= 0.
    """

    cash: float
    equity: float
    peak: float
    drawdown: float = 0.0
    drawdown_max: float = 0.0
    positions: Mapping[str, Position] = field(default_factory=dict)
    totals: CostTotals = CostTotals()


@dataclass(frozen=True, slots=True)
class Mark:
    """The account at the close of one bar, as the journal keeps it. sha256: of the bars message, in hex."""

    market: str
    closed_at: datetime
    account: Account
    origin: Origin
    sha256: str


def open_account(start_cash: float) -> Account:
    """Return an account that has not traded."""
    return Account(cash=start_cash, equity=start_cash, peak=start_cash)


def signed_quantity(fill: Fill) -> float:
    """Return the fill's quantity, negative for a sale."""
    return fill.quantity if fill.side == "buy" else -fill.quantity


def apply_fills(account: Account, fills: tuple[Fill, ...]) -> Account:
    """
    Return the account after the fills, in their order; equity is stale until `mark_to_close`.

    A position opened here has its fill price as its close until then.
    """
    cash, totals, positions = account.cash, account.totals, dict(account.positions)
    for fill in fills:
        quantity = signed_quantity(fill)
        # The same operations in the same order as qraft_quant.execution.settle_cash.
        cash -= quantity * fill.fill_price + fill.fee
        totals = totals.plus(fill)
        after = _traded(positions.pop(fill.symbol, None), quantity, fill.fill_price)
        if after is not None:
            positions[fill.symbol] = after
    return replace(account, cash=cash, totals=totals, positions=dict(sorted(positions.items())))


def mark_to_close(account: Account, closes: Mapping[str, float]) -> Account:
    """Return the account at new closes; a position whose symbol is not in them stays at its last known close."""
    positions = {
        symbol: Position(position.quantity, position.average_price, closes.get(symbol, position.close))
        for symbol, position in account.positions.items()
    }
    equity = mark(
        cash=account.cash,
        positions=np.array([p.quantity for p in positions.values()], np.float64),
        close=np.array([p.close for p in positions.values()], np.float64),
    )
    assert np.isfinite(equity), f"expected a finite equity, received {equity} from {positions}"
    peak = max(account.peak, equity)
    drawdown = 1.0 - equity / peak
    return replace(
        account,
        equity=equity,
        peak=peak,
        drawdown=drawdown,
        drawdown_max=max(account.drawdown_max, drawdown),
        positions=positions,
    )


def _traded(before: Position | None, quantity: float, price: float) -> Position | None:
    """Return the position after one fill, None when flat. Reducing keeps the average price, flipping restarts it."""
    held = before.quantity if before else 0.0
    after = float(position_after(held, quantity))
    if after == 0.0:
        return None
    if before is None or held * after < 0.0:
        return Position(after, price, price)
    if abs(after) <= abs(held):
        return replace(before, quantity=after)
    average = (before.average_price * held + price * quantity) / (held + quantity)
    return Position(after, average, before.close)
