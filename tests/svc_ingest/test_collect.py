"""Data sets into the lake: what a row becomes, when it was known, and what a second run does."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from tests.svc_ingest.collect_kit import BARS, FUNDING, NOW, T0, Bench, bar_columns, dataset, funding_columns, instants

from qraft_contracts.outcomes import Malformed
from svc_ingest.adapters.catalogue import OURS, read_catalogue

RATES = [0.0001 * (1 + i % 3) for i in range(12)]


def post_rule(**changes) -> dict:
    return {
        "kind": "posts", "market": "forum", "symbol": "BTCUSDT", "time": {"column": "time"}, "row_id": "{id}",
        "fields": {"platform": {"value": "forum"}, "text": "text", "is_comment": {"value": False}},
    } | changes  # fmt: skip


def test_settlement_is_of_its_hour_and_known_at_its_stamp(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    stamp = pa.array([int(T0.timestamp() * 1000) + 7], pa.timestamp("ms", tz="UTC"))
    bench.write("a.parquet", **funding_columns([0.0002], funding_time=stamp))

    tally = bench.collect()

    (row,) = bench.rows("funding", "binance.perp")
    assert row["event_at"] == T0 and row["known_at"] == T0 + timedelta(milliseconds=7)
    assert (row["funding_rate"], row["period_hours"], row["origin"], row["source"]) == (0.0002, 8.0, "replay", "file:f")
    assert tally.total().n_new == 1 and bench.told == ["f"]


MACRO = {
    "kind": "macro", "market": "us.macro", "symbol": "VIX", "time": {"column": "day"}, "fields": {"value": "value"},
}  # fmt: skip


@pytest.mark.parametrize("is_polled", [True, False])
def test_macro_that_comes_beside_a_living_line_is_known_when_it_came(tmp_path, is_polled: bool) -> None:
    day = timedelta(days=1)
    bench = Bench(tmp_path, dataset("m", "*.parquet", MACRO))
    if is_polled:
        bench.record.polling_since("binance", T0 + 2 * day)
    else:
        bench.record.set_live(T0 + 2 * day)
        bench.record.set_live(T0 + 4 * day)  # a restart
    bench.write("a.parquet", day=instants(4, 86_400), value=[15.0, 16.0, 17.0, 18.0])

    bench.collect()

    known = [row["known_at"] for row in bench.rows("macro", "us.macro")]
    assert known == [T0, T0 + day, T0 + 2 * day, NOW]


def test_other_markets_of_a_living_lake_and_lakes_of_history_keep_the_times_of_their_source(tmp_path) -> None:
    living = Bench(tmp_path / "a", dataset("m", "*.parquet", MACRO | {"market": "other.macro"}))
    living.record.polling_since("binance", T0)
    history = Bench(tmp_path / "b", dataset("m", "*.parquet", MACRO))

    for bench, market in ((living, "other.macro"), (history, "us.macro")):
        bench.write("a.parquet", day=instants(4, 86_400), value=[15.0, 16.0, 17.0, 18.0])
        bench.collect()
        rows = bench.rows("macro", market)
        assert rows and all(row["known_at"] == row["event_at"] for row in rows)


def test_second_run_reads_nothing_and_with_again_everything_is_a_repetition(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "f*.parquet", FUNDING), dataset("b", "BTCUSDT.parquet", BARS))
    bench.write("f.parquet", **funding_columns(RATES))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0 + i for i in range(50)]))

    first, second, again = bench.collect(), bench.collect(), bench.collect(again=True)

    assert first.total().n_new == 62 and first.before == []
    assert (second.total().n_new, second.total().n_repeated, second.before) == (0, 62, ["f", "b"])
    assert (again.total().n_new, again.total().n_repeated, again.before) == (0, 62, [])
    assert second.total().first_us == first.total().first_us


def test_changed_file_is_read_again_and_its_new_rows_are_new(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "*.parquet", FUNDING))
    bench.write("a.parquet", **funding_columns(RATES[:5]))
    bench.collect()
    bench.write("a.parquet", **funding_columns(RATES))

    total = bench.collect().total()

    assert (total.n_new, total.n_repeated) == (7, 5)


def test_selection_takes_kinds_data_sets_and_a_stretch_of_time(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "f*.parquet", FUNDING), dataset("b", "BTCUSDT.parquet", BARS))
    bench.write("f.parquet", **funding_columns(RATES))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 50))

    stretch = bench.collect(kinds=("funding",), start=T0, end=T0 + timedelta(hours=16))
    with pytest.raises(Malformed, match=r"unknown_dataset.*\['b', 'f'\].*\['x'\]"):
        bench.collect(datasets=("x",))
    rest = bench.collect(datasets=("f",))

    assert stretch.total().n_new == 2 and list(stretch.tables()) == [("funding", "binance.perp")]
    assert rest.total().n_new == 10 and rest.total().n_repeated == 2  # a part is never remembered as the whole


@pytest.mark.parametrize("reader", ["csv", "jsonl", "jsonl.gz", "feather"])
def test_every_format_gives_the_same_rows(tmp_path, reader: str) -> None:
    bench = Bench(tmp_path, dataset("f", "a.*", FUNDING, reader=reader.partition(".")[0]))
    times = [f"2025-06-01T{8 * i:02d}:00:00Z" for i in range(3)]
    rows = [{"funding_time": t, "venue": "binance", "symbol": "BTCUSDT", "funding_rate": 0.0001} for t in times]
    path = bench.data / f"a.{reader}"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if reader == "csv":
        path.write_text(
            "funding_time,venue,symbol,funding_rate\n" + "".join(f"{t},binance,BTCUSDT,0.0001\n" for t in times)
        )
    elif reader == "feather":
        feather.write_feather(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(lines.encode()) if reader.endswith("gz") else lines.encode())

    tally = bench.collect()

    assert not tally.failures
    assert [row["event_at"] for row in bench.rows("funding", "binance.perp")] == [
        T0 + timedelta(hours=8 * i) for i in range(3)
    ]


def test_engagement_is_known_when_it_was_counted_and_not_when_it_was_posted(tmp_path) -> None:
    counted = post_rule(
        kind="post_engagement", fields={"likes": "likes"}, known={"rule": "at", "at": "2025-09-01T00:00:00Z"}
    )
    bench = Bench(tmp_path, dataset("p", "*.parquet", post_rule(), counted))
    bench.write("p.parquet", time=instants(2, 60), id=pa.array([1, 2]), text=["a", "b"], likes=pa.array([5, 6]))

    bench.collect()

    assert [row["known_at"] for row in bench.rows("posts", "forum")] == [T0, T0 + timedelta(minutes=1)]
    assert {row["known_at"] for row in bench.rows("post_engagement", "forum")} == {datetime(2025, 9, 1, tzinfo=UTC)}


def test_monthly_value_is_of_the_end_of_its_month_and_daily_yields_wait_for_working_days(tmp_path) -> None:
    def rule(symbol: str, time: dict, known: dict) -> dict:
        return {"kind": "macro", "market": "us", "symbol": symbol, "time": {"column": "date"} | time, "known": known,
                "fields": {"value": "value"}}  # fmt: skip

    monthly = rule("CPI", {"next_month": True}, {"rule": "at", "at": "2025-12-01T00:00:00Z"})
    daily = rule("US10Y", {"plus_s": 86_400}, {"rule": "weekdays", "weekdays": 1})
    bench = Bench(tmp_path, dataset("m", "*.parquet", monthly, daily))
    friday = datetime(2025, 5, 30, tzinfo=UTC)
    bench.write("m.parquet", date=pa.array([friday.date()]), value=[4.4])

    bench.collect()

    rows = {row["symbol"]: row for row in bench.rows("macro", "us")}
    assert rows["CPI"]["event_at"] == T0 and rows["CPI"]["known_at"] == datetime(2025, 12, 1, tzinfo=UTC)
    # Friday's yield is published on Monday: known when Monday is over.
    assert rows["US10Y"]["event_at"] == friday + timedelta(days=1) and rows["US10Y"]["known_at"] == friday + timedelta(
        days=4
    )


def test_receipt_before_the_event_never_makes_a_row_known_early(tmp_path) -> None:
    rule = post_rule(known={"rule": "column", "column": "received"})
    bench = Bench(tmp_path, dataset("p", "*.parquet", rule))
    received = instants(2, 60, T0 - timedelta(seconds=30))  # the clock of the receiver is 30 seconds behind
    bench.write("p.parquet", time=instants(2, 10), id=pa.array([1, 2]), text=["a", "b"], received=received)

    bench.collect()

    assert [row["known_at"] - T0 for row in bench.rows("posts", "forum")] == [timedelta(0), timedelta(seconds=30)]


def test_second_source_of_the_same_rows_agrees_within_its_rounding_or_is_refused(tmp_path) -> None:
    second = FUNDING | {"agrees_within": {"funding_rate": 1e-6}}
    bench = Bench(tmp_path, dataset("one", "1.parquet", FUNDING), dataset("two", "2.parquet", second))
    bench.write("1.parquet", **funding_columns([0.00012345, 0.0002, 0.0003]))
    bench.write("2.parquet", **funding_columns([0.000123, 0.0002, 0.0009, 0.0004]))

    count = bench.collect().counts["two", "funding", "binance.perp"]

    assert (count.n_new, count.n_repeated, count.n_quarantined) == (1, 2, 1)
    assert [row["funding_rate"] for row in bench.rows("funding", "binance.perp")] == [
        0.00012345,
        0.0002,
        0.0003,
        0.0004,
    ]
    assert bench.tables.quarantine("funding", market="binance.perp").num_rows == 1


def test_bars_of_an_older_data_set_become_revisions_that_latest_reads_see(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("new", "n/BTCUSDT.parquet", BARS), dataset("old", "o/BTCUSDT.parquet", BARS))
    bench.write("n/BTCUSDT.parquet", **bar_columns([100.0] * 30))
    older = instants(30, 300, T0 - timedelta(days=3))
    bench.write("o/BTCUSDT.parquet", **bar_columns([99.0] * 30, open_time=older))

    tally, again = bench.collect(), bench.collect(again=True)

    count = tally.counts["old", "bars", "binance.perp.5m"]
    assert count.n_new == 30 and count.reasons["kept: late"] == 30 and again.total().n_new == 0
    read = {"market": "binance.perp", "interval": "5m", "symbols": None, "start": T0 - timedelta(days=3), "end": T0}
    assert bench.bars.read(**read) is None
    assert bench.bars.read(**read, revisions="latest").close[0, 0] == 99.0


def test_bar_that_may_have_been_forming_is_left_out_by_name(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("b", "*.parquet", BARS | {"last_bar_may_form": True}))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 30))

    count = bench.collect().total()

    assert count.n_new == 29 and count.reasons == {"may_be_forming": 1}
    assert json.loads(bench.refused("b")[0]["received"])["close"] == 100.0


def test_interval_without_a_slot_in_the_lake_is_a_named_gap(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("b", "*.parquet", BARS | {"interval": "7m"}))
    bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 30))

    first, second = bench.collect(), bench.collect()

    assert first.gaps[0].code == second.gaps[0].code == "no_interval: 7m" and first.gaps[0].where == "b"
    assert second.before == []  # it is asked for again until the lake has a slot


def test_files_that_nobody_takes_and_files_that_are_missing_are_named(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("f", "f*.parquet", FUNDING))
    (bench.data / "notes.txt").write_text("?")

    gaps = [(gap.where, gap.code) for gap in bench.collect().gaps]

    assert gaps[:2] == [("f", "no_file"), ("notes.txt", "unclaimed_file")]
    assert ("catalogue", "no_source: posts") in gaps and ("catalogue", "no_source: funding") not in gaps


def test_our_catalogue_is_whole_and_names_each_data_set_once() -> None:
    catalogue = read_catalogue(OURS)

    assert len(catalogue.dataset) == len({it.name for it in catalogue.dataset}) >= 45
    assert {rule.kind for it in catalogue.dataset for rule in it.tables} >= {
        "bars",
        "trades",
        "posts",
        "corporate_actions",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "fundings"}, "kind out of"),
        ({"fields": {"funding_rate": "r"}}, r"needs \['period_hours'\]"),
        ({"fields": FUNDING["fields"] | {"price": "p"}}, r"has no \['price'\]"),
        ({"row_id": "{id}"}, "has no row_id"),
        ({"interval": "5m"}, "bars have an interval"),
        ({"market": "../up"}, "expected a market"),
    ],
)
def test_catalogue_with_a_mistake_is_refused_by_name(tmp_path, change: dict, said: str) -> None:
    with pytest.raises(Malformed, match=f"bad_catalogue.*f: .*{said}"):
        Bench(tmp_path, dataset("f", "*", FUNDING | change))


def test_catalogue_with_an_unknown_word_says_where(tmp_path) -> None:
    (tmp_path / "c.toml").write_text('[[dataset]]\nname = "x"\nfiles = "*"\nreader = "parquet"\ntable = []\n')

    with pytest.raises(Malformed, match=r"bad_catalogue.*c\.toml.*table"):
        read_catalogue(tmp_path / "c.toml")
    assert msgspec.json.encode(read_catalogue(OURS))
