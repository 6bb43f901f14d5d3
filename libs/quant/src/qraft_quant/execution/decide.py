"""Target weights against positions: how much to trade, and why or why not."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from qraft_quant.execution.codes import (
    ORDER_BELOW_MIN_NOTIONAL,
    ORDER_CLOSE,
    ORDER_FLIP,
    ORDER_IN_BAND,
    ORDER_INCREASE,
    ORDER_NAN_PRICE,
    ORDER_NAN_TARGET,
    ORDER_NO_EQUITY,
    ORDER_NONE,
    ORDER_OPEN,
    ORDER_REDUCE,
    QUANTITY_STEPS,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.int8]


class Decisions(NamedTuple):
    """quantities: (n_symbols,), signed base asset, 0 = no order. codes: (n_symbols,), index into ORDER_REASONS."""

    quantities: FloatArray
    codes: CodeArray


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def decide_order(
    target_weight: float,
    position: float,
    close: float,
    is_valid: bool,
    equity: float,
    band: float,
    min_notional: float,
) -> tuple[float, int]:
    """Return one symbol's (signed quantity, code); the rules stand in decide_orders."""
    if math.isnan(target_weight) or math.isinf(target_weight):
        return 0.0, ORDER_NAN_TARGET
    if target_weight == 0.0 and position == 0.0:
        return 0.0, ORDER_NONE
    if not is_valid or not (0.0 < close < math.inf):
        return 0.0, ORDER_NAN_PRICE
    if target_weight == 0.0:
        return -position, ORDER_CLOSE
    if not (0.0 < equity < math.inf):
        return 0.0, ORDER_NO_EQUITY
    is_flip = target_weight * position < 0.0
    if not is_flip and abs(target_weight - position * close / equity) < band:
        return 0.0, ORDER_IN_BAND
    difference = target_weight * equity / close - position
    quantity = math.floor(abs(difference) * QUANTITY_STEPS) / QUANTITY_STEPS
    if quantity == 0.0 or quantity * close < min_notional:
        return 0.0, ORDER_BELOW_MIN_NOTIONAL
    code = ORDER_REDUCE
    if position == 0.0:
        code = ORDER_OPEN
    elif is_flip:
        code = ORDER_FLIP
    elif difference * position > 0.0:
        code = ORDER_INCREASE
    return math.copysign(quantity, difference), code


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def _decide_all(
    target_weights: FloatArray,
    positions: FloatArray,
    close: FloatArray,
    valid: BoolArray,
    equity: float,
    band: float,
    min_notional: float,
) -> tuple[FloatArray, CodeArray]:
    quantities = np.zeros(target_weights.size, np.float64)
    codes = np.zeros(target_weights.size, np.int8)
    for i in range(target_weights.size):
        quantities[i], codes[i] = decide_order(
            target_weights[i], positions[i], close[i], valid[i], equity, band, min_notional
        )
    return quantities, codes


def decide_orders(
    *,
    target_weights: FloatArray,
    positions: FloatArray,
    close: FloatArray,
    valid: BoolArray,
    equity: float,
    band: float,
    min_notional: float,
) -> Decisions:
    """
    Return what to trade on the next bar, decided at the close of this one.

    Uses this bar only. No order where |target - current weight| < band, unless the target is 0 or changes side; none
    below min_notional, but for a close, which is never kept back for its size. Quantities are floored to 1e-6. A
    symbol without a bar or with a NaN price or target has no order and says so; a symbol's answer does not depend on
    the others.

    Args:
        target_weights: (n_symbols,), signed fraction of equity, 0 = flat.
        positions: (n_symbols,), signed base asset.
        close: (n_symbols,), quote currency.
        valid: (n_symbols,), False = the symbol has no bar at this close.
        equity: quote currency.
        band: fraction of equity.
        min_notional: quote currency.
    """
    assert target_weights.shape == positions.shape == close.shape == valid.shape
    return Decisions(*_decide_all(target_weights, positions, close, valid, equity, band, min_notional))
