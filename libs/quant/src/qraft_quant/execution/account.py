"""Cash and positions: what a fill changes, and what the account is worth. Sums run in array order, always."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from qraft_quant.execution.codes import QUANTITY_STEPS

FloatArray = npt.NDArray[np.float64]


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def position_after(position: float, quantity: float) -> float:
    """Return the position after a signed fill, on the grid of 1e-6: rounding never piles up over fills."""
    return float(np.rint((position + quantity) * QUANTITY_STEPS) / QUANTITY_STEPS)


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def settle_cash(cash: float, quantities: FloatArray, fill_price: FloatArray, fee: FloatArray) -> float:
    """Return the cash after fills, taken in array order; rows with quantity 0 change nothing (their price is NaN)."""
    for i in range(quantities.size):
        if quantities[i] != 0.0:
            cash -= quantities[i] * fill_price[i] + fee[i]
    return cash


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def mark_equity(cash: float, positions: FloatArray, close: FloatArray) -> float:
    """Return cash + sum(position * close) in array order; flat symbols are left out, so their close may be NaN."""
    equity = cash
    for i in range(positions.size):
        if positions[i] != 0.0:
            equity += positions[i] * close[i]
    return equity


def settle(*, cash: float, quantities: FloatArray, fill_price: FloatArray, fee: FloatArray) -> float:
    """
    Return the cash after fills.

    Args:
        cash: quote currency.
        quantities: (n_fills,), signed base asset.
        fill_price: (n_fills,), quote currency.
        fee: (n_fills,), quote currency, >= 0.
    """
    return float(settle_cash(cash, quantities, fill_price, fee))


def mark(*, cash: float, positions: FloatArray, close: FloatArray) -> float:
    """
    Return the account's equity: cash and positions at their last known close.

    NaN where a position has no known close at all; the caller treats that as a fault.

    Args:
        cash: quote currency.
        positions: (n_symbols,), signed base asset.
        close: (n_symbols,), last known close, quote currency.
    """
    return float(mark_equity(cash, positions, close))
