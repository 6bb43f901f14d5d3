"""`orders.paper` and `fills.paper`: what was asked of the paper venue and what it gave. No wall clock in here."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from qraft_contracts.origin import Origin


class Order(msgspec.Struct, frozen=True):
    """
    One paper order: a difference between target and position, good for the next bar.

    quantity: base asset, > 0. theoretical_price: close of the bar on which it was decided, quote currency.
    """

    SCHEMA: ClassVar[str] = "orders/1"

    order_id: str
    market: str
    symbol: str
    side: str  # buy | sell
    quantity: float
    decided_at: datetime
    theoretical_price: float
    target_weight: float
    position_before: float
    policy: str  # short | long
    reason: str  # such as open, increase, reduce, close, flip
    profile: str
    origin: Origin


class Fill(msgspec.Struct, frozen=True):
    """
    One fill of a paper order on the bar after its decision.

    filled_at: end of that bar, exclusive. Prices in quote currency per base unit; fee, slippage, half_spread and
    impact as amounts of quote currency, >= 0, each a part of the distance from theoretical to fill price but for
    the fee; drift is what the market moved between decision and fill (signed, + = against us).
    """

    SCHEMA: ClassVar[str] = "fills/1"

    fill_id: str
    order_id: str
    market: str
    symbol: str
    side: str
    quantity: float
    filled_at: datetime
    theoretical_price: float
    fill_price: float
    drift: float
    half_spread: float
    slippage: float
    impact: float
    fee: float
    participation: float  # of the bar's volume
    position_after: float
    origin: Origin


def order_id(market: str, as_of: str, symbol: str) -> str:
    """Return the deterministic order id: one order a symbol and bar at most."""
    return f"orders.paper/{market}/{as_of}/{symbol}"


def fill_id(market: str, filled_at: str, symbol: str) -> str:
    """Return the deterministic fill id: one fill an order at most, on the bar that ends at filled_at."""
    return f"fills.paper/{market}/{filled_at}/{symbol}"
