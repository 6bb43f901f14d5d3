"""The whole proof: it passes what is honest, names what is not, and its controls are all caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from qraft_quant import align
from qraft_quant.features import SETS, FeatureSet
from qraft_quant.proof import BarInputs, ControlProof, Output, Subject, Table, prove_all, prove_subject
from qraft_quant.proof.everything import bars_needed
from qraft_quant.proof.registered import registered_features
from qraft_quant.proof.subjects import BARS, EVENTS, OHLCV, ProvenFeatures, cut_rows

STEP = 300_000_000
FIRST_INDEX = 5_800_003
PLANTED = (
    "whole-frame z-score",
    "shift(-1)",
    "forward join",
    "late revision joined by event time",
    "expanding mean from the end",
    "last value",
    "full mean",
)


def random_bars(n, *, n_symbols=3, seed=2):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n, n_symbols)), axis=0))
    open_ = close * np.exp(rng.normal(0, 1e-3, close.shape))
    values = {
        "open": open_,
        "high": np.maximum(open_, close) * np.exp(rng.exponential(5e-4, close.shape)),
        "low": np.minimum(open_, close) * np.exp(-rng.exponential(5e-4, close.shape)),
        "close": close,
        "volume": rng.lognormal(3, 1, close.shape),
    }
    return BarInputs((np.arange(n) + FIRST_INDEX) * STEP, values, STEP)


def small_features(*extra, inputs=OHLCV, warm_up_bars=24):
    """A set of two honest features and whatever a test adds: functions of (inputs, first index)."""
    columns = (log_return, range_mean, *extra)

    def compute(values, first_index):
        with np.errstate(all="ignore"):
            return np.stack([column(values, first_index) for column in columns], axis=2).astype(np.float32)

    return ProvenFeatures(tuple(column.__name__ for column in columns), "s", inputs, warm_up_bars, compute)


def log_return(values, _):
    return np.log(values["close"] / align.lag(values["close"], 1))


def range_mean(values, _):
    return align.rolling(np.log(values["high"] / values["low"]), 24, np.mean)


def prove(features, *, n=700, more=(), bars=None):
    return prove_all(bars or random_bars(n), features, horizon_bars={"1h": 12}, seed=7, more=more)


@pytest.fixture(scope="module")
def registered():
    """The proof of every registered feature; the check that a new one meets first."""
    every = {spec.name: spec for features in SETS.values() for spec in features.features}
    features = registered_features(FeatureSet("every", tuple(every.values())), interval="5m")
    return features, prove_all(
        random_bars(features.warm_up_bars + 2_200), features, horizon_bars={"1h": 12, "4h": 48, "1d": 288}, seed=7
    )


def test_every_registered_feature_label_and_part_of_the_aligner_is_proven(registered):
    features, proof = registered

    assert proof.failed == ()
    assert [column.name for kind, column in proof.columns if kind == "feature"] == list(features.names)
    assert [column.name for kind, column in proof.columns if kind == "warm_up"] == list(features.names)
    assert {kind for kind, _ in proof.columns} == {
        "feature", "warm_up", "label", "lag", "join", "normalizer", "resample", "text_bucket", "derived",
    }  # fmt: skip
    assert proof.starts == (200, 500, 1_000, 2_000)
    assert {cut // STEP % 12 for cut in proof.cut_offs} == {1, 3, 6, 8, 10, 11}


def test_every_column_reads_what_was_corrupted(registered):
    """A check that cannot fail is none: what never moves with the future cannot show that it leaks from it."""
    still = [f"{kind} {column.name}" for kind, column in registered[1].columns if not column.n_moved]

    # The warm-up check corrupts nothing. A calendar reads the clock alone.
    assert [name for name in still if not name.startswith("warm_up ") and "calendar" not in name] == []


@pytest.mark.parametrize("name", PLANTED)
def test_planted_leak_is_caught_by_each_corruption(registered, name):
    (control,) = [control for control in registered[1].controls if control.name == name]

    assert control.is_leak and control.passed
    assert set(control.caught_by) >= {"nan", "shuffle", "noise"}


def test_all_controls_give_their_known_answers_and_some_are_honest(registered):
    controls = registered[1].controls

    assert all(control.passed for control in controls)
    assert sum(control.is_leak for control in controls) >= 12
    assert "expanding mean" in [control.name for control in controls if not control.is_leak]


@pytest.mark.parametrize(
    ("is_leak", "n_checks", "caught_by", "passed"),
    [
        (True, 24, ("nan",), True),
        (True, 24, (), False),
        (False, 24, (), True),
        (False, 24, ("nan",), False),
        (False, 0, (), False),
    ],
)
def test_control_passes_with_its_known_answer_on_something_compared(is_leak, n_checks, caught_by, passed):
    assert ControlProof("c", is_leak, n_checks, caught_by).passed is passed


def test_same_bars_and_seed_give_the_same_proof():
    assert prove(small_features()) == prove(small_features())


def next_close(values, _):
    return np.log(align.lag(values["close"][::-1], 1)[::-1])


def column_z_score(values, _):
    return (values["close"] - np.nanmean(values["close"])) / np.nanstd(values["close"])


def length_of_history(values, _):
    return np.arange(len(values["close"]))[:, None] / len(values["close"]) + 0.0 * values["close"]


@pytest.mark.parametrize("leak", [next_close, column_z_score, length_of_history])
def test_feature_that_looks_ahead_is_named_alone(leak):
    proof = prove(small_features(leak))

    assert not proof.passed
    assert {name.removeprefix("warm_up ").removeprefix("feature ") for name in proof.failed} == {leak.__name__}
    assert f"feature {leak.__name__}" in proof.failed


def endless_sum(values, _):
    return np.nancumsum(np.log(values["close"]), axis=0)


def counted_rows(values, _):
    """Another value in every 97th row since the first: long after the warm-up, and nowhere near its end."""
    return np.log(values["close"]) + (np.arange(len(values["close"])) % 97 == 96)[:, None]


@pytest.mark.parametrize("memory", [endless_sum, counted_rows])
def test_feature_that_remembers_its_first_row_fails_the_warm_up_alone(memory):
    assert prove(small_features(memory)).failed == (f"warm_up {memory.__name__}",)


def blind(values, _):
    return np.full(values["close"].shape, np.nan)


def test_feature_of_which_nothing_is_known_is_not_proven():
    assert prove(small_features(blind)).failed == ("feature blind", "warm_up blind")


def funding(values, _):
    return values["funding_rate"]


def next_funding(values, _):
    return align.lag(values["funding_rate"][::-1], 1)[::-1]


def test_input_that_the_bars_lack_is_stimulated_and_said_so():
    proof = prove(small_features(funding, next_funding, inputs=(*OHLCV, "funding_rate")))

    assert proof.stimulated == ("funding_rate",)
    assert "feature funding" not in proof.failed and "feature next_funding" in proof.failed
    leak = next(column for _, column in proof.columns if column.name == "next_funding")
    assert {failure.split(" ")[0] for failure in leak.failures} == {"nan", "shuffle", "noise", "end"}
    assert next(column for _, column in proof.columns if column.name == "funding").n_moved > 0


def test_input_that_the_bars_have_is_left_as_it_is():
    bars = random_bars(700)
    bars = dataclasses.replace(bars, values={**bars.values, "funding_rate": np.full((700, 3), 1e-4)})

    assert prove(small_features(funding, inputs=(*OHLCV, "funding_rate")), bars=bars).stimulated == ()


def test_join_of_a_service_is_proven_beside_the_others():
    def by_event_time(tables):
        bars, events = tables[BARS], tables[EVENTS]
        order = np.argsort(events["event_at"], kind="stable")
        joined = align.as_of_join(bars.known_at, events["event_at"][order], events["value"][order])
        return Output(bars.known_at, ("news",), joined[:, None])

    assert prove(small_features(), more=[Subject("join", by_event_time)]).failed == ("join news",)


def test_rows_that_vanish_or_appear_are_a_leak():
    def knows_how_many(tables):
        table = tables["t"]
        keep = slice(0, None) if np.isfinite(table["x"]).all() else slice(1, None)
        return Output(table.known_at[keep], ("x",), table["x"][keep, None])

    table = Table(np.arange(40, dtype=np.int64), {"x": np.linspace(1, 2, 40)})

    (column,) = prove_subject(knows_how_many, {"t": table}, cut_offs=(16, 23, 31), seed=1).columns

    assert column.failures == tuple(f"nan after {cut}: rows vanished or appeared" for cut in (16, 23, 31))


def test_row_that_is_there_before_it_is_over_is_a_leak():
    def ends_later(tables):
        table = tables["t"]
        return Output(table.known_at + 1, ("x",), table["x"][:, None])

    table = Table(np.arange(40, dtype=np.int64), {"x": np.linspace(1, 2, 40)})

    (column,) = prove_subject(ends_later, {"t": table}, cut_offs=(16,), seed=1).columns

    assert column.failures == ("a row at 40, when nothing was known after 39",)


def test_new_nan_and_the_sign_of_zero_are_differences():
    def signed(tables):
        table = tables["t"]
        is_whole = np.isfinite(table["x"]).all()
        values = np.where(np.arange(len(table)) == 3, 0.0 if is_whole else -0.0, 1.0)
        values[4:5] = 1.0 if is_whole else np.nan
        return Output(table.known_at, ("x",), values[:, None])

    table = Table(np.arange(40, dtype=np.int64), {"x": np.linspace(1, 2, 40)})

    for cut, n_differing in ((2, 0), (3, 1), (4, 1)):
        (column,) = prove_subject(signed, {"t": table}, cut_offs=(cut,), seed=1).columns
        assert [failure for failure in column.failures if "nan" in failure] == [f"nan after {cut}"] * n_differing


@pytest.mark.parametrize("n", [0, 1])
def test_single_timestamp_proves_nothing(n):
    table = Table(np.arange(n, dtype=np.int64), {"x": np.ones(n)})

    with pytest.raises(ValueError, match="at least two times"):
        prove_subject(
            lambda t: Output(t["t"].known_at, ("x",), t["t"]["x"][:, None]), {"t": table}, cut_offs=(0,), seed=1
        )


@pytest.mark.parametrize("cut_offs", [(), (39,), (-1,), tuple(range(65))])
def test_cut_offs_need_a_past_and_a_future_and_a_limit(cut_offs):
    table = Table(np.arange(40, dtype=np.int64), {"x": np.ones(40)})

    with pytest.raises(ValueError, match="cut-offs"):
        prove_subject(
            lambda t: Output(t["t"].known_at, ("x",), t["t"]["x"][:, None]), {"t": table}, cut_offs=cut_offs, seed=1
        )


def test_history_that_is_too_short_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match=f"at least {bars_needed(24)} bars.*received 200"):
        prove(small_features(), n=200)


@pytest.mark.parametrize("first_index", [0, 5, 11])
def test_cut_rows_lie_on_all_residues_and_inside(first_index):
    rows = cut_rows(600, first_row=60, first_index=first_index, fracs=(0.0, 0.2, 0.4, 0.6, 0.8, 0.999))

    assert [(row + first_index) % 12 for row in rows] == [1, 6, 11, 3, 8, 10]
    assert all(60 <= row < 599 for row in rows)


def test_cut_rows_need_room():
    with pytest.raises(ValueError, match="behind row"):
        cut_rows(40, first_row=30, first_index=0, fracs=(0.5,))
