"""Missing and impossible bars, absent inputs, the calendar, and the edges of the engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.libs.quant.features.market import FIRST_INDEX, rows, sha256, walk

from qraft_quant.features import CORE, FULL, STATE_INPUTS, FeatureSet, FeatureSpec, OnlineFeatures, compute_history
from qraft_quant.features.logarithm import log
from qraft_quant.features.machine import machine, sources_digest
from qraft_quant.features.waves import Waves

WARM_UP_BARS = FULL.warm_up_bars
N_BARS = 2 * WARM_UP_BARS + 400
GAP = WARM_UP_BARS + 100  # row
ACROSS = np.array(["cross_" in feature.formula for feature in FULL.features])
READS_ALL = [  # features that read every bar of their window, so a hole anywhere in it hides them
    f for f, feature in enumerate(FULL.features)
    if not {"delta", "lag"} & set(feature.formula.replace("(", " ").split())
    and not feature.inputs & set(STATE_INPUTS) and not ACROSS[f] and feature.family != "calendar"
    and feature.formula != "r"
]  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    bars = walk(n_bars=N_BARS, n_symbols=2)
    return bars, compute_history(bars, FIRST_INDEX, features=FULL)


def _impossible(bars, how):
    o, h, l, c, v = (bars[name][GAP, 0] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    return {
        "nan close": (o, h, l, np.nan, v),
        "nan volume": (o, h, l, c, np.nan),
        "infinite high": (o, np.inf, l, c, v),
        "zero low": (o, h, 0.0, c, v),
        "negative open": (-o, h, l, c, v),
        "high below low": (o, l, h, c, v),
        "close above high": (o, h, l, 2 * h, v),
        "negative volume": (o, h, l, c, -1.0),
        "overflow": (o, h, l, c, 1e308),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "nan close", "nan volume", "infinite high", "zero low", "negative open", "high below low", "close above high",
        "negative volume", "overflow",
    ],
)  # fmt: skip
def test_a_row_that_is_no_bar_hides_its_windows_and_no_more(whole, how):
    bars, expected = whole
    dirty = {name: values.copy() for name, values in bars.items()}
    for name, odd in zip(bars, _impossible(bars, how), strict=True):
        dirty[name][GAP, 0] = odd

    values = compute_history(dirty, FIRST_INDEX, features=FULL)

    assert np.isnan(values[GAP, 0]).all()
    for f in READS_ALL:
        hidden = np.flatnonzero(np.isnan(values[WARM_UP_BARS:, 0, f])) + WARM_UP_BARS
        np.testing.assert_array_equal(hidden, np.arange(GAP, GAP + FULL.features[f].window))
    # Once the row has left every window, and for the other symbol all along, nothing is left of it.
    later = GAP + FULL.warm_up_bars + 1
    assert len(READS_ALL) > 80
    assert sha256(values[later:]) == sha256(expected[later:])
    assert sha256(values[:, 1][:, ~ACROSS]) == sha256(expected[:, 1][:, ~ACROSS])


def test_no_feature_of_a_bar_is_missing_after_the_warm_up_though_no_state_input_is_there(whole):
    _, values = whole

    assert np.isfinite(values[WARM_UP_BARS:]).all()
    by_name = {name: values[WARM_UP_BARS:, :, f] for f, name in enumerate(FULL.names)}
    assert (by_name["funding_missing"] == 1.0).all() and (by_name["funding_z_2016"] == 0.0).all()


def test_a_state_input_that_is_there_is_used_and_its_holes_are_filled_and_flagged():
    bars = walk(n_bars=600, n_symbols=2, with_state=True)
    bars["funding_rate"][500:510] = np.nan
    bars["funding_rate"][520] = np.inf
    features = FeatureSet("s", tuple(f for f in FULL.features if f.name in (
        "funding_rate", "funding_missing", "funding_change_96")))  # fmt: skip

    values = compute_history(bars, FIRST_INDEX, features=features)

    holes = np.isin(np.arange(600), [*range(500, 510), 520])
    assert features.names == ("funding_rate", "funding_change_96", "funding_missing")
    np.testing.assert_array_equal(values[holes][..., 0], 0.0)
    np.testing.assert_array_equal(values[~holes][..., 0], bars["funding_rate"][~holes].astype(np.float32))
    np.testing.assert_array_equal(values[:, 0, 2], holes)
    assert np.isnan(values[:96, :, 1]).all()  # what is filled is still hidden until its window has been seen
    np.testing.assert_array_equal(values[606 - 10 :, :, 1], 0.0)


def test_a_filled_value_never_changes_with_more_history():
    bars = walk(n_bars=400, n_symbols=2, with_state=True)
    features = FeatureSet("s", (FeatureSpec("f", "t", "fill(zscore(funding_rate, 100), 0)"),))

    long = compute_history(bars, FIRST_INDEX, features=features)
    short = compute_history(rows(bars, 150), FIRST_INDEX + 150, features=features)

    assert np.isnan(short[:99]).all()
    assert sha256(short[99:]) == sha256(long[249:])


def test_too_large_a_value_is_missing_and_never_infinite():
    bars = walk(n_bars=50)
    features = FeatureSet("s", (FeatureSpec("f", "t", "close * 1e30 * 1e30"), FeatureSpec("g", "t", "1 / close")))

    values = compute_history(bars, FIRST_INDEX, features=features)

    assert np.isnan(values[..., 0]).all() and np.isfinite(values[..., 1]).all()


def test_a_feature_in_a_line_is_computed_with_the_others():
    bars = walk(n_bars=300)
    features = FeatureSet("mine", (*CORE.features, FeatureSpec("mine", "own", "log(close) - mean(log(close), 60)")))

    values = compute_history(bars, FIRST_INDEX, features=features)

    x = np.log(bars["close"])
    np.testing.assert_allclose(values[-1, :, -1], x[-1] - x[-60:].mean(axis=0), rtol=1e-6)
    assert sha256(values[..., :44]) == sha256(compute_history(bars, FIRST_INDEX, features=CORE))


def test_the_clock_of_other_grids_is_right():
    features = FeatureSet("s", (FeatureSpec("a", "t", "hour_cos()"), FeatureSpec("b", "t", "week_sin()")))
    for interval, seconds in (("1m", 60), ("1h", 3_600), ("8h", 28_800), ("1d", 86_400)):
        bars = walk(n_bars=50, n_symbols=1)

        values = compute_history(bars, 12_345, features=features, interval=interval)

        at = (12_345 + np.arange(50)) * seconds
        np.testing.assert_allclose(values[:, 0, 0], np.cos(2 * np.pi * at / 86_400), atol=1e-6)
        np.testing.assert_allclose(values[:, 0, 1], np.sin(2 * np.pi * (at / 604_800 + 3 / 7)), atol=1e-6)


def test_waves_are_right_to_the_last_place_and_exact_at_quarters():
    waves = Waves()
    start, step, n = waves.add(period_s=604_800, interval_s=300, is_cosine=False, offset_s=0)
    table = waves.table()[start : start + n]

    assert (step, n) == (1, 2016)
    np.testing.assert_allclose(table, np.sin(2 * np.pi * np.arange(n) / n), atol=5e-16)
    assert table[[0, n // 4, n // 2, 3 * n // 4]].tolist() == [0.0, 1.0, 0.0, -1.0]


def test_an_interval_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected an interval such as"):
        OnlineFeatures(1, features=CORE, interval="5x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars: bars.pop("volume"), r"absent: \['volume'\]"),
        (lambda bars: bars.update(mood=bars["close"]), r"unknown: \['mood'\]"),
        (lambda bars: bars.update(volume=bars["volume"][:-1]), "one shape"),
        (lambda bars: bars.update(basis_frac=bars["close"][:, :1]), "one shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    bars = walk(n_bars=10)
    change(bars)

    with pytest.raises(ValueError, match=message):
        compute_history(bars, FIRST_INDEX, features=CORE)


def test_empty_and_single_row_histories_have_the_right_shape():
    for shape in ((0, 3), (1, 3), (4, 0)):
        bars = dict.fromkeys(("open", "high", "low", "close", "volume"), np.ones(shape))

        assert compute_history(bars, 0, features=CORE).shape == (*shape, 44)


def test_inputs_of_other_layouts_give_the_same_values():
    bars = walk(n_bars=700)

    expected = compute_history(bars, FIRST_INDEX, features=CORE)
    received = compute_history({k: np.asfortranarray(v) for k, v in bars.items()}, FIRST_INDEX, features=CORE)

    assert sha256(received) == sha256(expected)


def test_hand_checked_numbers():
    # Closes 100 … 100, then 110 and 99: one bar up by a tenth, one down by a tenth.
    close = np.full((1200, 1), 100.0)
    close[-2], close[-1] = 110.0, 99.0
    open_ = np.concatenate([close[:1], close[:-1]])
    volume = np.full(close.shape, 2.0)
    volume[-1] = 6.0
    bars = {"open": open_, "high": np.maximum(open_, close), "low": np.minimum(open_, close), "close": close}

    values = compute_history(bars | {"volume": volume}, FIRST_INDEX, features=CORE)
    row = dict(zip(CORE.names, values[-1, 0], strict=True))

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


def test_core_of_a_market_that_never_moves_is_zero():
    price = np.full((WARM_UP_BARS + 10, 2), 3.7)
    bars = dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": np.zeros(price.shape)}

    values = compute_history(bars, FIRST_INDEX, features=CORE)[-1]

    expected = [0.5 if name.startswith("rank_") else 0.0 for name in CORE.names]
    np.testing.assert_array_equal(values, np.tile(np.float32(expected), (2, 1)))


def test_prices_scale_away():
    bars = walk(n_bars=WARM_UP_BARS + 40)
    scaled = {name: values * (1 / 1024.0 if name == "volume" else 1024.0) for name, values in bars.items()}
    # Fixed-width weights of a fractional difference do not add up to 0: a part of the level stays.
    kept = [f for f, feature in enumerate(FULL.features) if "frac_diff(log(close)" not in feature.formula]

    values, other = (compute_history(b, FIRST_INDEX, features=FULL)[-1][:, kept] for b in (bars, scaled))

    np.testing.assert_allclose(values, other, rtol=2e-5, atol=1e-6)


def test_the_kernel_cache_key_holds_the_sources():
    closure = machine().py_func.__closure__

    assert sources_digest() in [cell.cell_contents for cell in closure]


def test_log_is_right_to_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0.5, 2, 2_000), 10 ** rng.uniform(-29, 29, 2_000), 1 + rng.normal(0, 1e-7, 500)])

    ours = np.array([log(value) for value in x])

    assert log(1.0) == 0.0
    assert np.all(np.abs(ours - np.log(x)) <= np.spacing(np.abs(np.log(x))))
