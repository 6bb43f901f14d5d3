"""
Implied volatility: Newton inside a bracket that bisection keeps, so it always ends and never leaves the solution.

It solves for the out-of-the-money option of the same strike (put-call parity: the same time value), in the logarithm
of the price, where deep options are nearly straight lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_data.options.pricing import normal_pdf, undiscounted_price
from qraft_data.times import BoolArray, FloatArray

# Bisection alone needs 60 steps for the bracket; Newton takes about 6.
_N_STEPS_MAX: Final = 100
_TOLERANCE: Final = 1e-12
# Total volatility (vol × sqrt(years)) of 1e-6 to 20: a day at 0.002 % and a year at 2000 %.
_TOTAL_VOL_MIN: Final = 1e-6
_TOTAL_VOL_MAX: Final = 20.0
# Below this share of the forward a time value is rounding of the price, not volatility.
_TIME_VALUE_MIN: Final = 1e-12

# Why there is no volatility; 0 = there is one. Text for people in this order.
STATUS: Final = ("ok", "no_price", "expired", "below_intrinsic", "above_bound", "not_converged")
_OK, _NO_PRICE, _EXPIRED, _BELOW, _ABOVE, _OPEN = range(len(STATUS))


@dataclass(frozen=True, slots=True)
class Implied:
    """vol: (n,) a year, NaN without one. status: (n,) index into STATUS: why."""

    vol: FloatArray
    status: npt.NDArray[np.int8]


def implied_vol(
    premium: FloatArray,
    *,
    forward: FloatArray,
    strike: FloatArray,
    years: FloatArray,
    discount: FloatArray,
    is_call: BoolArray,
) -> Implied:
    """
    Return the volatility at which Black-76 gives each premium.

    Args:
        premium: (n,) paid today, same currency as forward and strike; NaN = no price.
        discount: (n,) what one unit at expiry is worth today.

    Returns:
        Premiums at or below the intrinsic value, or at or above the bound (forward of a call, strike of a put), have no
        volatility and say so.
    """
    status = np.full(premium.shape, _OPEN, np.int8)
    with np.errstate(invalid="ignore", divide="ignore"):
        sign = np.where(is_call, 1.0, -1.0)
        time_value = premium / discount - np.maximum(sign * (forward - strike), 0.0)
        low = np.minimum(forward, strike)
        is_usable = np.isfinite(time_value) & (premium > 0) & (forward > 0) & (strike > 0)
        status[~is_usable] = _NO_PRICE
        status[~(years > 0)] = _EXPIRED
        status[(status == _OPEN) & (time_value <= _TIME_VALUE_MIN * forward)] = _BELOW
        status[(status == _OPEN) & (time_value >= low)] = _ABOVE
    total = np.full(premium.shape, np.nan)
    todo = status == _OPEN
    if todo.any():
        total[todo] = _solve(time_value[todo], forward[todo], strike[todo])
        status[todo & np.isfinite(total)] = _OK
    return Implied(total / np.sqrt(np.where(years > 0, years, np.nan)), status)


def _solve(target: FloatArray, forward: FloatArray, strike: FloatArray) -> FloatArray:
    """Return the total volatility of out-of-the-money options worth `target` undiscounted, NaN if out of bounds."""
    is_call, distance = strike >= forward, np.log(forward / strike)
    low, high = np.full(target.shape, _TOTAL_VOL_MIN), np.full(target.shape, _TOTAL_VOL_MAX)
    # Manaster and Koehler (1982): the inflection point of the price; at the money it is 0, there Brenner-Subrahmanyam.
    near = target / forward * math.sqrt(2.0 * math.pi)
    total = np.clip(np.maximum(np.sqrt(2.0 * np.abs(distance)), near), _TOTAL_VOL_MIN, _TOTAL_VOL_MAX)
    found = np.full(target.shape, np.nan)
    open_ = np.arange(target.size)
    for _ in range(_N_STEPS_MAX):
        now = total[open_]
        value = undiscounted_price(forward[open_], strike[open_], now, is_call=is_call[open_])
        is_low = value < target[open_]
        low[open_], high[open_] = np.where(is_low, now, low[open_]), np.where(is_low, high[open_], now)
        slope = forward[open_] * normal_pdf(distance[open_] / now + 0.5 * now)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = now - value * np.log(value / target[open_]) / slope
        is_inside = (newton > low[open_]) & (newton < high[open_])  # NaN is not inside
        total[open_] = np.where(is_inside, newton, 0.5 * (low[open_] + high[open_]))
        is_done = np.abs(total[open_] - now) <= _TOLERANCE * now
        found[open_[is_done]] = total[open_[is_done]]
        open_ = open_[~is_done]
        if not open_.size:
            break
    # An answer on the edge of the bracket only says that the true one lies beyond it.
    at_edge = (found <= _TOTAL_VOL_MIN * 1.001) | (found >= _TOTAL_VOL_MAX * 0.999)
    return np.where(at_edge, np.nan, found)
