"""
Where everything stands in the state of the feature engine: series, rolling sums and factors, by position.

Series with windows up to 2016 bars live in the long ring, all others in the short one. No ring length is a power
of two: rows at such strides would fall on the same cache sets.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

# Every rolling sum is computed anew, oldest bar first, when index % ANCHOR_BARS is its phase; in between the
# newest bar is added and the oldest dropped. `index` is the absolute grid index, so a sum does not depend on where
# the history began. Phases differ: no bar computes more than one sum anew (500 symbols × 2016 bars cost 0.5 ms).
ANCHOR_BARS: Final = 288
LONG_RING_BARS: Final = 2017
SHORT_RING_BARS: Final = 289

# Bars outside these bounds are no prices; they also keep every product and logarithm below finite.
PRICE_MIN: Final = 1e-30
PRICE_MAX: Final = 1e30
# Below these a spread is rounding of the running sums, not movement; what is divided by it is 0 by definition.
LOG_MIN: Final = 1e-12
RETURN_VARIANCE_MIN: Final = 1e-14  # a standard deviation of 0.001 basis points a bar
VOLUME_VARIANCE_MIN: Final = 1e-10


class Long(IntEnum):
    """Series in the long ring."""

    LOG_CLOSE = 0
    SQUARED_RETURN = 1


class Short(IntEnum):
    """Series in the short ring."""

    ABSOLUTE_RETURN = 0
    RISE = 1  # max(log return, 0)
    RANGE = 2  # log high - log low
    SQUARED_RANGE = 3
    GARMAN_KLASS = 4
    TRUE_RANGE = 5
    LOG_TURNOVER = 6  # log(1 + volume × close)
    SQUARED_LOG_TURNOVER = 7
    VOLUME = 8
    SIGNED_VOLUME = 9
    MONEY_FLOW = 10
    PRICE_VOLUME = 11
    TRADED = 12  # 1 where volume > 0
    HIGH_1 = 13  # log high; HIGH_k = its maximum over the last k bars
    HIGH_12 = 14
    HIGH_48 = 15
    LOW_1 = 16
    LOW_12 = 17
    LOW_48 = 18


class LongSum(IntEnum):
    """Rolling sums over the long ring; the number is the window in bars."""

    LOG_CLOSE_12 = 0
    LOG_CLOSE_48 = 1
    LOG_CLOSE_288 = 2
    LOG_CLOSE_2016 = 3
    SQUARED_RETURN_12 = 4
    SQUARED_RETURN_48 = 5
    SQUARED_RETURN_288 = 6
    SQUARED_RETURN_2016 = 7


class ShortSum(IntEnum):
    """Rolling sums over the short ring; the number is the window in bars."""

    ABSOLUTE_RETURN_14 = 0
    ABSOLUTE_RETURN_48 = 1
    ABSOLUTE_RETURN_288 = 2
    RISE_14 = 3
    RANGE_48 = 4
    SQUARED_RANGE_48 = 5
    GARMAN_KLASS_288 = 6
    TRUE_RANGE_14 = 7
    LOG_TURNOVER_12 = 8
    LOG_TURNOVER_48 = 9
    LOG_TURNOVER_288 = 10
    SQUARED_LOG_TURNOVER_48 = 11
    SQUARED_LOG_TURNOVER_288 = 12
    VOLUME_48 = 13
    VOLUME_288 = 14
    SIGNED_VOLUME_48 = 15
    MONEY_FLOW_48 = 16
    PRICE_VOLUME_288 = 17
    TRADED_48 = 18
    TRADED_288 = 19


class Factor(IntEnum):
    """Position of each factor in the matrix; catalog.py says what each one is."""

    SMA_GAP_12 = 0
    SMA_GAP_48 = 1
    SMA_GAP_288 = 2
    SMA_GAP_2016 = 3
    MACD_12_48 = 4
    MACD_48_288 = 5
    EFFICIENCY_48 = 6
    EFFICIENCY_288 = 7
    RETURN_1 = 8
    RETURN_3 = 9
    RETURN_12 = 10
    RETURN_48 = 11
    RETURN_144 = 12
    RETURN_288 = 13
    RETURN_864 = 14
    RETURN_2016 = 15
    RETURN_12_LAG_12 = 16
    RSI_14 = 17
    RETURN_RISK_288 = 18
    VOLATILITY_12 = 19
    VOLATILITY_48 = 20
    VOLATILITY_288 = 21
    VOLATILITY_2016 = 22
    VOLATILITY_RATIO_12_288 = 23
    PARKINSON_48 = 24
    GARMAN_KLASS_288 = 25
    ATR_14 = 26
    VOLUME_Z_48 = 27
    VOLUME_Z_288 = 28
    VOLUME_TREND_12_288 = 29
    SIGNED_VOLUME_48 = 30
    MONEY_FLOW_48 = 31
    RANGE_POSITION_48 = 32
    RANGE_POSITION_288 = 33
    DRAWDOWN_288 = 34
    VWAP_GAP_288 = 35
    SMA_Z_48 = 36
    CANDLE_BODY = 37
    CLOSE_LOCATION = 38
    RANGE_RATIO_48 = 39
    RANK_RETURN_12 = 40
    RANK_RETURN_288 = 41
    RANK_VOLATILITY_288 = 42
    RANK_VOLUME_Z_288 = 43


# Factors before this one are made of one symbol alone; the others compare symbols.
FIRST_RANK: Final = int(Factor.RANK_RETURN_12)


def sum_table(sums: type[LongSum] | type[ShortSum]) -> npt.NDArray[np.int64]:
    """
    Return one row (series, window in bars, anchor phase) for each sum, read from the names of the members.

    A sum is computed anew when index % ANCHOR_BARS equals its phase; phases differ between all sums of both rings.
    """
    series: type[Long] | type[Short] = Long if sums is LongSum else Short
    before = 0 if sums is LongSum else len(LongSum)
    spacing = ANCHOR_BARS // (len(LongSum) + len(ShortSum))
    rows = []
    for member in sums:
        name, _, window = member.name.rpartition("_")
        rows.append((int(series[name]), int(window), (before + int(member)) * spacing))
    return np.array(rows, dtype=np.int64)
