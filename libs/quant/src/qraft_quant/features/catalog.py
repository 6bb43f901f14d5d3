"""
The feature contract as data: what each factor is, and the signature of the whole set.

Symbols in the formulas: o h l c v of a bar; r = ln(c / c[-1]); mean, std, sum, max, min over the last n bars, the
newest included; std is the population's. x[-k] = k bars ago. Where a divisor or a spread is below its threshold
(layout.py) the factor is 0. A window with a missing bar in it gives NaN.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Final

from qraft_quant.features.layout import ANCHOR_BARS, Factor


@dataclass(frozen=True, slots=True)
class Feature:
    """
    One factor. window: bars that it reads, the newest included; all of them must be there for a value.

    is_anchored: holds a rolling sum, so ANCHOR_BARS more bars must have been seen. version: raised when the numbers
    change although the formula reads the same.
    """

    name: str
    family: str
    formula: str
    window: int
    is_anchored: bool
    version: int = 1


def _family(family: str, *rows: tuple[Factor, str, int, bool]) -> list[Feature]:
    return [Feature(factor.name.lower(), family, text, window, anchored) for factor, text, window, anchored in rows]


_TREND = _family(
    "trend",
    (Factor.SMA_GAP_12, "ln(c) - mean(ln(c), 12)", 12, True),
    (Factor.SMA_GAP_48, "ln(c) - mean(ln(c), 48)", 48, True),
    (Factor.SMA_GAP_288, "ln(c) - mean(ln(c), 288)", 288, True),
    (Factor.SMA_GAP_2016, "ln(c) - mean(ln(c), 2016)", 2016, True),
    (Factor.MACD_12_48, "mean(ln(c), 12) - mean(ln(c), 48)", 48, True),
    (Factor.MACD_48_288, "mean(ln(c), 48) - mean(ln(c), 288)", 288, True),
    (Factor.EFFICIENCY_48, "sum(r, 48) / sum(|r|, 48)", 49, True),
    (Factor.EFFICIENCY_288, "sum(r, 288) / sum(|r|, 288)", 289, True),
)
_MOMENTUM = _family(
    "momentum",
    (Factor.RETURN_1, "ln(c / c[-1])", 2, False),
    (Factor.RETURN_3, "ln(c / c[-3])", 4, False),
    (Factor.RETURN_12, "ln(c / c[-12])", 13, False),
    (Factor.RETURN_48, "ln(c / c[-48])", 49, False),
    (Factor.RETURN_144, "ln(c / c[-144])", 145, False),
    (Factor.RETURN_288, "ln(c / c[-288])", 289, False),
    (Factor.RETURN_864, "ln(c / c[-864])", 865, False),
    (Factor.RETURN_2016, "ln(c / c[-2016])", 2017, False),
    (Factor.RETURN_12_LAG_12, "ln(c[-12] / c[-24])", 25, False),
    (Factor.RSI_14, "Cutler: (2 sum(max(r, 0), 14) - sum(|r|, 14)) / sum(|r|, 14)", 15, True),
    (Factor.RETURN_RISK_288, "sum(r, 288) / (std(r, 288) sqrt(288))", 289, True),
)
_VOLATILITY = _family(
    "volatility",
    (Factor.VOLATILITY_12, "std(r, 12)", 13, True),
    (Factor.VOLATILITY_48, "std(r, 48)", 49, True),
    (Factor.VOLATILITY_288, "std(r, 288)", 289, True),
    (Factor.VOLATILITY_2016, "std(r, 2016)", 2017, True),
    (Factor.VOLATILITY_RATIO_12_288, "std(r, 12) / std(r, 288)", 289, True),
    (Factor.PARKINSON_48, "sqrt(mean(ln(h / l)^2, 48) / (4 ln 2))", 48, True),
    (Factor.GARMAN_KLASS_288, "sqrt(mean(ln(h / l)^2 / 2 - (2 ln 2 - 1) ln(c / o)^2, 288))", 288, True),
    (Factor.ATR_14, "mean(ln(max(h, c[-1]) / min(l, c[-1])), 14)", 15, True),
)
_VOLUME = _family(
    "volume",
    (Factor.VOLUME_Z_48, "(q - mean(q, 48)) / std(q, 48), q = ln(1 + v c)", 48, True),
    (Factor.VOLUME_Z_288, "(q - mean(q, 288)) / std(q, 288), q = ln(1 + v c)", 288, True),
    (Factor.VOLUME_TREND_12_288, "mean(q, 12) - mean(q, 288), q = ln(1 + v c)", 288, True),
    (Factor.SIGNED_VOLUME_48, "sum(sign(r) v, 48) / sum(v, 48)", 49, True),
    (Factor.MONEY_FLOW_48, "sum(v (2c - h - l) / (h - l), 48) / sum(v, 48)", 48, True),
)
_POSITION = _family(
    "position",
    (Factor.RANGE_POSITION_48, "ln(c / min(l, 48)) / ln(max(h, 48) / min(l, 48)) - 1/2", 48, False),
    (Factor.RANGE_POSITION_288, "ln(c / min(l, 288)) / ln(max(h, 288) / min(l, 288)) - 1/2", 288, False),
    (Factor.DRAWDOWN_288, "ln(c / max(h, 288))", 288, False),
    (Factor.VWAP_GAP_288, "c sum(v, 288) / sum(v (h + l + c) / 3, 288) - 1", 288, True),
    (Factor.SMA_Z_48, "(ln(c) - mean(ln(c), 48)) / (std(r, 48) sqrt(48))", 49, True),
)
_CANDLE = _family(
    "candle",
    (Factor.CANDLE_BODY, "ln(c / o) / ln(h / l)", 1, False),
    (Factor.CLOSE_LOCATION, "(ln(c / l) - ln(h / c)) / ln(h / l)", 1, False),
    (Factor.RANGE_RATIO_48, "ln(h / l) / mean(ln(h / l), 48)", 48, True),
)
_RANK = _family(
    "rank",
    (Factor.RANK_RETURN_12, "(rank - 1/2) / n over symbols of return_12, ties average", 13, False),
    (Factor.RANK_RETURN_288, "(rank - 1/2) / n over symbols of return_288, ties average", 289, False),
    (Factor.RANK_VOLATILITY_288, "(rank - 1/2) / n over symbols of volatility_288, ties average", 289, True),
    (Factor.RANK_VOLUME_Z_288, "(rank - 1/2) / n over symbols of volume_z_288, ties average", 288, True),
)

FEATURES: Final[tuple[Feature, ...]] = (
    *_TREND, *_MOMENTUM, *_VOLATILITY, *_VOLUME, *_POSITION, *_CANDLE, *_RANK,
)  # fmt: skip
FEATURE_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
DTYPE: Final = "float32"

# After this many bars every factor has its final bits: the largest window is full and each sum anchored within it.
WARM_UP_BARS: Final = max(feature.window for feature in FEATURES) - 1 + ANCHOR_BARS


@cache
def feature_signature(interval: str) -> str:
    """
    Return the SHA-256 that names this feature set on bars of one interval, such as `5m`.

    It covers names, order, dtype, formulas, windows, versions and the anchor rule: whatever changes the numbers or
    their meaning. A model is refused where its signature differs.
    """
    contract = {
        "interval": interval,
        "dtype": DTYPE,
        "anchor_bars": ANCHOR_BARS,
        "features": [asdict(feature) for feature in FEATURES],
    }
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()
