"""The 44 features of the first release, in seven families."""

from __future__ import annotations

from typing import Final

from qraft_quant.features.catalog import FeatureSet
from qraft_quant.features.sets.templates import family

_TREND = family(
    "trend",
    sma_gap_12="log(close) - mean(log(close), 12)",
    sma_gap_48="log(close) - mean(log(close), 48)",
    sma_gap_288="log(close) - mean(log(close), 288)",
    sma_gap_2016="log(close) - mean(log(close), 2016)",
    macd_12_48="mean(log(close), 12) - mean(log(close), 48)",
    macd_48_288="mean(log(close), 48) - mean(log(close), 288)",
    efficiency_48="efficiency(close, 48)",
    efficiency_288="efficiency(close, 288)",
)
_MOMENTUM = family(
    "momentum",
    return_1="r",
    return_3="delta(log(close), 3)",
    return_12="delta(log(close), 12)",
    return_48="delta(log(close), 48)",
    return_144="delta(log(close), 144)",
    return_288="delta(log(close), 288)",
    return_864="delta(log(close), 864)",
    return_2016="delta(log(close), 2016)",
    return_12_lag_12="lag(delta(log(close), 12), 12)",
    rsi_14="rsi(log(close), 14)",
    return_risk_288="delta(log(close), 288) / (std(r, 288) * sqrt(288))",
)
_VOLATILITY = family(
    "volatility",
    volatility_12="std(r, 12)",
    volatility_48="std(r, 48)",
    volatility_288="std(r, 288)",
    volatility_2016="std(r, 2016)",
    volatility_ratio_12_288="std(r, 12) / std(r, 288)",
    parkinson_48="parkinson(high, low, 48)",
    garman_klass_288="garman_klass(open, high, low, close, 288)",
    atr_14="atr(high, low, close, 14)",
)
_VOLUME = family(
    "volume",
    volume_z_48="zscore(q, 48)",
    volume_z_288="zscore(q, 288)",
    volume_trend_12_288="mean(q, 12) - mean(q, 288)",
    signed_volume_48="flow(sign(r), volume, 48)",
    money_flow_48="flow((2 * close - high - low) / (high - low), volume, 48)",
)
_POSITION = family(
    "position",
    range_position_48="place(log(close), log(high), log(low), 48)",
    range_position_288="place(log(close), log(high), log(low), 288)",
    drawdown_288="log(close) - max(log(high), 288)",
    vwap_gap_288="(close - vwap(typical, volume, 288)) / vwap(typical, volume, 288)",
    sma_z_48="(log(close) - mean(log(close), 48)) / (std(r, 48) * sqrt(48))",
)
_CANDLE = family(
    "candle",
    candle_body="body(open, high, low, close)",
    close_location="close_location(high, low, close)",
    range_ratio_48="spread / mean(spread, 48)",
)
_RANK = family(
    "rank",
    rank_return_12="cross_rank(delta(log(close), 12))",
    rank_return_288="cross_rank(delta(log(close), 288))",
    rank_volatility_288="cross_rank(std(r, 288))",
    rank_volume_z_288="cross_rank(zscore(q, 288))",
)
CORE: Final = FeatureSet("core", (*_TREND, *_MOMENTUM, *_VOLATILITY, *_VOLUME, *_POSITION, *_CANDLE, *_RANK))
