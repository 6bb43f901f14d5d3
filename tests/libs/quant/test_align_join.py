"""As-of joins: against a slow reading of the rule, against published figures, and against bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from qraft_quant.align import MetricRows, align_metrics, as_of_index, as_of_join

DAY = 86_400_000_000


def times(*days: float) -> np.ndarray:
    return np.array([round(day * DAY) for day in days], dtype=np.int64)


def slow_index(at, known_at, event_at, key, known_key, tolerance):
    """The rule word by word: of the rows known by then, the newest event; of one event, what was known last."""
    found = []
    for t, k in zip(at, key, strict=True):
        rows = [j for j in range(len(known_at)) if known_at[j] <= t and known_key[j] == k]
        best = max(rows, key=lambda j: (event_at[j], known_at[j], j), default=-1)
        found.append(best if best >= 0 and t - event_at[best] <= tolerance else -1)
    return found


def random_table(seed):
    """Return small tables, empty ones too, in which times, events and keys meet all the time."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 13, 2)
    at, known_at = np.sort(rng.integers(0, 41, n)), np.sort(rng.integers(0, 41, m))
    event_at = known_at - np.minimum(known_at, rng.integers(0, 16, m))
    return (at, known_at, event_at, rng.integers(0, 3, n), rng.integers(0, 3, m)), int(rng.integers(0, 31))


@pytest.mark.parametrize("seeds", [range(500), range(500, 1_000)])
def test_join_follows_the_rule_word_by_word(seeds):
    for seed in seeds:
        _compare(random_table(seed))


def _compare(table):
    (at, known_at, event_at, key, known_key), tolerance = table

    found = as_of_index(at, known_at, event_at=event_at, key=key, known_key=known_key, tolerance_us=tolerance)
    values = as_of_join(
        at, known_at, np.arange(known_at.size) + 0.5, event_at=event_at, key=key, known_key=known_key,
        tolerance_us=tolerance,
    )  # fmt: skip

    assert found.tolist() == slow_index(at, known_at, event_at, key, known_key, tolerance)
    assert np.array_equal(values, np.where(found >= 0, found + 0.5, np.nan), equal_nan=True)


def test_known_exactly_at_the_time_counts_and_a_microsecond_later_does_not():
    at = np.array([100, 200], dtype=np.int64)

    assert as_of_index(at, np.array([100, 201], dtype=np.int64)).tolist() == [0, 0]
    assert as_of_index(at, np.array([101, 200], dtype=np.int64)).tolist() == [-1, 1]


def test_statement_counts_from_its_publication_and_a_revision_from_its_own():
    """Qlib's tests/test_pit.py: return on equity of 600519 changes on 2019-07-18, when it was published."""
    at = pd.date_range("2019-07-15", "2019-07-22", tz=None).to_numpy()
    quarter = pd.to_datetime(["2019-03-31", "2019-06-30", "2019-06-30"]).to_numpy()
    known = pd.to_datetime(["2019-04-25", "2019-07-18", "2019-07-21"]).to_numpy()

    found = as_of_join(at, known, np.array([0.0, 0.175322, 0.175]), event_at=quarter)

    assert found.tolist() == [0.0, 0.0, 0.0, 0.175322, 0.175322, 0.175322, 0.175, 0.175]


def test_late_correction_of_an_old_event_does_not_displace_a_newer_one():
    known_at, event_at = times(1, 2, 3), times(1, 2, 1)

    found = as_of_index(times(1, 2, 3, 4), known_at, event_at=event_at)

    assert found.tolist() == [0, 1, 1, 1]


def test_staleness_is_the_age_of_the_event_however_late_it_arrived():
    found = as_of_index(times(10, 11), times(10), event_at=times(4), tolerance_us=6 * DAY)

    assert found.tolist() == [0, -1]


def test_unknown_value_of_the_newest_event_stays_unknown():
    found = as_of_join(times(3), times(1, 2), np.array([5.0, np.nan]))

    assert np.isnan(found).all()


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_nothing(n_threads):
    rng = np.random.default_rng(3)
    at, known_at = np.sort(rng.integers(0, DAY, 700_000)), np.sort(rng.integers(0, DAY, 50_000))
    arguments = {
        "event_at": np.maximum(known_at - rng.integers(0, DAY // 10, 50_000), 0),
        "key": rng.integers(0, 9, 700_000),
        "known_key": rng.integers(0, 9, 50_000),
        "tolerance_us": DAY // 500,
    }
    values = rng.normal(size=(50_000, 2))

    one, many = (as_of_join(at, known_at, values, n_threads=n, **arguments) for n in (1, n_threads))

    assert np.array_equal(one, many, equal_nan=True)
    assert 0.05 < np.isnan(one).mean() < 0.95
    assert np.array_equal(
        as_of_join(at, known_at, values[:, 1], n_threads=n_threads, **arguments), one[:, 1], equal_nan=True
    )


def test_join_equals_merge_asof_where_events_arrive_in_order():
    rng = np.random.default_rng(5)
    at, known_at = np.sort(rng.integers(0, DAY, 5_000)), np.sort(rng.integers(0, DAY, 800))
    key, known_key, values = rng.integers(0, 7, 5_000), rng.integers(0, 7, 800), rng.normal(size=800)

    found = as_of_join(at, known_at, values, key=key, known_key=known_key, tolerance_us=DAY // 50)

    right = pd.DataFrame({"t": known_at, "k": known_key, "v": values})
    expected = pd.merge_asof(pd.DataFrame({"t": at, "k": key}), right, on="t", by="k", tolerance=DAY // 50)["v"]
    assert np.array_equal(found, expected.to_numpy(), equal_nan=True)


NONE = np.empty(0, dtype=np.int64)


def test_empty_sides_join_to_nothing():
    assert as_of_index(NONE, times(1)).size == 0
    assert as_of_index(times(1, 2), NONE).tolist() == [-1, -1]
    assert as_of_join(times(1, 2), NONE, np.empty((0, 3))).shape == (2, 3)
    assert np.isnan(as_of_join(times(1, 2), NONE, np.empty((0, 3)))).all()
    assert as_of_index(times(1), NONE, key=np.array([4]), known_key=NONE).tolist() == [-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": times(2, 1)}, r"at: expected ascending times, received .* in row 1 .*sort the rows by at"),
        ({"known_at": times(3, 1)}, r"known_at: expected ascending times, .* row 1"),
        ({"event_at": times(1, 3)}, r"event_at <= known_at, .* in row 1"),
        ({"event_at": times(1)}, "event_at: expected 2 times, received 1"),
        ({"tolerance_us": -1}, "tolerance_us"),
        ({"key": np.array([0, 0])}, "keys on both sides"),
        ({"key": np.array([0, -1]), "known_key": np.array([0, 0])}, "key: expected keys in"),
        ({"key": np.array([0.0, 1.0]), "known_key": np.array([0, 0])}, "key: expected 2 integers"),
        ({"key": np.array([0, 1]), "known_key": np.array([0])}, "known_key: expected 2 integers"),
        ({"at": times(1, 2) * 1_000_000}, "another unit"),
        ({"at": times(1, 2).astype(float)}, "expected int64 microseconds"),
        ({"at": np.array(["2025-01-01", "NaT"], dtype="datetime64[us]")}, "NaT in row 1"),
        ({"at": np.array(["1969-12-31"], dtype="datetime64[us]")}, "1970"),
        ({"at": times(1, 2).reshape(1, 2)}, "shape"),
    ],
)
def test_bad_tables_are_refused_with_the_place(changes, message):
    arguments = {"at": times(1, 2), "known_at": times(1, 2), **changes}

    with pytest.raises(ValueError, match=message):
        as_of_index(arguments.pop("at"), arguments.pop("known_at"), **arguments)


def test_times_out_of_order_are_found_in_any_part_of_the_left_side():
    at = np.arange(900_000, dtype=np.int64)
    at[450_000] = 5

    with pytest.raises(ValueError, match="row 450000"):
        as_of_index(at, times(1), n_threads=2)


def test_values_of_another_length_are_refused():
    with pytest.raises(ValueError, match="values: expected"):
        as_of_join(times(1), times(1, 2), np.zeros(3))


def test_metrics_stand_on_the_grid_as_of_each_bar_and_stale_ones_are_flagged():
    closed_at = times(1, 2, 3, 4)
    funding = MetricRows(
        "funding", times(0.5, 1.5, 2), times(0.5, 1, 2), np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0]),
        stale_after_us=DAY,
    )  # fmt: skip
    vix = MetricRows("vix", times(2.5), times(2), np.array([17.0]))

    found = align_metrics(closed_at, 2, [funding, vix])

    nan = np.nan
    assert np.array_equal(found.of("funding").T, [[0.1, 0.3, 0.3, nan], [nan, 0.2, nan, nan]], equal_nan=True)
    assert np.array_equal(found.of("vix"), [[nan, nan], [nan, nan], [17, 17], [17, 17]], equal_nan=True)
    assert np.array_equal(found.is_missing, np.isnan(found.values))


def test_bad_metric_is_named():
    good, bad = times(1, 2), times(2, 1)

    with pytest.raises(ValueError, match="metric basis: known_at: expected ascending"):
        align_metrics(good, 1, [MetricRows("basis", bad, bad, np.zeros(2))])
    with pytest.raises(ValueError, match="metric basis: symbol"):
        align_metrics(good, 1, [MetricRows("basis", good, good, np.zeros(2), np.array([0, 1]))])
    with pytest.raises(ValueError, match="different names"):
        align_metrics(good, 1, [MetricRows("basis", good, good, np.zeros(2))] * 2)
