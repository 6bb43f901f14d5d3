"""The measures of an audit on series whose faults were put in by hand."""

from __future__ import annotations

import numpy as np

from qraft_data.audit.measure import coverage, missing_runs, spikes, unit_drift


def test_runs_of_missing_times_are_found_at_both_ends_and_within() -> None:
    owed = np.arange(10, dtype=np.int64) * 5

    first, length = missing_runs(np.array([10, 15, 30, 35, 40], dtype=np.int64), owed)

    assert list(zip(first.tolist(), length.tolist(), strict=True)) == [(0, 2), (4, 2), (9, 1)]


def test_nothing_missing_gives_no_run_and_rows_that_nobody_owed_do_not_count() -> None:
    owed = np.arange(4, dtype=np.int64)

    first, length = missing_runs(np.array([0, 1, 2, 3, 99], dtype=np.int64), owed)

    assert first.size == length.size == 0


def test_coverage_is_a_share_where_rows_are_owed_and_minus_one_elsewhere() -> None:
    owed = np.array([6, 7, 8, 9], dtype=np.int64)

    parts = coverage(np.array([6, 9], dtype=np.int64), owed, start_us=0, end_us=10, n_parts=2)

    assert parts.tolist() == [-1.0, 0.5]


def test_a_bad_tick_is_a_spike_and_a_crash_is_not() -> None:
    rng = np.random.default_rng(7)
    prices = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.001, 1000)))
    prices[400:] *= 0.8  # falls by a fifth and stays there
    assert spikes(prices).size == 0

    prices[700] *= 10.0

    assert spikes(prices).tolist() == [700]


def test_missing_prices_do_not_hide_a_bad_tick() -> None:
    prices = np.full(100, 50.0) * (1.0 + 1e-5 * np.arange(100))
    prices[[10, 41]] = np.nan
    prices[40] = 500.0

    assert spikes(prices).tolist() == [40]


def test_percent_for_fraction_is_a_drift_of_a_hundred() -> None:
    rng = np.random.default_rng(1)
    rates = rng.normal(1e-4, 2e-5, 600)

    assert unit_drift(rates) < 1.5
    rates[300:] *= 100.0
    assert 80.0 < unit_drift(rates) < 120.0


def test_a_short_or_empty_series_has_no_drift() -> None:
    assert unit_drift(np.array([1.0, 1e9])) == unit_drift(np.empty(0)) == 1.0
