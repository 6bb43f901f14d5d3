"""How old a feature's value may be before what it says about the same label is worth half."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

# A curve that fits worse than this (root mean square, in units of the fresh IC) has no half-life worth a number.
FIT_ERROR_MAX: Final = 0.25
_T_MIN: Final = 2.0
_AGES_MIN: Final = 4


class Decay(StrEnum):
    """What can be said: fitted; nothing to decay; no decay up to the oldest age; a curve of another form."""

    FITTED = "fitted"
    NO_INFORMATION = "no_information"
    NO_DECAY_SEEN = "no_decay_seen"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class HalfLife:
    """
    bars: NaN unless fitted; for NO_DECAY_SEEN the oldest age tried, a lower bound. fit_error: root mean square over the
    ages, in units of the fresh IC; NaN where nothing was fitted.
    """

    verdict: Decay
    bars: float
    fit_error: float


def half_life(ages: Sequence[int], ics: Sequence[float], *, t: float) -> HalfLife:
    """
    Fit IC(age) = IC(0) 2^(-age / half-life) by least squares over all ages.

    Args:
        ages: bars, ascending from 0.
        ics: at each age.
        t: of the fresh IC; below 2 there is no information whose life could be measured.
    """
    if len(ages) < _AGES_MIN or not math.isfinite(t) or abs(t) < _T_MIN or not np.isfinite(ics).all() or ics[0] == 0.0:
        return HalfLife(Decay.NO_INFORMATION, math.nan, math.nan)
    age = np.asarray(ages, dtype=np.float64)
    share = np.asarray(ics, dtype=np.float64) / ics[0]
    oldest = float(age[-1])
    if share.min() > 0.5:
        return HalfLife(Decay.NO_DECAY_SEEN, oldest, math.nan)

    def loss(log_bars: float) -> float:
        return float(np.mean((share - np.exp2(-age / math.exp(log_bars))) ** 2))

    # Coarse first: the loss has a flat side where the curve is all but dead at the first age.
    grid = np.linspace(math.log(0.2), math.log(4.0 * oldest), 60)
    best = int(np.argmin([loss(float(it)) for it in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    bars, error = math.exp(float(found.x)), math.sqrt(loss(float(found.x)))
    if error > FIT_ERROR_MAX:
        return HalfLife(Decay.UNCLEAR, math.nan, error)
    if bars > oldest:
        return HalfLife(Decay.NO_DECAY_SEEN, oldest, error)
    return HalfLife(Decay.FITTED, bars, error)
