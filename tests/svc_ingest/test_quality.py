"""Every fault of a feed is found, counted and never filled."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.svc_ingest.ingest_kit import at, make_check, raw, shown, value_rows

from qraft_contracts.origin import Origin
from svc_ingest.domain.faults import FaultKind
from svc_ingest.domain.quality import RECENT_BARS, count_out_of_order, is_impossible
from svc_ingest.domain.raw import RawChunk, RawRows, micros_of


def chunk(*, until: int = 10_000, known_at=None, **rows: RawRows) -> RawChunk:
    return RawChunk(rows, until=at(until), known_at=known_at)


def test_all_symbols_of_a_bar_are_one_batch_and_absent_ones_stay_absent() -> None:
    check = make_check()

    batches = check.take(chunk(BTC=raw([0, 1, 2]), ETH=raw([0, 2], [7, 9])))

    assert shown(batches) == [(0, 0, {"BTC": 100, "ETH": 7}), (1, 0, {"BTC": 101}), (2, 0, {"BTC": 102, "ETH": 9})]
    assert all(b.known_at == b.closed_at and b.origin is Origin.REPLAY and b.interval == "5m" for b in batches)
    assert batches[0].high.tolist() == [101, 8] and batches[0].low.tolist() == [99, 6]
    assert batches[0].open.tolist() == [100, 7] and batches[0].volume.tolist() == [1000, 70]


def test_gap_is_counted_with_its_bars_within_and_across_chunks() -> None:
    check = make_check()

    check.take(chunk(BTC=raw([0, 1, 5])))
    batches = check.take(chunk(BTC=raw([8])))

    assert shown(batches) == [(8, 0, {"BTC": 108})]
    assert check.report.count(FaultKind.GAP) == 2
    assert check.report.n_bars_missing["BTC"] == 3 + 2
    assert [(g.after_us, g.n_bars) for g in check.report.gaps] == [(micros_of(at(1)), 3), (micros_of(at(5)), 2)]


def test_equal_duplicate_is_dropped_and_another_value_is_a_revision() -> None:
    check = make_check()

    batches = check.take(chunk(BTC=raw([0, 1, 1, 1, 1, 2], [100, 101, 101, 50, 51, 102])))

    assert shown(batches) == [
        (0, 0, {"BTC": 100}), (1, 0, {"BTC": 101}), (1, 1, {"BTC": 50}), (1, 2, {"BTC": 51}), (2, 0, {"BTC": 102}),
    ]  # fmt: skip
    assert check.report.count(FaultKind.DUPLICATE) == 1
    assert check.report.count(FaultKind.REVISION) == 2


def test_rows_out_of_order_are_put_in_place_and_counted() -> None:
    check = make_check()

    batches = check.take(chunk(BTC=raw([2, 0, 1, 3])))

    assert [index for index, _, _ in shown(batches)] == [0, 1, 2, 3]
    assert check.report.count(FaultKind.OUT_OF_ORDER) == 2
    assert check.report.count(FaultKind.GAP) == 0


def test_late_row_is_a_revision_known_when_it_was_read() -> None:
    check = make_check()
    check.take(chunk(BTC=raw([0, 1]), ETH=raw([0])))
    read_at = at(2) + timedelta(seconds=3)

    batches = check.take(chunk(BTC=raw([2]), ETH=raw([1, 2]), known_at=read_at))

    assert shown(batches) == [(1, 1, {"ETH": 101}), (2, 0, {"BTC": 102, "ETH": 102})]
    assert batches[0].known_at == read_at
    assert batches[1].known_at == at(2)
    assert check.report.count(FaultKind.LATE, "ETH") == 1
    assert check.report.count(FaultKind.GAP) == 0


def test_correction_of_a_published_bar_counts_up_and_reading_again_is_no_fault() -> None:
    check = make_check()
    check.take(chunk(BTC=raw([0, 1])))

    first = check.take(chunk(BTC=raw([0, 1, 2], [100, 50, 102]), known_at=at(2)))
    second = check.take(chunk(BTC=raw([1, 2, 3], [60, 102, 103]), known_at=at(3)))
    third = check.take(chunk(BTC=raw([1, 2, 3], [60, 102, 103]), known_at=at(3)))

    assert shown(first) == [(1, 1, {"BTC": 50}), (2, 0, {"BTC": 102})]
    assert shown(second) == [(1, 2, {"BTC": 60}), (3, 0, {"BTC": 103})]
    assert third == []
    assert check.report.count(FaultKind.DUPLICATE) == 0


def test_row_too_far_back_to_judge_is_dropped_and_counted() -> None:
    check = make_check()
    check.take(chunk(BTC=raw(range(RECENT_BARS + 10))))

    assert check.take(chunk(BTC=raw([0]), ETH=raw([1]))) == []
    assert check.report.count(FaultKind.TOO_OLD) == 2


@pytest.mark.parametrize(
    "row",
    [
        [np.nan, 2, 1, 1, 1], [1, np.inf, 1, 1, 1], [1, 2, 0, 1, 1], [1, 2, -1, 1, 1], [1, 1, 2, 1, 1],
        [3, 2, 1, 1, 1], [1, 2, 1, 3, 1], [1, 2, 1.5, 2, 1], [1, 2, 1, 1, -1], [1, 2, 1, 1, np.nan],
    ],
)  # fmt: skip
def test_impossible_row_is_dropped_and_counted(row: list[float]) -> None:
    check = make_check()
    rows = raw([0, 1])
    rows.values[1] = row

    assert is_impossible(np.array([row])).tolist() == [True]
    assert shown(check.take(chunk(BTC=rows))) == [(0, 0, {"BTC": 100})]
    assert check.report.count(FaultKind.IMPOSSIBLE) == 1


def test_bar_without_trades_is_possible() -> None:
    assert is_impossible(np.array([[5.0, 5.0, 5.0, 5.0, 0.0]])).tolist() == [False]


def test_row_off_the_grid_is_dropped_and_counted() -> None:
    check = make_check()
    rows = raw([0, 1])
    rows.closed_at[1] += 1_000_000

    assert len(check.take(chunk(BTC=rows))) == 1
    assert check.report.count(FaultKind.OFF_GRID) == 1


def test_no_rows_and_no_symbols_are_nothing() -> None:
    check = make_check()

    assert check.take(chunk(BTC=raw([]))) == []
    assert check.take(chunk()) == []


def test_primed_check_goes_on_as_the_one_before_the_restart() -> None:
    before, after = make_check(), make_check()
    before.take(chunk(BTC=raw(range(5)), ETH=raw([0, 1])))
    after.prime({"BTC": raw(range(5)), "ETH": raw([0, 1])}, until=micros_of(at(4)))
    rest = chunk(BTC=raw([3, 6], [7, 106]), ETH=raw([2, 6]), known_at=at(6))

    assert shown(after.take(rest)) == shown(before.take(rest))
    assert after.report.gaps == before.report.gaps


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), unique=True), st.integers(0, 30))
def test_cutting_the_feed_into_chunks_changes_nothing(btc: list[int], eth: list[int], cut: int) -> None:
    whole, parts = make_check(), make_check()
    btc, eth = sorted(btc), sorted(eth)

    expected = shown(whole.take(chunk(BTC=raw(btc), ETH=raw(eth))))
    received = shown(parts.take(chunk(BTC=raw([i for i in btc if i <= cut]), ETH=raw([i for i in eth if i <= cut]))))
    received += shown(parts.take(chunk(BTC=raw([i for i in btc if i > cut]), ETH=raw([i for i in eth if i > cut]))))

    assert received == expected
    assert parts.report.as_dict()["totals"] == whole.report.as_dict()["totals"]


def test_report_is_json_with_totals_symbols_gaps_and_examples() -> None:
    check = make_check()
    check.take(chunk(BTC=raw([0, 3, 3], [11, 12, 13]), ETH=raw([0])))

    report = json.loads(json.dumps(check.report.as_dict()))

    assert report["totals"]["rows"] == 3 and report["totals"]["missing_bars"] == 2
    assert report["symbols"]["BTC"] == {"rows": 2, "missing_bars": 2, "gap": 1, "revision": 1}
    assert report["symbols"]["ETH"] == {"rows": 1, "missing_bars": 0}
    assert report["gaps"] == [{"symbol": "BTC", "after": "2025-06-01T00:05:00Z", "missing_bars": 2}]
    assert report["examples"]["revision"] == ["BTC 2025-06-01T00:20:00Z"]


def test_faults_are_told_once() -> None:
    check = make_check()
    check.take(chunk(BTC=raw([0, 2])))

    assert check.report.take_untold() == [("BTC", FaultKind.GAP, 1)]
    assert check.report.take_untold() == []


def test_count_out_of_order() -> None:
    assert count_out_of_order(np.array([], dtype=np.int64)) == 0
    assert count_out_of_order(np.array([1, 2, 2, 3])) == 0
    assert count_out_of_order(np.array([3, 1, 2, 4])) == 2
    assert value_rows([5.0]).shape == (1, 5)
