"""What the kernel answers for each symbol, as small integers (numba) and as the words that journals show."""

from __future__ import annotations

from typing import Final

# Answers of decide_order. 1..5 are orders, the rest is the reason why there is none.
ORDER_NONE: Final = 0
ORDER_OPEN: Final = 1
ORDER_INCREASE: Final = 2
ORDER_REDUCE: Final = 3
ORDER_CLOSE: Final = 4
ORDER_FLIP: Final = 5
ORDER_IN_BAND: Final = 6
ORDER_BELOW_MIN_NOTIONAL: Final = 7
ORDER_NAN_PRICE: Final = 8
ORDER_NAN_TARGET: Final = 9
ORDER_NO_EQUITY: Final = 10

ORDER_REASONS: Final = (
    "none",
    "open",
    "increase",
    "reduce",
    "close",
    "flip",
    "in_band",
    "below_min_notional",
    "nan_price",
    "nan_target",
    "no_equity",
)
ORDER_KINDS: Final = frozenset({"open", "increase", "reduce", "close", "flip"})

# Answers of fill_order. From FILL_NO_BAR on, nothing was filled.
FILL_NONE: Final = 0
FILL_FULL: Final = 1
FILL_PARTIAL: Final = 2
FILL_NO_BAR: Final = 3
FILL_ZERO_VOLUME: Final = 4
FILL_NO_VOLATILITY: Final = 5
FILL_VOLUME_TOO_SMALL: Final = 6

FILL_REASONS: Final = ("none", "filled", "participation", "no_bar", "zero_volume", "no_volatility", "volume_too_small")

POLICY_SHORT: Final = 0
POLICY_LONG: Final = 1

# Base-asset quantities are whole multiples of 1e-6: floored when ordered and when capped, so that a position is
# always a multiple too and closes to exactly zero.
QUANTITY_STEPS: Final = 1e6


def is_order(code: int) -> bool:
    """Return whether an answer of decide_order is an order."""
    return ORDER_OPEN <= code <= ORDER_FLIP
