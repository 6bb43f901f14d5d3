"""Lags, windows, longer bars, buckets and the normalizer: values by hand, limits, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from qraft_quant.align import bucket_ends, bucket_sums, expanding_mean, fit_scaler, lag, resample, rolling, windows

STEP = 300_000_000
HOUR = 12 * STEP


def bars(n, *, first=1, n_symbols=2, seed=1):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (n, n_symbols)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.001, close.shape))
    return {
        "closed_at": (np.arange(n) + first) * STEP,
        "open": open_,
        "high": np.maximum(open_, close) * 1.01,
        "low": np.minimum(open_, close) * 0.99,
        "close": close,
        "volume": rng.lognormal(0, 1, close.shape),
    }


def hours(given, **changes):
    arguments = {**given, "interval_us": STEP, "to_us": HOUR, **changes}
    return resample(arguments.pop("closed_at"), **arguments)


def test_lag_holds_the_row_of_n_bars_before():
    x = np.array([[1.0], [2.0], [3.0]])

    assert np.array_equal(lag(x, 1), [[np.nan], [1], [2]], equal_nan=True)
    assert np.array_equal(lag(x, 0), x)
    assert np.isnan(lag(x, 3)).all() and np.isnan(lag(x, 9)).all()


def test_looking_ahead_by_a_negative_lag_is_refused():
    with pytest.raises(ValueError, match="looks ahead"):
        lag(np.ones(3), -1)


def test_window_ends_at_its_row():
    x = np.arange(5.0)

    found = windows(x, 3)

    assert np.array_equal(found[4], [2, 3, 4])
    assert np.array_equal(found[0], [np.nan, np.nan, 0], equal_nan=True)
    assert found.shape == (5, 3) and not found.flags.writeable


def test_rolling_value_does_not_depend_on_where_the_history_began():
    x = np.random.default_rng(0).normal(0, 1, (500, 3)) * 1e6
    x[100] = 1e15

    whole, later = rolling(x, 48, np.mean), rolling(x[200:], 48, np.mean)

    assert np.array_equal(whole[247:], later[47:])
    assert np.isnan(later[:47]).all() and np.isfinite(later[47:]).all()
    assert np.isnan(rolling(x[:10], 48, np.mean)).all()


def test_expanding_mean_leaves_out_what_is_missing():
    x = np.array([np.nan, 2.0, np.nan, 4.0])

    assert np.array_equal(expanding_mean(x), [np.nan, 2, 2, 3], equal_nan=True)


@pytest.mark.parametrize("bad", [lambda: windows(np.ones(3), 0), lambda: lag(np.arange(3), 1)])
def test_senseless_windows_and_integers_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        bad()


def test_longer_bar_by_hand():
    given = bars(24)

    found = hours(given)

    assert found.closed_at.tolist() == [HOUR, 2 * HOUR]
    second = slice(12, 24)
    assert np.array_equal(found.open[1], given["open"][12])
    assert np.array_equal(found.close[1], given["close"][23])
    assert np.array_equal(found.high[1], given["high"][second].max(axis=0))
    assert np.array_equal(found.low[1], given["low"][second].min(axis=0))
    assert found.volume[1] == pytest.approx(given["volume"][second].sum(axis=0))
    assert (found.n_known == 12).all()


def test_longer_bar_is_not_there_before_its_end():
    given = bars(40)

    for n in range(1, 40):
        short = hours({name: values[:n] for name, values in given.items()})
        assert short.closed_at.tolist() == [HOUR * k for k in range(1, n // 12 + 1)]
        assert np.array_equal(short.close, hours(given).close[: n // 12])


def test_longer_bar_that_began_before_the_history_is_left_out():
    late = bars(40, first=5)

    assert hours(late).closed_at.tolist() == [2 * HOUR, 3 * HOUR]
    assert (hours(late).n_known == 12).all()


def test_missing_short_bars_are_counted_and_the_others_make_the_bar():
    given = bars(24)
    for name in ("open", "high", "low", "close", "volume"):
        given[name][3:5, 0] = np.nan
        given[name][:12, 1] = np.nan

    found = hours(given)

    assert found.n_known.tolist() == [[10, 0], [12, 12]]
    assert np.isnan(found.close[0, 1]) and found.close[0, 0] == given["close"][11, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to_us": STEP}, "multiple"),
        ({"to_us": HOUR + 1}, "multiple"),
        ({"closed_at": (np.arange(24) + 1) * STEP + 1}, "multiples of"),
        ({"closed_at": np.full(24, STEP)}, "strictly ascending"),
        ({"close": np.ones((23, 2))}, "five arrays"),
    ],
)
def test_bars_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        hours(bars(24), **changes)


def test_history_without_bars_has_no_longer_bars():
    assert hours({name: values[:0] for name, values in bars(3).items()}).closed_at.size == 0


def test_item_at_the_end_of_a_bucket_is_in_it():
    at = np.array([0, 1, STEP - 1, STEP, STEP + 1], dtype=np.int64)

    assert bucket_ends(at, STEP).tolist() == [0, STEP, STEP, STEP, 2 * STEP]


def test_buckets_count_and_add_by_key_what_became_known_in_them():
    known_at = np.array([10, STEP, STEP + 5, 2 * STEP, 9 * STEP], dtype=np.int64)
    values = np.array([[1.0], [np.nan], [4.0], [8.0], [99.0]])
    ends = np.array([1, 2, 3]) * STEP

    found = bucket_sums(known_at, values, ends=ends, bucket_us=STEP, key=np.array([0, 0, 1, 0, 0]), n_keys=2)

    assert found.n_items.tolist() == [[2, 0], [1, 1], [0, 0]]
    assert found.sums[:, :, 0].tolist() == [[1.0, 0.0], [8.0, 4.0], [0.0, 0.0]]
    assert found.n_known[:, :, 0].tolist() == [[1, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known_at": np.array([2, 1])}, "known_at: expected ascending"),
        ({"ends": np.array([STEP + 1])}, "multiples of bucket_us"),
        ({"ends": np.array([2, 2]) * STEP}, "strictly ascending"),
        ({"values": np.ones((3, 1))}, "values"),
        ({"key": np.array([0, 2]), "n_keys": 2}, "key"),
        ({"key": np.array([0, -1])}, "key"),
    ],
)
def test_items_that_do_not_fit_are_refused(changes, message):
    arguments = {"known_at": np.array([1, 2]), "values": np.ones((2, 1)), "ends": np.array([STEP]), **changes}

    with pytest.raises(ValueError, match=message):
        bucket_sums(arguments.pop("known_at"), arguments.pop("values"), bucket_us=STEP, **arguments)


def test_scaler_knows_its_window_alone():
    at = np.arange(10) * STEP
    x = np.arange(10.0)[:, None] * [1.0, 0.0]
    x[2, 0] = np.nan

    scaler = fit_scaler(x, at, after=0, until=4 * STEP)
    changed = fit_scaler(np.where(np.arange(10)[:, None] > 4, 1e9, x), at, after=0, until=4 * STEP)

    assert scaler.center[0] == pytest.approx((1 + 3 + 4) / 3)
    assert scaler.n_known.tolist() == [3, 4]
    assert np.array_equal(changed.center, scaler.center) and np.array_equal(changed.spread, scaler.spread)
    scaled = scaler.apply(x[4:], at[4:])
    assert scaled[0, 0] == pytest.approx((4 - scaler.center[0]) / scaler.spread[0])
    assert (scaled[:, 1] == 0.0).all()


def test_scaler_refuses_rows_from_before_it_was_known():
    at = np.arange(10) * STEP
    x = np.arange(10.0)[:, None]
    scaler = fit_scaler(x, at, after=-1, until=4 * STEP)

    with pytest.raises(ValueError, match="was not known then"):
        scaler.apply(x[3:], at[3:])
    assert scaler.apply(x[:5], at[:5], in_sample=True).mean() == pytest.approx(0.0)


def test_scaler_needs_known_values_of_every_column():
    at = np.arange(3) * STEP

    with pytest.raises(ValueError, match=r"none of \[1\]"):
        fit_scaler(np.array([[1.0, np.nan]] * 3), at, after=-1, until=2 * STEP)
    with pytest.raises(ValueError, match="expected known values"):
        fit_scaler(np.ones((3, 1)), at, after=5 * STEP, until=9 * STEP)
