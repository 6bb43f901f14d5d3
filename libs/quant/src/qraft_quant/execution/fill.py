"""Orders against the next bar: what the paper venue gives, and every part of what it costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from qraft_quant.costs import BPS, CostModel
from qraft_quant.execution.codes import (
    FILL_FULL,
    FILL_NO_BAR,
    FILL_NO_VOLATILITY,
    FILL_NONE,
    FILL_PARTIAL,
    FILL_VOLUME_TOO_SMALL,
    FILL_ZERO_VOLUME,
    POLICY_LONG,
    QUANTITY_STEPS,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.int8]


class FillRates(NamedTuple):
    """A CostModel in the form that the compiled loops take: fractions, not bps."""

    fee: float
    half_spread: float
    slippage_short: float
    slippage_long: float
    participation_short: float
    participation_long: float
    impact_eta: float
    impact_beta: float


class Fills(NamedTuple):
    """
    Outcome of each order; arrays (n_orders,). Amounts are quote currency.

    quantities: signed base asset, 0 = nothing filled, and then fill_price is NaN and every amount 0. drift is signed,
    + = against us; half_spread, slippage, impact and fee are >= 0. participation: fraction of the bar's volume.
    codes: index into FILL_REASONS.
    """

    quantities: FloatArray
    fill_price: FloatArray
    drift: FloatArray
    half_spread: FloatArray
    slippage: FloatArray
    impact: FloatArray
    fee: FloatArray
    participation: FloatArray
    codes: CodeArray


def fill_rates(costs: CostModel) -> FillRates:
    """Return the cost model's rates as fractions."""
    return FillRates(
        fee=costs.fee_bps * BPS,
        half_spread=costs.half_spread_bps * BPS,
        slippage_short=costs.slippage_short_bps * BPS,
        slippage_long=costs.slippage_long_bps * BPS,
        participation_short=costs.participation_short,
        participation_long=costs.participation_long,
        impact_eta=costs.impact_eta,
        impact_beta=costs.impact_beta,
    )


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def fill_order(
    quantity: float,
    policy: int,
    theoretical_price: float,
    open_price: float,
    volume: float,
    is_valid: bool,
    sigma_bar: float,
    rates: FillRates,
) -> tuple[float, float, float, float, float, float, float, float, int]:
    """Return one order's row of Fills, in the order of its fields; the rules stand in fill_orders."""
    nothing = (0.0, math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if quantity == 0.0:
        return (*nothing, FILL_NONE)
    if not is_valid or not (0.0 < open_price < math.inf) or math.isnan(volume) or math.isinf(volume):
        return (*nothing, FILL_NO_BAR)
    if volume <= 0.0:
        return (*nothing, FILL_ZERO_VOLUME)
    if not (0.0 <= sigma_bar < math.inf):
        return (*nothing, FILL_NO_VOLATILITY)
    is_long = policy == POLICY_LONG
    cap = (rates.participation_long if is_long else rates.participation_short) * volume
    asked = abs(quantity)
    filled = min(asked, math.floor(cap * QUANTITY_STEPS) / QUANTITY_STEPS)
    if filled <= 0.0:
        return (*nothing, FILL_VOLUME_TOO_SMALL)
    side = math.copysign(1.0, quantity)
    participation = filled / volume
    slippage = rates.slippage_long if is_long else rates.slippage_short
    impact = rates.impact_eta * sigma_bar * participation**rates.impact_beta
    fill_price = open_price * (1.0 + side * (rates.half_spread + slippage + impact))
    notional = filled * open_price
    return (
        side * filled,
        fill_price,
        side * (open_price - theoretical_price) * filled,
        notional * rates.half_spread,
        notional * slippage,
        notional * impact,
        filled * fill_price * rates.fee,
        participation,
        FILL_FULL if filled == asked else FILL_PARTIAL,
    )


@numba.njit(cache=True)  # type: ignore[misc, unused-ignore]
def _fill_all(
    quantities: FloatArray,
    policies: CodeArray,
    theoretical_price: FloatArray,
    open_price: FloatArray,
    volume: FloatArray,
    valid: BoolArray,
    sigma_bar: FloatArray,
    rates: FillRates,
) -> tuple[FloatArray, CodeArray]:
    amounts = np.empty((8, quantities.size), np.float64)
    codes = np.empty(quantities.size, np.int8)
    for i in range(quantities.size):
        (
            amounts[0, i],
            amounts[1, i],
            amounts[2, i],
            amounts[3, i],
            amounts[4, i],
            amounts[5, i],
            amounts[6, i],
            amounts[7, i],
            codes[i],
        ) = fill_order(
            quantities[i],
            policies[i],
            theoretical_price[i],
            open_price[i],
            volume[i],
            valid[i],
            sigma_bar[i],
            rates,
        )
    return amounts, codes


def fill_orders(
    *,
    quantities: FloatArray,
    policies: CodeArray,
    theoretical_price: FloatArray,
    open_price: FloatArray,
    volume: FloatArray,
    valid: BoolArray,
    sigma_bar: FloatArray,
    rates: FillRates,
) -> Fills:
    """
    Return what the orders decided at the last close get on this bar.

    Base price is the bar's open. At most `participation * volume` is filled, floored to 1e-6; the rest expires. An
    order whose symbol has no bar, a NaN open or volume, zero volume or no volatility expires whole. Signed by side:
    quantity * (fill_price - theoretical_price) = drift + half_spread + slippage + impact.

    Args:
        quantities: (n_orders,), signed base asset, 0 = no order.
        policies: (n_orders,), POLICY_SHORT or POLICY_LONG.
        theoretical_price: (n_orders,), close on which the order was decided, quote currency.
        open_price: (n_orders,), of the bar after the decision, quote currency.
        volume: (n_orders,), of that bar, base asset.
        valid: (n_orders,), False = the symbol has no such bar.
        sigma_bar: (n_orders,), bar_volatility at the decision, per bar.

    Source:
        Almgren, Thum, Hauptmann, Li, Direct Estimation of Equity Market Impact (2005), eq. (temporary impact):
        J = eta * sigma * (q / V) ** beta, here with sigma and V of one bar.
    """
    n = quantities.size
    assert all(a.size == n for a in (policies, theoretical_price, open_price, volume, valid, sigma_bar))
    amounts, codes = _fill_all(quantities, policies, theoretical_price, open_price, volume, valid, sigma_bar, rates)
    filled, price, drift, half_spread, slippage, impact, fee, participation = amounts
    return Fills(filled, price, drift, half_spread, slippage, impact, fee, participation, codes)
