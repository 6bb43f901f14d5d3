"""Splits and dividends, worked out from the factors or adjusted closes in which a source hides them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from svc_ingest.domain.raw import FloatArray

DateArray = npt.NDArray[np.datetime64]
# A change of the factor below this is rounding: closes are 32-bit numbers in the source, 1.2e-7 each.
_SMALLEST_CHANGE: Final = 3e-5


@dataclass(frozen=True, slots=True)
class Actions:
    """Splits and dividends by ex-date. dividend: in the currency of the closes, a share before the split."""

    ex_date: DateArray
    split_ratio: FloatArray
    dividend: FloatArray


def actions_of_factors(
    dates: DateArray,
    price_factor: FloatArray,
    split_factor: FloatArray,
    *,
    trading_days: DateArray,
    closes: FloatArray,
) -> Actions:
    """
    Return the actions behind a table of factors, each row holding for days up to and with its date.

    An action falls on the first trading day after the date of a row whose successor differs. The dividend is what makes
    the price factor of the row: price_factor[i] / price_factor[i + 1] = 1 - dividend / close. Days without a trading
    day on or after them (the far end of the table) are none.

    Args:
        dates, price_factor, split_factor: (n,) by date.
        trading_days, closes: (m,) by date; unadjusted last price of each day.

    Raises:
        ValueError: if an action falls on a date whose close is not there.
    """
    split = split_factor[1:] / split_factor[:-1]
    kept = price_factor[:-1] / price_factor[1:]
    changed = np.flatnonzero((np.abs(split - 1) > _SMALLEST_CHANGE) | (np.abs(kept - 1) > _SMALLEST_CHANGE))
    following = np.searchsorted(trading_days, dates[:-1][changed], side="right")
    changed, following = changed[following < trading_days.size], following[following < trading_days.size]
    last = following - 1
    if (last < 0).any() or (np.abs(trading_days[last] - dates[:-1][changed]) > np.timedelta64(5, "D")).any():
        raise ValueError("expected a close within five days before each action")
    return Actions(trading_days[following], split[changed], closes[last] * (1 - kept[changed]))


def dividends_of_adjusted(dates: DateArray, closes: FloatArray, adjusted: FloatArray) -> Actions:
    """
    Return the dividends that an adjusted close contains beside the close.

    adjusted / close steps up by 1 / (1 - dividend / close of the day before) on the ex-date. The closes may be adjusted
    for splits; the dividends are then in the same shares. Empty rows are left out.

    Args:
        dates, closes, adjusted: (n,) by date.
    """
    there = np.isfinite(closes) & np.isfinite(adjusted)
    dates, closes, adjusted = dates[there], closes[there], adjusted[there]
    factor = adjusted / closes
    kept = factor[:-1] / factor[1:]
    paid = np.flatnonzero(kept < 1 - _SMALLEST_CHANGE)
    return Actions(dates[paid + 1], np.ones(paid.size), closes[paid] * (1 - kept[paid]))
