"""Missing and impossible bars, the contract, and the edges of the engine."""

from __future__ import annotations

import numpy as np
import pytest

from qraft_quant.features import (
    FEATURE_NAMES,
    FEATURES,
    WARM_UP_BARS,
    OnlineFeatures,
    catalog,
    compute_history,
    feature_signature,
    kernel,
)
from qraft_quant.features.layout import ANCHOR_BARS, FIRST_RANK, Factor, LongSum, ShortSum, sum_table
from qraft_quant.features.logarithm import log

FIRST_INDEX = 4_000
N_BARS = 3 * WARM_UP_BARS
GAP = WARM_UP_BARS + 100  # row


def bars_with(*, n_bars=N_BARS, n_symbols=2, seed=4):
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, (n_bars, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]])
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    return [open_, high, low, close, rng.lognormal(0, 1, close.shape)]


def _impossible(bars, row, how):
    o, h, l, c, v = (values[row, 0] for values in bars)  # noqa: E741
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
def test_a_row_that_is_no_bar_hides_its_windows_and_no_more(how):
    bars = bars_with()
    whole = compute_history(*bars, FIRST_INDEX)
    for values, odd in zip(bars, _impossible(bars, GAP, how), strict=True):
        values[GAP, 0] = odd

    values = compute_history(*bars, FIRST_INDEX)

    for f, feature in enumerate(FEATURES):
        hidden = np.isnan(values[WARM_UP_BARS:, 0, f])
        expected = np.zeros(hidden.shape, dtype=bool)
        expected[GAP - WARM_UP_BARS : GAP - WARM_UP_BARS + feature.window] = True
        np.testing.assert_array_equal(hidden, expected, err_msg=feature.name)
    np.testing.assert_array_equal(values[WARM_UP_BARS:, 1, :FIRST_RANK], whole[WARM_UP_BARS:, 1, :FIRST_RANK])


def test_after_a_gap_the_values_are_those_of_a_history_without_one():
    bars = bars_with()
    whole = compute_history(*bars, FIRST_INDEX)
    for values in bars:
        values[GAP : GAP + 3, 0] = np.nan

    values = compute_history(*bars, FIRST_INDEX)

    # Anchored after the gap has left the longest window, even the last bit is the same again.
    settled = GAP + 3 + WARM_UP_BARS
    np.testing.assert_array_equal(values[settled:], whole[settled:])
    recovered = ~np.isnan(values)
    recovered[:, :, FIRST_RANK:] = False  # the neighbour's rank does change while this symbol has none
    assert recovered[GAP + 60, 0].sum() > 10
    np.testing.assert_allclose(values[recovered], whole[recovered], rtol=1e-5, atol=1e-6)


def test_huge_values_leave_no_trace_once_they_are_gone():
    bars = bars_with()
    whole = compute_history(*bars, FIRST_INDEX)
    for values in bars[:4]:
        values[GAP, 0] *= 1e6
    bars[4][GAP, 0] = 1e15

    values = compute_history(*bars, FIRST_INDEX)

    settled = GAP + 1 + WARM_UP_BARS
    np.testing.assert_array_equal(values[settled:, :, :FIRST_RANK], whole[settled:, :, :FIRST_RANK])


def test_online_says_which_rows_were_bars():
    bars = bars_with(n_bars=60)
    online = OnlineFeatures(2)
    online.warm_up(*bars, FIRST_INDEX)
    row = [values[-1].copy() for values in bars]
    row[1][1] = row[2][1] / 2  # high below low

    online.step(*row, index=FIRST_INDEX + 60)

    assert online.is_valid.tolist() == [True, False]


def test_a_bar_out_of_turn_is_refused():
    bars = bars_with(n_bars=10)
    online = OnlineFeatures(2)
    row = [values[0] for values in bars]

    with pytest.raises(ValueError, match="warm-up first"):
        online.step(*row, index=FIRST_INDEX)
    online.warm_up(*bars, FIRST_INDEX)
    for index in (FIRST_INDEX + 9, FIRST_INDEX + 11):
        with pytest.raises(ValueError, match="expected grid index 4010"):
            online.step(*row, index=index)


def test_empty_and_single_row_histories_have_the_right_shape():
    for n_bars in (0, 1):
        empty = [np.empty((n_bars, 3)) for _ in range(5)]

        assert compute_history(*empty, 0).shape == (n_bars, 3, len(FEATURE_NAMES))


def test_inputs_of_other_layouts_give_the_same_values():
    bars = bars_with(n_bars=700)

    expected = compute_history(*bars, FIRST_INDEX)
    received = compute_history(*(np.asfortranarray(values) for values in bars), FIRST_INDEX)

    np.testing.assert_array_equal(received, expected)


def test_the_catalogue_and_the_layout_name_the_same_factors():
    assert tuple(factor.name.lower() for factor in Factor) == FEATURE_NAMES
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == 44
    assert max(feature.window for feature in FEATURES) - 1 + ANCHOR_BARS == WARM_UP_BARS == 2304
    assert {feature.family for feature in FEATURES} == {
        "trend", "momentum", "volatility", "volume", "position", "candle", "rank",
    }  # fmt: skip


def test_no_two_sums_are_anchored_at_the_same_bar():
    phases = [int(row[2]) for sums in (LongSum, ShortSum) for row in sum_table(sums)]

    assert len(set(phases)) == len(phases)
    assert all(0 <= phase < ANCHOR_BARS for phase in phases)


def test_the_signature_names_the_set_and_the_interval(monkeypatch):
    signature = feature_signature("5m")

    assert len(signature) == 64
    assert feature_signature("1h") != signature
    monkeypatch.setattr(catalog, "FEATURES", FEATURES[::-1])
    assert feature_signature.__wrapped__("5m") != signature


def test_the_signature_of_today():
    # Changes whenever a name, an order, a formula, a window or a version does: models of before are refused then.
    assert feature_signature("5m") == "4bfcc137f8d89158c83d8585c48aa462d4a5f7ee8101aeae5bbcbedcbc5427e1"


def test_the_kernel_cache_key_holds_the_sources():
    closure = kernel.advance_kernel().py_func.__closure__

    assert kernel.sources_digest() in [cell.cell_contents for cell in closure]


def test_log_is_right_to_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0.5, 2, 2_000), 10 ** rng.uniform(-29, 29, 2_000), 1 + rng.normal(0, 1e-7, 500)])

    ours = np.array([log(value) for value in x])

    assert log(1.0) == 0.0
    assert np.all(np.abs(ours - np.log(x)) <= np.spacing(np.abs(np.log(x))))
