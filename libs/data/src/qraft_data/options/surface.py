"""
A volatility surface from the quotes of one instant. Pure maths.

Total variance w = vol² × years is interpolated: within an expiry linear in log-moneyness k = ln(strike / forward),
between expiries linear in years at the same k. Outside the quoted strikes and expiries there is no value, unless asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from qraft_data.times import FloatArray, Int64Array

Extrapolation = Literal["none", "flat"]
EXTRAPOLATIONS: Final = ("none", "flat")


@dataclass(frozen=True, slots=True)
class Smile:
    """One expiry. log_moneyness: (n,) strictly increasing; total_variance: (n,) positive. years: to expiry, > 0."""

    years: float
    log_moneyness: FloatArray
    total_variance: FloatArray


def signature_of(extrapolation: Extrapolation) -> str:
    """Return the method in words that stand in every result: values of two methods are never mixed unseen."""
    return (
        "surface/1 model=black-76 iv=newton-in-bisection(log price, 1e-12) quotes=out-of-the-money mid "
        f"w=linear(log-moneyness), linear(years ACT/365F) extrapolation={extrapolation}"
    )


def smiles_of(
    expires_us: Int64Array, years: FloatArray, log_moneyness: FloatArray, vol: FloatArray
) -> tuple[Smile, ...]:
    """
    Return the smiles of quotes by expiry; equal strikes (a call and a put at the forward) are averaged.

    Args:
        expires_us: (n,) any order. years, log_moneyness, vol: (n,) each; quotes without a volatility are left out.
    """
    usable = np.isfinite(vol) & (years > 0) & np.isfinite(log_moneyness)
    found = []
    for expiry in np.unique(expires_us[usable]):
        chosen = usable & (expires_us == expiry)
        k, position = np.unique(log_moneyness[chosen], return_inverse=True)
        variance = np.square(vol[chosen]) * years[chosen]
        mean = np.bincount(position, weights=variance) / np.bincount(position)
        found.append(Smile(float(years[chosen][0]), k, mean))
    return tuple(found)


def interpolated_vol(
    smiles: tuple[Smile, ...], *, years: FloatArray, log_moneyness: FloatArray, extrapolation: Extrapolation
) -> FloatArray:
    """
    Return the volatility at each point, NaN where the quotes do not reach.

    `flat` keeps the volatility of the outermost strike and expiry. A variance that falls with time (a calendar
    arbitrage in the quotes) is interpolated like any other; `n_calendar_breaks` counts them.

    Args:
        smiles: by expiry. years, log_moneyness: (n,) points, years > 0.
    """
    if not smiles:
        return np.full(years.shape, np.nan)
    if extrapolation not in EXTRAPOLATIONS:
        raise ValueError(f"expected extrapolation out of {EXTRAPOLATIONS}, received {extrapolation!r}")
    expiries = np.array([smile.years for smile in smiles])
    variance = np.array([_along_strikes(smile, log_moneyness, extrapolation) for smile in smiles])
    after = np.clip(np.searchsorted(expiries, years), 0, len(smiles) - 1)
    is_exact = expiries[after] == years
    before = np.where(is_exact, after, np.maximum(after - 1, 0))
    left, right = expiries[before], expiries[after]
    point = np.arange(years.size)
    share = np.where(right > left, (years - left) / np.where(right > left, right - left, 1.0), 0.0)
    mixed = (1.0 - share) * variance[before, point] + share * variance[after, point]
    vol = np.sqrt(mixed / years)  # NaN where a smile does not reach
    edge = np.where(years < expiries[0], 0, len(smiles) - 1)
    outside = (years < expiries[0]) | (years > expiries[-1])
    flat = np.sqrt(variance[edge, point] / expiries[edge]) if extrapolation == "flat" else np.nan
    return np.asarray(np.where(outside, flat, vol))


def n_calendar_breaks(smiles: tuple[Smile, ...]) -> int:
    """Return at how many strikes of a smile the next expiry has less total variance, where both are quoted."""
    found = 0
    for left, right in pairwise(smiles):
        later = _along_strikes(right, left.log_moneyness, "none")
        found += int((later < left.total_variance).sum())
    return found


def _along_strikes(smile: Smile, log_moneyness: FloatArray, extrapolation: Extrapolation) -> FloatArray:
    edge = np.nan if extrapolation == "none" else None
    return np.asarray(np.interp(log_moneyness, smile.log_moneyness, smile.total_variance, left=edge, right=edge))
