"""Every factor against its formula in plain numpy, and a few against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from qraft_quant.features import FEATURE_NAMES, FEATURES, WARM_UP_BARS, compute_history
from qraft_quant.features.layout import LOG_MIN, RETURN_VARIANCE_MIN, VOLUME_VARIANCE_MIN, Factor

FIRST_INDEX = 5_791_001
N_BARS = WARM_UP_BARS + 400


def walk(*, n_bars=N_BARS, n_symbols=4, seed=11):
    """Return random-walk bars (open, high, low, close, volume), (n_bars, n_symbols) each."""
    rng = np.random.default_rng(seed)
    close = np.geomspace(0.01, 60_000, n_symbols) * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 1e-4, close.shape))
    high = np.maximum(open_, close) * np.exp(rng.exponential(1e-3, close.shape))
    low = np.minimum(open_, close) * np.exp(-rng.exponential(1e-3, close.shape))
    return open_, high, low, close, rng.lognormal(2, 1, close.shape)


def _roll(x, n, reduce):
    out = np.full(x.shape, np.nan)
    out[n - 1 :] = reduce(sliding_window_view(x, n, axis=0), axis=-1)
    return out


def _lag(x, n):
    return np.concatenate([np.full((n, x.shape[1]), np.nan), x[:-n]])


def _over(part, whole, is_known):
    return np.where(np.isnan(whole) | np.isnan(part), np.nan, np.where(is_known, part / whole, 0.0))


def reference(o, h, l, c, v):  # noqa: E741  the field's letters
    """Return each factor but the ranks in float64, written from the formulas of the catalogue, window by window."""
    log_o, log_h, log_l, log_c = np.log(o), np.log(h), np.log(l), np.log(c)
    r, q, spread = log_c - _lag(log_c, 1), np.log1p(v * c), log_h - log_l
    ret = {n: log_c - _lag(log_c, n) for n in (1, 3, 12, 48, 144, 288, 864, 2016)}
    gap = {n: log_c - _roll(log_c, n, np.mean) for n in (12, 48, 288, 2016)}
    variance = {n: _roll(r, n, np.var) for n in (12, 48, 288, 2016)}
    std = {
        n: np.sqrt(np.where(x > RETURN_VARIANCE_MIN, x, np.where(np.isnan(x), np.nan, 0))) for n, x in variance.items()
    }
    path = {n: _roll(np.abs(r), n, np.sum) for n in (14, 48, 288)}
    low, high = {n: _roll(log_l, n, np.min) for n in (48, 288)}, {n: _roll(log_h, n, np.max) for n in (48, 288)}
    volume = {n: _roll(v, n, np.sum) for n in (48, 288)}
    out = {f"sma_gap_{n}": x for n, x in gap.items()} | {f"return_{n}": x for n, x in ret.items()}
    out |= {f"volatility_{n}": x for n, x in std.items()}
    out["macd_12_48"], out["macd_48_288"] = gap[48] - gap[12], gap[288] - gap[48]
    for n in (48, 288):
        out[f"efficiency_{n}"] = _over(ret[n], path[n], path[n] >= LOG_MIN)
        out[f"range_position_{n}"] = _over(log_c - low[n], high[n] - low[n], high[n] - low[n] >= LOG_MIN) - np.where(
            high[n] - low[n] >= LOG_MIN, 0.5, 0.0
        )
        q_mean, q_var = _roll(q, n, np.mean), _roll(q, n, np.var)
        out[f"volume_z_{n}"] = _over(q - q_mean, np.sqrt(q_var), q_var > VOLUME_VARIANCE_MIN)
    out["return_12_lag_12"] = _lag(ret[12], 12)
    out["rsi_14"] = _over(2 * _roll(np.maximum(r, 0), 14, np.sum) - path[14], path[14], path[14] >= LOG_MIN)
    out["return_risk_288"] = _over(ret[288], std[288] * math.sqrt(288), std[288] > 0)
    out["volatility_ratio_12_288"] = _over(std[12], std[288], std[288] > 0)
    out["parkinson_48"] = np.sqrt(_roll(spread**2, 48, np.mean) / (4 * math.log(2)))
    garman_klass = spread**2 / 2 - (2 * math.log(2) - 1) * (log_c - log_o) ** 2
    out["garman_klass_288"] = np.sqrt(np.maximum(_roll(garman_klass, 288, np.mean), 0))
    true_range = np.maximum(log_h, _lag(log_c, 1)) - np.minimum(log_l, _lag(log_c, 1))
    out["atr_14"] = _roll(true_range, 14, np.mean)
    out["volume_trend_12_288"] = _roll(q, 12, np.mean) - _roll(q, 288, np.mean)
    out["signed_volume_48"] = _over(_roll(np.sign(r) * v, 48, np.sum), volume[48], volume[48] > 0)
    money = v * _over(2 * c - h - l, h - l, h > l)
    out["money_flow_48"] = _over(_roll(money, 48, np.sum), volume[48], volume[48] > 0)
    out["drawdown_288"] = log_c - high[288]
    paid = _roll(v * (h + l + c) / 3, 288, np.sum)
    out["vwap_gap_288"] = _over(c * volume[288], paid, paid > 0) - np.where(paid > 0, 1.0, 0.0)
    out["sma_z_48"] = _over(gap[48], std[48] * math.sqrt(48), std[48] > 0)
    out["candle_body"] = _over(log_c - log_o, spread, spread >= LOG_MIN)
    out["close_location"] = _over((log_c - log_l) - (log_h - log_c), spread, spread >= LOG_MIN)
    out["range_ratio_48"] = _over(spread, _roll(spread, 48, np.mean), _roll(spread, 48, np.mean) >= LOG_MIN)
    return out


def with_trouble():
    """Return a walk with gaps, halted and volume-less stretches, one symbol each, and one left as it is."""
    o, h, l, c, v = walk()  # noqa: E741
    for x in (o, h, l, c, v):
        x[2400:2407, 0] = np.nan
        x[2500, 0] = np.nan
    for x in (o, h, l, c):
        x[2350:2420, 1] = c[2349, 1]
    v[2350:2420, 1] = 0.0
    v[2300:, 2] = np.where(np.arange(2300, N_BARS) % 3 == 0, 0.0, v[2300:, 2])
    return o, h, l, c, v


def test_every_factor_agrees_with_its_formula():
    bars = with_trouble()

    values = compute_history(*bars, FIRST_INDEX)

    with np.errstate(all="ignore"):
        expected = reference(*bars)
    for f, feature in enumerate(FEATURES[: Factor.RANK_RETURN_12]):
        ours, theirs = values[:, :, f], expected[feature.name]
        settled = feature.window - 1 + (288 if feature.is_anchored else 0)
        assert np.isnan(ours[:settled]).all(), feature.name
        # A bar that is missing anywhere in the window hides the factor, also where the formula would skip over it.
        is_whole = _roll(~np.isnan(bars[3]), feature.window, np.all) == 1.0
        assert not np.isnan(theirs[is_whole]).any(), feature.name
        theirs = np.where(is_whole, theirs, np.nan)
        # float32 keeps 6e-8; the float64 inside is compared in the next test.
        np.testing.assert_allclose(ours[settled:], theirs[settled:], rtol=1e-7, atol=1e-9, err_msg=feature.name)


def test_float64_inside_agrees_to_1e_9():
    from qraft_quant.features.kernel import advance_kernel
    from qraft_quant.features.state import Bars, new_state

    bars = walk()
    state = new_state(4, first_index=FIRST_INDEX)
    out = np.empty((N_BARS, 4, len(FEATURES)), np.float32)

    advance_kernel()(state, Bars.of(*bars), 0, FIRST_INDEX, out)

    with np.errstate(all="ignore"):
        expected = reference(*bars)
    for f, name in enumerate(FEATURE_NAMES[: Factor.RANK_RETURN_12]):
        np.testing.assert_allclose(state.factors[f], expected[name][-1], rtol=1e-9, atol=1e-13, err_msg=name)


def test_ranks_are_average_ranks_among_valid_symbols():
    bars = walk(n_symbols=7)
    for x in bars:
        x[-5:, 3] = np.nan
    bars[3][:, 5], bars[1][:, 5], bars[2][:, 5], bars[0][:, 5] = (bars[i][:, 4] for i in (3, 1, 2, 0))

    values = compute_history(*bars, FIRST_INDEX)

    for name in ("return_12", "return_288", "volatility_288", "volume_z_288"):
        x, rank = values[-1, :, FEATURE_NAMES.index(name)], values[-1, :, FEATURE_NAMES.index(f"rank_{name}")]
        known = ~np.isnan(x)
        less = (x[:, None] > x[None, known]).sum(axis=1)
        equal = (x[:, None] == x[None, known]).sum(axis=1)
        expected = np.where(known, (less + (equal + 1) / 2 - 0.5) / known.sum(), np.nan)
        np.testing.assert_allclose(rank, expected, rtol=1e-6)
        assert np.isnan(rank[3])


def test_hand_checked_numbers():
    # Closes 100 … 100, then 110 and 99: one bar up by a tenth, one down by a tenth.
    close = np.full((1200, 1), 100.0)
    close[-2], close[-1] = 110.0, 99.0
    open_ = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    volume = np.full(close.shape, 2.0)
    volume[-1] = 6.0

    row = dict(zip(FEATURE_NAMES, compute_history(open_, high, low, close, volume, FIRST_INDEX)[-1, 0], strict=True))

    up, down = math.log(1.1), math.log(0.9)
    assert row["return_1"] == pytest.approx(-0.105360516)
    assert row["return_3"] == pytest.approx(-0.010050336)  # ln 0.99
    assert row["rsi_14"] == pytest.approx((up + down) / (up - down), rel=1e-6)
    assert row["sma_gap_12"] == pytest.approx(math.log(0.99) - math.log(110 * 99 / 100**2) / 12, rel=1e-5)
    assert row["volatility_12"] == pytest.approx(math.sqrt((up**2 + down**2) / 12 - ((up + down) / 12) ** 2), rel=1e-6)
    assert row["signed_volume_48"] == pytest.approx((2 - 6) / (47 * 2 + 6))
    assert row["money_flow_48"] == pytest.approx((2 - 6) / (47 * 2 + 6))
    assert row["range_position_48"] == pytest.approx(-0.5)
    assert row["drawdown_288"] == pytest.approx(math.log(0.9))
    assert row["candle_body"] == pytest.approx(-1.0)
    assert row["close_location"] == pytest.approx(-1.0)
    assert row["range_ratio_48"] == pytest.approx(-down / ((up - down) / 48), rel=1e-6)
    assert row["atr_14"] == pytest.approx((up - down) / 14, rel=1e-6)
    assert row["rank_return_12"] == 0.5


def test_a_series_that_never_moves_has_defined_values():
    price = np.full((WARM_UP_BARS + 10, 2), 3.7)

    values = compute_history(price, price, price, price, np.zeros(price.shape), FIRST_INDEX)[-1]

    expected = [0.5 if name.startswith("rank_") else 0.0 for name in FEATURE_NAMES]
    np.testing.assert_array_equal(values, np.tile(np.float32(expected), (2, 1)))


def test_a_series_that_stops_moving_settles_at_the_same_values():
    o, h, l, c, v = walk(n_bars=2 * WARM_UP_BARS)  # noqa: E741
    for x in (o, h, l, c):
        x[300:] = c[299]
    v[300:] = 0.0

    values = compute_history(o, h, l, c, v, FIRST_INDEX)[300 + 2016 :]

    assert (values[:, :, : Factor.RANK_RETURN_12] == 0.0).all()


def test_prices_scale_away():
    bars = walk()
    scaled = [x * 1024.0 for x in bars[:4]]

    values = compute_history(*bars, FIRST_INDEX)[-1]
    other = compute_history(*scaled, bars[4] / 1024.0, FIRST_INDEX)[-1]

    np.testing.assert_allclose(values, other, rtol=1e-5, atol=1e-7)
