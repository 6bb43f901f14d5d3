"""What corrupting the future does, and that it leaves the past and the possible as they were."""

from __future__ import annotations

import numpy as np
import pytest

from qraft_quant.proof import CORRUPTIONS, Table
from qraft_quant.proof.perturb import corrupt

N, CUT = 200, 120


@pytest.fixture
def tables():
    rng = np.random.default_rng(8)
    known_at = np.sort(rng.integers(1_000, 9_000, N))
    known_at[CUT : CUT + 3] = known_at[CUT]  # what is known at the same instant falls on one side
    close = rng.lognormal(0, 1, (N, 2))
    return {
        "bars": Table(np.arange(N) * 50, {"close": close, "high": close * 1.1}),
        "events": Table(
            known_at,
            {
                "event_at": np.maximum(known_at - rng.integers(0, 400, N), 0),
                "symbol": rng.integers(0, 5, N),
                "value": rng.normal(0, 1, N),
            },
        ),
    }


@pytest.mark.parametrize("how", CORRUPTIONS)
def test_past_is_left_as_it_is_and_the_tables_too(tables, how):
    before = {name: {k: v.copy() for k, v in table.columns.items()} for name, table in tables.items()}
    cut = int(tables["events"].known_at[CUT])

    dirty = corrupt(tables, cut, how=how, seed=1)

    for name, table in tables.items():
        n = int((table.known_at <= cut).sum())
        assert 0 < n < N
        for column, values in table.columns.items():
            assert np.array_equal(values, before[name][column], equal_nan=True)
            assert np.array_equal(dirty[name][column][:n], values[:n])
            assert column == "symbol" or how == "end" or not np.array_equal(dirty[name][column][n:], values[n:])
        kept = len(dirty[name])
        assert kept == (n if how == "end" else N)
        assert np.array_equal(dirty[name].known_at, table.known_at[:kept])


@pytest.mark.parametrize("how", ["nan", "shuffle", "noise"])
def test_events_are_never_known_before_they_happen(tables, how):
    dirty = corrupt(tables, 4_000, how=how, seed=1)["events"]

    assert (dirty["event_at"] <= dirty.known_at).all() and (dirty["event_at"] >= 0).all()


def test_unknown_future_events_are_as_new_as_can_be(tables):
    dirty = corrupt(tables, 4_000, how="nan", seed=1)["events"]
    later = dirty.known_at > 4_000

    assert np.array_equal(dirty["event_at"][later], dirty.known_at[later])
    assert np.isnan(dirty["value"][later]).all()


@pytest.mark.parametrize("how", ["shuffle", "noise"])
def test_bars_stay_bars(tables, how):
    dirty = corrupt(tables, 5_000, how=how, seed=1)["bars"]

    assert dirty["high"] == pytest.approx(dirty["close"] * 1.1, rel=1e-12)


def test_shuffled_rows_move_as_a_whole(tables):
    dirty, clean = corrupt(tables, 4_000, how="shuffle", seed=1)["events"], tables["events"]
    rows = {(value, symbol) for value, symbol in zip(clean["value"], clean["symbol"], strict=True)}

    assert {(value, symbol) for value, symbol in zip(dirty["value"], dirty["symbol"], strict=True)} == rows
    assert not np.array_equal(dirty["symbol"], clean["symbol"])


def test_corruption_depends_on_seed_and_cut_off_alone(tables):
    first, again, other = (corrupt(tables, 4_000, how="noise", seed=seed)["events"]["value"] for seed in (1, 1, 2))

    assert np.array_equal(first, again) and not np.array_equal(first, other)
