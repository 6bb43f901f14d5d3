"""Every feature of the catalogue: CORE, and what templates and single lines add to it."""

from __future__ import annotations

from typing import Final

from qraft_quant.features.catalog import FeatureSet
from qraft_quant.features.sets.core import CORE
from qraft_quant.features.sets.state import STATE
from qraft_quant.features.sets.templates import each, family

# Bars of five minutes: an hour, four hours, a day.
_HOURS = (12, 48)
_DAY = (12, 48, 288)

_TREND = (
    *each("trend", "ema_gap_{span}", "log(close) - ema(log(close), {span}, 256)", span=(12, 48)),
    *each("trend", "slope_{n}", "slope(log(close), {n}) / std(r, {n})", n=_DAY),
    *each("trend", "fit_{n}", "fit(log(close), {n})", n=_DAY),
    *each("trend", "range_gap_{n}", "log(close) - (max(log(high), {n}) + min(log(low), {n})) / 2", n=(48, 288)),
    *family(
        "trend",
        macd_12_48_signal="mean(log(close), 12) - mean(log(close), 48) - mean(mean(log(close), 12)"
        " - mean(log(close), 48), 9)",
        ema_cross_12_48="ema(log(close), 12, 256) - ema(log(close), 48, 256)",
        efficiency_12="efficiency(close, 12)",
        vwap_gap_48="(close - vwap(typical, volume, 48)) / vwap(typical, volume, 48)",
        acceleration_48="delta(log(close), 48) - lag(delta(log(close), 48), 48)",
    ),
)
_MOMENTUM = (
    *each("momentum", "return_{k}", "delta(log(close), {k})", k=(6, 24, 576)),
    *each("momentum", "return_1_lag_{k}", "lag(r, {k})", k=(1, 2, 3, 4, 5)),
    *each("momentum", "rsi_{n}", "rsi(log(close), {n})", n=(7, 28, 96)),
    *each("momentum", "return_risk_{n}", "delta(log(close), {n}) / (std(r, {n}) * sqrt({n}))", n=_HOURS),
    *each("momentum", "rise_share_{n}", "mean(r > 0, {n})", n=_DAY),
    *family(
        "momentum",
        return_48_lag_288="lag(delta(log(close), 48), 288)",
        return_288_lag_288="lag(delta(log(close), 288), 288)",
        return_gap_288="delta(log(close), 288) - lag(delta(log(close), 288), 288)",
    ),
)
_VOLATILITY = (
    *each("volatility", "parkinson_{n}", "parkinson(high, low, {n})", n=(12, 288)),
    *each("volatility", "garman_klass_{n}", "garman_klass(open, high, low, close, {n})", n=_HOURS),
    *each("volatility", "rogers_satchell_{n}", "rogers_satchell(open, high, low, close, {n})", n=(48, 288)),
    *each("volatility", "atr_{n}", "atr(high, low, close, {n})", n=(48, 288)),
    *each("volatility", "fall_volatility_{n}", "sqrt(mean(minimum(r, 0) * minimum(r, 0), {n}))", n=(48, 288)),
    *family(
        "volatility",
        volatility_ratio_48_288="std(r, 48) / std(r, 288)",
        volatility_ratio_288_2016="std(r, 288) / std(r, 2016)",
        volatility_of_volatility_288="std(std(r, 12), 288)",
        volatility_z_288="zscore(std(r, 12), 288)",
        range_to_close_48="parkinson(high, low, 48) / std(r, 48)",
    ),
)
_DISTRIBUTION = (
    *each("distribution", "skew_{n}", "skew(r, {n})", n=(48, 288)),
    *each("distribution", "kurt_{n}", "kurt(r, {n})", n=(48, 288)),
    *each("distribution", "autocorrelation_{k}_288", "corr(r, lag(r, {k}), 288)", k=(1, 12)),
    *each("distribution", "largest_rise_{n}", "max(r, {n})", n=_HOURS),
    *each("distribution", "largest_fall_{n}", "min(r, {n})", n=_HOURS),
    *family(
        "distribution",
        volatility_autocorrelation_288="corr(abs(r), lag(abs(r), 1), 288)",
        variance_ratio_12_288="(var(delta(log(close), 12), 288) / 12) / var(r, 288)",
    ),
)
_VOLUME = (
    *each("volume", "volume_z_{n}", "zscore(q, {n})", n=(12, 2016)),
    *each("volume", "signed_volume_{n}", "flow(sign(r), volume, {n})", n=(12, 288)),
    *each("volume", "money_flow_{n}", "flow((2 * close - high - low) / (high - low), volume, {n})", n=(12, 288)),
    *each("volume", "price_volume_corr_{n}", "corr(log(close), q, {n})", n=_DAY),
    *each("volume", "return_volume_corr_{n}", "corr(r, q, {n})", n=(48, 288)),
    *family(
        "volume",
        volume_trend_48_288="mean(q, 48) - mean(q, 288)",
        volume_change_1="delta(q, 1)",
        volume_volatility_48="std(q, 48)",
        quiet_bars_48="mean(volume > 0, 48)",
    ),
)
_POSITION = (
    *each("position", "range_position_{n}", "place(log(close), log(high), log(low), {n})", n=(12, 2016)),
    *each("position", "drawdown_{n}", "log(close) - max(log(high), {n})", n=(48, 2016)),
    *each("position", "recovery_{n}", "log(close) - min(log(low), {n})", n=(48, 288, 2016)),
    *each("position", "since_high_{n}", "argmax(high, {n}) / {n}", n=(48, 288)),
    *each("position", "since_low_{n}", "argmin(low, {n}) / {n}", n=(48, 288)),
    *each("position", "close_z_{n}", "zscore(log(close), {n})", n=_DAY),
)
_QUANTILE = (
    *each("quantile", "close_rank_{n}", "rank(close, {n})", n=_HOURS),
    *each("quantile", "volume_rank_{n}", "rank(volume, {n})", n=_HOURS),
    *each("quantile", "return_rank_{n}", "rank(r, {n})", n=_HOURS),
    *each("quantile", "median_gap_{n}", "log(close) - median(log(close), {n})", n=_HOURS),
    *each("quantile", "close_quantile_{p}_48", "quantile(log(close), 48, 0.{p}) - log(close)", p=("20", "80")),
    *family("quantile", close_spread_48="quantile(log(close), 48, 0.75) - quantile(log(close), 48, 0.25)"),
)
_CANDLE = (
    *family(
        "candle",
        upper_shadow="upper_shadow(open, high, low, close)",
        lower_shadow="lower_shadow(open, high, low, close)",
        shadow_gap_12="mean(lower_shadow(open, high, low, close) - upper_shadow(open, high, low, close), 12)",
        body_mean_12="mean(body(open, high, low, close), 12)",
        close_location_mean_12="mean(close_location(high, low, close), 12)",
        range_ratio_288="spread / mean(spread, 288)",
        open_gap="log(open) - lag(log(close), 1)",
        inside_bar="(lag(high, 1) > high) * (low > lag(low, 1))",
        engulfing_bar="(high > lag(high, 1)) * (lag(low, 1) > low)",
    ),
)
_MEMORY = (
    *family(
        "memory",
        frac_diff_close="frac_diff(log(close), 0.5, 6)",
        frac_diff_close_32="frac_diff(log(close), 0.4, 32)",
        frac_diff_volume="frac_diff(q, 0.5, 6)",
    ),
)
_RANK = (
    *each("rank", "cross_return_{k}", "cross_zscore(delta(log(close), {k}))", k=(12, 288)),
    *family(
        "rank",
        rank_return_2016="cross_rank(delta(log(close), 2016))",
        rank_range_position_288="cross_rank(place(log(close), log(high), log(low), 288))",
        excess_return_48="cross_demean(delta(log(close), 48))",
        excess_volatility_288="cross_demean(log(1e-9 + std(r, 288)))",
    ),
)
_SCORE = (
    *family(
        "score",
        score_momentum="zscore(delta(log(close), 48), 288) - zscore(delta(log(close), 288), 288)",
        score_volume_volatility="zscore(q, 288) - zscore(std(r, 12), 288)",
        score_flow="flow(sign(r), volume, 48) - efficiency(close, 48)",
        score_strength="rsi(log(close), 14) - rsi(log(close), 96)",
    ),
)
_MICROSTRUCTURE = (
    *each("microstructure", "amihud_{n}", "amihud(close, volume, {n})", n=(48, 288)),
    *each("microstructure", "roll_spread_{n}", "roll_spread(close, {n})", n=(48, 288)),
    *each("microstructure", "kyle_{n}", "kyle(close, volume, {n})", n=(48, 288)),
    *family(
        "microstructure",
        corwin_schultz_48="corwin_schultz(high, low, 48)",
        taker_imbalance="fill(imbalance(taker_buy_volume, taker_sell_volume), 0)",
        taker_imbalance_12="fill(imbalance(sum(taker_buy_volume, 12), sum(taker_sell_volume, 12)), 0)",
        taker_volume_missing="missing(taker_buy_volume + taker_sell_volume)",
    ),
)
_DERIVATIVES = (
    *family(
        "derivatives",
        funding_rate="fill(funding_rate, 0)",
        funding_change_96="fill(delta(funding_rate, 96), 0)",
        funding_carry_288="fill(mean(funding_rate, 288), 0)",
        funding_z_2016="fill(zscore(funding_rate, 2016), 0)",
        funding_missing="missing(funding_rate)",
        open_interest_change_12="fill(delta(log(open_interest_usd), 12), 0)",
        open_interest_change_288="fill(delta(log(open_interest_usd), 288), 0)",
        open_interest_z_288="fill(zscore(log(open_interest_usd), 288), 0)",
        open_interest_price_gap_288="fill(delta(log(open_interest_usd), 288) - delta(log(close), 288), 0)",
        open_interest_missing="missing(open_interest_usd)",
        basis="fill(basis_frac, 0)",
        basis_change_12="fill(delta(basis_frac, 12), 0)",
        basis_z_288="fill(zscore(basis_frac, 288), 0)",
        basis_missing="missing(basis_frac)",
        long_short="fill(log(long_short_ratio), 0)",
        long_short_change_12="fill(delta(log(long_short_ratio), 12), 0)",
        long_short_missing="missing(long_short_ratio)",
    ),
)
_CALENDAR = family(
    "calendar",
    calendar_hour_sin="hour_sin()",
    calendar_hour_cos="hour_cos()",
    calendar_week_sin="week_sin()",
    calendar_week_cos="week_cos()",
)

FULL: Final = FeatureSet(
    "full",
    (
        *CORE.features, *_TREND, *_MOMENTUM, *_VOLATILITY, *_DISTRIBUTION, *_VOLUME, *_POSITION, *_QUANTILE, *_CANDLE,
        *_MEMORY, *_RANK, *_SCORE, *_MICROSTRUCTURE, *_DERIVATIVES, *_CALENDAR, *STATE,
    ),
)  # fmt: skip
