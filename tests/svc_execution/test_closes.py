"""The window of closes is a function of the last day of bars alone, however it was reached."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from svc_execution.domain.closes import N_ROWS, CloseWindow, valid_closes


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3 * N_ROWS), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_window_pushed_bar_by_bar_equals_one_loaded_at_its_end(n_loaded, n_pushed, seed):
    rng = np.random.default_rng(seed)
    symbols = ("AAA", "BBB", "NEW")
    closes = rng.uniform(1.0, 2.0, (n_loaded + n_pushed, 3))
    closes[rng.random(closes.shape) < 0.1] = np.nan
    closes[:n_loaded, 2] = np.nan  # NEW comes after the start

    pushed = CloseWindow()
    pushed.load(symbols[:2], closes[:n_loaded, :2], last_index=n_loaded - 1)
    for i in range(n_loaded, n_loaded + n_pushed):
        there = [j for j in range(3) if np.isfinite(closes[i, j])]
        pushed.push(i, [symbols[j] for j in there], closes[i, there])
    loaded = CloseWindow()
    loaded.load(symbols, closes, last_index=n_loaded + n_pushed - 1)

    assert pushed.rows(symbols).tobytes() == loaded.rows(symbols).tobytes()
    assert pushed.symbols() == loaded.symbols()
    assert pushed.last_index == loaded.last_index


def test_unknown_symbol_has_no_closes():
    window = CloseWindow()
    window.load(("AAA",), np.full((3, 1), 5.0), last_index=2)

    rows = window.rows(("AAA", "ZZZ"))

    assert rows.shape == (N_ROWS, 2)
    assert np.isfinite(rows).sum() == 3
    assert np.isnan(rows[:, 1]).all()


def test_window_tells_a_gap():
    window = CloseWindow()
    assert not window.follows(0)
    window.load((), np.empty((0, 0)), last_index=7)

    assert window.follows(8)
    assert not window.follows(9)
    assert not window.follows(7)


def test_close_counts_only_with_a_whole_bar():
    good = np.array([2.0])
    for bad in (np.nan, np.inf, 0.0, -1.0):
        assert np.isnan(valid_closes(np.array([bad]), good, good)[0])
        assert np.isnan(valid_closes(good, np.array([bad]), good)[0])
    assert np.isnan(valid_closes(good, good, np.array([np.nan]))[0])
    assert valid_closes(good, good, np.array([0.0]))[0] == 2.0  # nobody traded, the price stands
