"""
Factors that undo splits and dividends. Pure maths; `actions.py` reads the corporate actions.

`backward` carries an action back in time: bars before it are changed, the newest are as traded (in Chinese 前复权).
`forward` carries it on: bars after it are changed, the oldest are as traded (后复权). Returns are equal in both. Levels
adjusted backward depend on later actions and must not be compared across snapshots; levels adjusted forward do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from qraft_data.times import FloatArray, Int64Array

Adjustment = Literal["none", "forward", "backward"]
ADJUSTMENTS: Final = ("none", "forward", "backward")


@dataclass(frozen=True, slots=True)
class Action:
    """
    One ex-date of one equity. split_ratio: new shares per old one. dividend: a share, before the split of that day.

    A bar belongs to the days from the ex-date on when it closes after `ex_at_us`. close_before: the last close as
    traded at or before `ex_at_us`; needed (not NaN) where there is a dividend.
    """

    ex_at_us: int
    split_ratio: float
    dividend: float
    close_before: float

    @property
    def price_factor(self) -> float:
        """
        Return what prices before the ex-date are multiplied with: (1 - dividend / close before) / split ratio.

        Raises:
            ValueError: if the dividend is not below the close before.

        Source:
            CRSP, Stock File Guide, "Factor to adjust price"; LEAN factor files.
        """
        if self.dividend == 0.0:
            return 1.0 / self.split_ratio
        if not 0.0 < self.dividend < self.close_before:
            raise ValueError(
                f"expected a dividend between 0 and the close before of {self.close_before}, received "
                f"{self.dividend}: is it in the currency of the prices, and a share before the split?"
            )
        return (1.0 - self.dividend / self.close_before) / self.split_ratio


@dataclass(frozen=True, slots=True)
class Factors:
    """Multipliers of each bar, (n_bars,): `price` of open, high, low and close, `volume` of volume."""

    price: FloatArray
    volume: FloatArray


def adjustment_factors(closed_at_us: Int64Array, actions: Sequence[Action], *, adjustment: Adjustment) -> Factors:
    """
    Return the factors of one symbol's bars.

    `forward` begins at the first bar given: actions up to it change nothing. `backward` ends at the last action given:
    actions after the last bar count, so that what comes next fits on. Volume is adjusted for splits only.

    Args:
        closed_at_us: (n_bars,) strictly increasing.
        actions: any order.
        adjustment: `none` gives ones.

    Raises:
        ValueError: for a dividend not below the close before.
    """
    price, volume = np.ones(closed_at_us.size), np.ones(closed_at_us.size)
    if adjustment == "none" or closed_at_us.size == 0:
        return Factors(price, volume)
    for action in sorted(actions, key=lambda action: action.ex_at_us):
        if action.ex_at_us < closed_at_us[0]:
            continue
        is_before = closed_at_us <= action.ex_at_us
        if adjustment == "backward":
            price[is_before] *= action.price_factor
            volume[is_before] *= action.split_ratio
        else:
            price[~is_before] /= action.price_factor
            volume[~is_before] /= action.split_ratio
    return Factors(price, volume)
