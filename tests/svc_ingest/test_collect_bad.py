"""Bad files into the lake: every fault is an error by name or a kept row with its reason, and the rest flows."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from tests.svc_ingest.collect_kit import BARS, FUNDING, NOW, T0, Bench, bar_columns, dataset, funding_columns, instants

RATES = [0.0001 * (1 + i % 3) for i in range(120)]


def local_rule(**changes) -> dict:
    return {
        "kind": "posts", "market": "forum", "symbol": "AAPL", "time": {"column": "local", "zone": "America/New_York"},
        "row_id": "{id}",
        "fields": {"platform": {"value": "forum"}, "text": "text", "is_comment": {"value": False}},
    } | changes  # fmt: skip


@pytest.mark.parametrize("keep", [0, 3, 400])
def test_half_written_file_fails_its_data_set_and_the_others_go_on(tmp_path, keep: int) -> None:
    bench = Bench(tmp_path, dataset("torn", "a.parquet", FUNDING), dataset("whole", "b.parquet", FUNDING))
    path = bench.write("a.parquet", **funding_columns(RATES))
    path.write_bytes(path.read_bytes()[:keep])
    bench.write("b.parquet", **funding_columns(RATES))

    tally = bench.collect()

    assert [(it.where, it.code) for it in tally.failures] == [("torn", "unreadable_file")]
    assert "a.parquet" in tally.failures[0].why and tally.total().n_new == 120


def test_half_written_gzip_is_named(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("torn", "*.gz", FUNDING, reader="jsonl"))
    (bench.data / "a.jsonl.gz").write_bytes(gzip.compress(b'{"funding_time": "2025-06-01T00:00:00Z"}\n' * 500)[:-20])

    assert [it.code for it in bench.collect().failures] == ["unreadable_file"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"funding_rate": None}, "missing: ['funding_rate'], new: []"),
        ({"funding_rate": None, "rate": [0.1]}, "missing: ['funding_rate'], new: ['rate']"),
        ({"surprise": [1]}, "missing: [], new: ['surprise']"),
    ],
)
def test_missing_renamed_and_added_columns_are_named(tmp_path, changes: dict, said: str) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    bench.write("a.parquet", **funding_columns([0.1], **changes))

    (failure,) = bench.collect().failures

    assert failure.code == "schema_drift" and said in failure.why and "a.parquet" in failure.why


def test_text_instead_of_numbers_keeps_what_reads_and_names_the_rest(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    rates = pa.array(["0.0001"] * 20 + ["n/a"], pa.string())
    bench.write("a.parquet", **funding_columns([0.0] * 21, funding_rate=rates))

    tally = bench.collect()

    assert tally.total().n_new == 20 and tally.total().reasons == {"unreadable: funding_rate": 1}
    assert json.loads(bench.refused("f")[0]["received"])["funding_rate"] == "n/a"


def test_per_cent_instead_of_a_fraction_fails_the_file_by_its_bounds(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    bench.write("a.parquet", **funding_columns([rate * 10_000 for rate in RATES]))

    (failure,) = bench.collect().failures

    assert failure.code == "file_fault" and "other_unit: funding_rate" in failure.why
    assert bench.rows("funding", "binance.perp") == [] and len(bench.refused("f")) == 120


def test_per_cent_inside_the_bounds_is_found_against_the_stored_median(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("one", "1.parquet", FUNDING), dataset("two", "2.parquet", FUNDING))
    bench.write("1.parquet", **funding_columns(RATES[:60]))
    later = instants(60, 8 * 3600, T0 + timedelta(days=20))
    bench.write("2.parquet", **funding_columns([rate * 100 for rate in RATES[60:]], funding_time=later))

    tally = bench.collect()

    count = tally.counts["two", "funding", "binance.perp"]
    assert (count.n_new, count.n_quarantined) == (0, 60)
    assert next(iter(count.reasons)) == "unit_drift: funding_rate is 100 times what it was"
    assert len(bench.refused("two")) == 60 and len(bench.rows("funding", "binance.perp")) == 60


def test_unit_that_changes_in_the_middle_of_bars_stops_that_symbol_only(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("b", "*.parquet", BARS))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 100 + [10_000.0] * 100))
    bench.write("ETHUSDT.parquet", **bar_columns([50.0] * 200))

    total = bench.collect().total()

    assert (total.n_new, total.n_quarantined) == (300, 100)
    assert list(total.reasons) == ["unit_drift: close is 100 times what it was"]


def test_swapped_columns_fail_the_file(tmp_path) -> None:
    mark = {"kind": "mark_price", "market": "m", "symbol": "BTCUSDT", "time": {"column": "open_time", "plus_s": 300},
            "fields": {name: name for name in ("open", "high", "low", "close")}}  # fmt: skip
    bench = Bench(tmp_path, dataset("b", "BTCUSDT.parquet", BARS), dataset("m", "M.parquet", mark, ignored=["volume"]))
    closes = [100.0 + i for i in range(50)]
    swapped = bar_columns(closes, high=[c - 1 for c in closes], low=[c + 1 for c in closes])
    bench.write("BTCUSDT.parquet", **swapped)
    bench.write("M.parquet", **swapped)

    tally = bench.collect()

    assert [(it.where, it.code) for it in tally.failures] == [("b", "file_fault"), ("m", "file_fault")]
    assert all("swapped" in it.why for it in tally.failures) and tally.total().n_new == 0


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("close", 0.0, "not_positive: close"),
        ("low", -5.0, "not_positive: low"),
        ("volume", float("inf"), "not_finite: volume"),
        ("volume", -1.0, "out_of_bounds: volume"),
        ("open", float("nan"), "not_finite: open"),
        ("high", 10.0, "not_at_most: low high"),
    ],
)
def test_impossible_bar_is_kept_with_its_reason_and_the_others_are_stored(
    tmp_path, column: str, value: float, reason: str
) -> None:
    bench = Bench(tmp_path, dataset("b", "*.parquet", BARS))
    columns = bar_columns([100.0] * 40)
    columns[column] = [*columns[column][:7], value, *columns[column][8:]]
    bench.write("BTCUSDT.parquet", **columns)

    total = bench.collect().total()

    assert total.n_new == 39 and total.reasons == {reason: 1}
    (row,) = bench.refused("b")
    assert (row["reason"], row["row"], row["market"]) == (reason, 7, "binance.perp.5m")


def test_bar_off_the_grid_and_bars_of_another_interval_are_named(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("off", "BTCUSDT.parquet", BARS), dataset("hourly", "H.parquet", BARS))
    times = [*range(30)]
    start = int(T0.timestamp() * 1000)
    opened = pa.array([start + i * 300_000 + (1_000 if i == 5 else 0) for i in times], pa.timestamp("ms", tz="UTC"))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 30, open_time=opened))
    bench.write("H.parquet", **bar_columns([100.0] * 30, open_time=instants(30, 3600)))

    tally = bench.collect()

    assert tally.counts["off", "bars", "binance.perp.5m"].reasons == {"off_grid": 1}
    assert [(it.where, it.code) for it in tally.failures] == [("hourly", "wrong_interval")]


def test_duplicate_ids_with_other_values_are_refused_and_equal_ones_are_repetitions(tmp_path) -> None:
    rule = {"kind": "trades", "market": "m", "symbol": "BTCUSDT", "time": {"column": "time"}, "row_id": "{id}",
            "fields": {"price": "price", "qty": "qty", "is_taker_buy": "buy"}}  # fmt: skip
    bench = Bench(tmp_path, dataset("t", "*.parquet", rule))
    time = pa.array([int(T0.timestamp() * 1000)] * 4, pa.timestamp("ms", tz="UTC"))
    bench.write("t.parquet", time=time, id=pa.array([1, 1, 1, 2]), price=[10.0, 10.0, 11.0, 10.0], qty=[1.0] * 4,
                buy=[True] * 4)  # fmt: skip

    total = bench.collect().total()

    assert (total.n_new, total.n_repeated, total.n_quarantined) == (2, 1, 1)
    assert bench.tables.quarantine("trades", market="m")["reason"].to_pylist() == ["other_values"]


def test_rows_ahead_of_the_clock_and_without_a_time_are_kept_apart(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    start = int(NOW.timestamp() * 1000)
    stamps = [start - 3_600_000 * i for i in range(30)] + [start + 3_600_000, None]
    bench.write(
        "a.parquet", **funding_columns([0.0001] * 32, funding_time=pa.array(stamps, pa.timestamp("ms", tz="UTC")))
    )

    total = bench.collect().total()

    assert total.n_new == 30 and total.reasons == {"ahead_of_clock": 1, "no_time": 1}


def test_local_times_of_clock_changes_are_refused_because_they_name_no_single_instant(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("p", "*.parquet", local_rule()))
    local = pa.array(
        [datetime(2025, 3, 9, 1, 30), datetime(2025, 3, 9, 2, 30), datetime(2025, 3, 9, 3, 30),  # noqa: DTZ001
         datetime(2025, 11, 2, 0, 30), datetime(2025, 11, 2, 1, 30), datetime(2025, 11, 2, 2, 30)],  # noqa: DTZ001
        pa.timestamp("ms"),
    )  # fmt: skip
    bench.write("p.parquet", local=local, id=pa.array(range(6)), text=["t"] * 6)

    total = bench.collect().total()

    assert total.reasons == {"no_such_local_time": 1, "ambiguous_local_time": 1}
    utc_hours = [row["event_at"].hour for row in bench.rows("posts", "forum")]
    assert utc_hours == [6, 7, 4, 7]
    assert [row["row"] for row in bench.refused("p")] == [1, 4]


def test_broken_lines_of_json_and_csv_are_kept_and_the_others_are_stored(tmp_path) -> None:
    bench = Bench(
        tmp_path, dataset("j", "a.jsonl", FUNDING, reader="jsonl"), dataset("c", "a.csv", FUNDING, reader="csv")
    )
    good = {"funding_time": "2025-06-01T00:00:00Z", "venue": "binance", "symbol": "BTCUSDT", "funding_rate": 0.0001}
    (bench.data / "a.jsonl").write_text(json.dumps(good) + '\n{"funding_time": "2025-06-')
    (bench.data / "a.csv").write_text(
        "funding_time,venue,symbol,funding_rate\n2025-06-01T08:00:00Z,binance,BTCUSDT,0.0001\n2025-06-01T16:00:00Z,bin\n"
    )

    tally = bench.collect()

    assert tally.total().n_new == 2 and not tally.failures
    assert bench.refused("j")[0]["received"] == '{"funding_time": "2025-06-' and bench.refused("j")[0]["row"] == 1
    assert bench.refused("c")[0]["received"] == "2025-06-01T16:00:00Z,bin"
    assert bench.refused("c")[0]["reason"] == "wrong_number_of_columns"


def test_folder_that_is_no_recording_is_named(tmp_path) -> None:
    book = {"kind": "trades", "market": "m", "symbol": "{symbol}", "part": "trades", "time": {"column": "event_at"},
            "row_id": "{id}", "fields": {"price": "price", "qty": "qty", "is_taker_buy": "is_taker_buy"}}  # fmt: skip
    bench = Bench(tmp_path, dataset("r", "*.jsonl", book, reader="binance_messages"))
    (bench.data / "binance_spot_btcusdt_1.jsonl").write_text("hello\n" * 2_000)

    assert [it.code for it in bench.collect().failures] == ["unreadable_file"]


def test_row_that_no_rule_takes_is_kept_and_named(tmp_path) -> None:
    known = FUNDING | {"where": {"venue": ["binance"]}}
    bench = Bench(tmp_path, dataset("f", "*.parquet", known, elsewhere={"venue": ["bybit"]}))
    bench.write("a.parquet", **funding_columns(RATES[:4], venue=["binance", "bybit", "newcomer", "binance"]))

    total = bench.collect().total()

    assert total.n_new == 2 and total.reasons == {"no_rule": 1}
    assert bench.refused("f")[0]["row"] == 2 and json.loads(bench.refused("f")[0]["received"])["venue"] == "newcomer"


def test_refused_bar_of_many_files_names_its_own_file_and_row(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("b", "*.parquet", BARS))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 30))
    closes = [100.0] * 30
    bench.write("ETHUSDT.parquet", **bar_columns(closes, volume=[5.0] * 29 + [-1.0]))

    bench.collect()

    assert [(row["file"], row["row"]) for row in bench.refused("b")] == [("ETHUSDT.parquet", 29)]
