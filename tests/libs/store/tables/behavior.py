"""The behavior of every TableStore. A subclass gives the fixture `store`: a fresh, empty one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.libs.store.tables.tables_kit import DAY, HOUR, MARKET, T0, TABLE_KINDS, row, series, table

from qraft_contracts.kinds import KINDS
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import Appended, TableStore
from qraft_store.tables.schema import table_schema

EVER = {"start": T0 - 365 * 600 * DAY, "end": T0 + 365 * 500 * DAY}
NAN = float("nan")
INF = float("inf")


def append(store: TableStore, kind: str, *rows: dict[str, Any], market: str = MARKET) -> tuple[int, int, int]:
    done = store.append(kind, market=market, rows=table(kind, rows))
    return done.n_new, done.n_repeated, done.n_quarantined


def read(store: TableStore, kind: str, *, market: str = MARKET, **query: Any) -> pa.Table:
    return store.read(kind, market=market, **({"symbols": None} | EVER | query))


def column(store: TableStore, kind: str, name: str, **query: Any) -> list[Any]:
    return read(store, kind, **query)[name].to_pylist()


def reasons(store: TableStore, kind: str) -> list[str]:
    return store.quarantine(kind, market=MARKET)["reason"].to_pylist()


def funding(rate: float, *, at: datetime = T0, **values: Any) -> dict[str, Any]:
    return row("funding", event_at=at, funding_rate=rate, **values)


class TableStoreBehavior:
    # --- what is stored comes back ---

    def test_rows_come_back_sorted_whole_and_typed(self, store: TableStore) -> None:
        rows = [
            row("trades", symbol=symbol, event_at=T0 + i * HOUR, row_id=row_id, price=float(price))
            for price, (i, symbol, row_id) in enumerate(
                [(30, "A", "9"), (0, "B", "1"), (0, "A", "10"), (0, "A", "9"), (2, "A", "1"), (2, "Ω", "1")], start=1
            )
        ]

        assert append(store, "trades", *rows) == (6, 0, 0)

        found = read(store, "trades")
        assert found.schema == table_schema("trades")
        assert found.equals(table("trades", [rows[i] for i in (2, 3, 1, 4, 5, 0)]))

    @pytest.mark.parametrize("kind", TABLE_KINDS)
    def test_every_kind_of_the_dictionary_can_be_stored_and_read(self, store: TableStore, kind: str) -> None:
        rows = series(kind, 5, step=40 * DAY)

        assert store.append(kind, market=MARKET, rows=rows) == Appended(5, 0, 0)

        assert read(store, kind).equals(rows)
        assert store.append(kind, market=MARKET, rows=rows) == Appended(0, 5, 0)

    def test_range_excludes_start_and_includes_end(self, store: TableStore) -> None:
        store.append("macro", market=MARKET, rows=series("macro", 10, step=DAY))

        found = column(store, "macro", "event_at", start=T0, end=T0 + 2 * DAY)

        assert found == [T0 + DAY, T0 + 2 * DAY]
        for last in (0, 9):
            at = T0 + last * DAY
            assert column(store, "macro", "event_at", start=at - timedelta.resolution, end=at) == [at]
            assert column(store, "macro", "event_at", start=at, end=at + timedelta.resolution) == []

    def test_range_may_cut_a_file_and_span_many(self, store: TableStore) -> None:
        step = timedelta(minutes=97)
        store.append("trades", market=MARKET, rows=series("trades", 100, step=step))

        found = column(store, "trades", "event_at", start=T0 + 10 * step, end=T0 + 60 * step)

        assert found == [T0 + i * step for i in range(11, 61)]

    def test_rows_appended_later_may_be_older(self, store: TableStore) -> None:
        for part in (2, 0, 3, 1):
            rows = series("trades", 12, start=T0 + part * 12 * HOUR, symbol=f"S{part}")
            assert store.append("trades", market=MARKET, rows=rows).n_new == 12
            between = series("trades", 12, start=T0 + part * 12 * HOUR, symbol="Z")
            assert store.append("trades", market=MARKET, rows=between).n_new == 12

        events = column(store, "trades", "event_at")
        assert events == sorted(events) and len(events) == 96
        assert column(store, "trades", "symbol")[:4] == ["S0", "Z", "S0", "Z"]

    def test_symbols_are_filtered_and_none_means_all(self, store: TableStore) -> None:
        for symbol in ("A", "B", "C"):
            store.append("funding", market=MARKET, rows=series("funding", 2, symbol=symbol))

        assert column(store, "funding", "symbol", symbols=["C", "A", "X"]) == ["A", "C", "A", "C"]
        assert column(store, "funding", "symbol", symbols=[]) == []
        assert column(store, "funding", "symbol") == ["A", "B", "C"] * 2

    def test_columns_come_in_the_order_asked_for(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1, known_at=T0 + HOUR), funding(0.2, revision=1, known_at=T0 + 2 * HOUR))

        found = read(store, "funding", columns=["funding_rate", "symbol"])

        assert found.column_names == ["funding_rate", "symbol"]
        assert found.to_pylist() == [{"funding_rate": 0.2, "symbol": "BTCUSDT"}]
        assert read(store, "funding", columns=["period_hours"], symbols=["X"]).column_names == ["period_hours"]

    def test_empty_fields_stay_empty_and_nan_is_one_of_them(self, store: TableStore) -> None:
        known = row("open_interest", open_interest=2.0)
        empty = row("open_interest", open_interest=None, event_at=T0 + HOUR)
        append(store, "open_interest", known, empty, row("open_interest", open_interest=NAN, event_at=T0 + 2 * HOUR))

        assert column(store, "open_interest", "open_interest") == [2.0, None, None]
        assert append(store, "open_interest", row("open_interest", open_interest=NAN, event_at=T0 + HOUR)) == (0, 1, 0)

    def test_nothing_stored_is_an_empty_table(self, store: TableStore) -> None:
        assert read(store, "trades").equals(table_schema("trades").empty_table())
        assert store.last("trades", market=MARKET, symbols=None, n=3, as_of=T0).num_rows == 0
        assert store.markets("trades") == () and store.symbols("trades", market=MARKET) == ()
        assert store.range("trades", market=MARKET) is None
        assert store.quarantine("trades", market=MARKET).num_rows == 0
        assert store.append("trades", market=MARKET, rows=table("trades", [])) == Appended(0, 0, 0)
        assert store.markets("trades") == ()

    def test_markets_are_apart_and_listed(self, store: TableStore) -> None:
        append(store, "macro", row("macro", symbol="VIX"), market="us.macro")
        append(store, "macro", row("macro", symbol="FEAR_GREED", event_at=T0 + DAY), market="crypto.macro")
        append(store, "macro", row("macro", value=NAN), market="empty.macro")

        assert store.markets("macro") == ("crypto.macro", "us.macro")
        assert store.symbols("macro", market="us.macro") == ("VIX",)
        assert store.range("macro", market="crypto.macro") == (T0 + DAY, T0 + DAY)
        assert column(store, "macro", "symbol", market="us.macro") == ["VIX"]
        assert store.markets("onchain") == ()

    def test_symbols_and_range_span_everything(self, store: TableStore) -> None:
        store.append("trades", market=MARKET, rows=series("trades", 50, symbol="B"))
        store.append("trades", market=MARKET, rows=series("trades", 50, symbol="A", start=T0 - DAY))

        assert store.symbols("trades", market=MARKET) == ("A", "B")
        assert store.range("trades", market=MARKET) == (T0 - DAY, T0 + 49 * HOUR)

    # --- as of, and revisions ---

    def test_rows_known_after_as_of_are_not_read(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1), funding(0.2, at=T0 + HOUR, known_at=T0 + 5 * HOUR))
        query = {"start": T0 - HOUR, "end": T0 + 2 * HOUR}

        assert column(store, "funding", "funding_rate", **query) == [0.1]
        assert column(store, "funding", "funding_rate", **query, as_of=T0 + 5 * HOUR - timedelta.resolution) == [0.1]
        assert column(store, "funding", "funding_rate", **query, as_of=T0 + 5 * HOUR) == [0.1, 0.2]

    def test_each_instant_sees_the_revision_known_then(self, store: TableStore) -> None:
        rows = [funding(0.1 * (i + 1), revision=i, known_at=T0 + i * DAY) for i in range(3)]
        append(store, "funding", *reversed(rows), funding(0.4, at=T0 + HOUR))
        query = {"start": T0 - HOUR, "end": T0}

        for days, rate in ((0, 0.1), (1, 0.2), (1.5, 0.2), (2, 0.3), (9, 0.3)):
            found = column(store, "funding", "funding_rate", **query, as_of=T0 + days * DAY)
            assert found == [pytest.approx(rate)]

    def test_first_and_all_revisions(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1), funding(0.4, at=T0 + HOUR, revision=2))
        append(
            store, "funding", funding(0.2, revision=1, known_at=T0 + DAY), funding(0.3, revision=5, known_at=T0 + DAY)
        )

        found = read(store, "funding", revisions="all", columns=["funding_rate", "revision"])
        assert found["revision"].to_pylist() == [0, 1, 5, 2]
        assert found["funding_rate"].to_pylist() == [0.1, 0.2, 0.3, 0.4]
        assert column(store, "funding", "funding_rate", revisions="first") == [0.1]
        assert column(store, "funding", "revision", revisions="all", as_of=T0 + HOUR) == [0, 2]
        assert column(store, "funding", "funding_rate") == [0.3, 0.4]

    def test_revision_before_the_row_it_replaces_was_known_is_refused(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1, known_at=T0 + DAY), funding(0.3, revision=2, known_at=T0 + 3 * DAY))

        early, late = (funding(0.2, revision=1, known_at=T0 + days * DAY) for days in (0.5, 3.5))

        assert append(store, "funding", early, late) == (0, 0, 2)
        assert reasons(store, "funding") == ["known_before_the_revision_it_replaces"] * 2
        assert append(store, "funding", early, funding(0.2, revision=1, known_at=T0 + 2 * DAY)) == (1, 0, 1)
        assert column(store, "funding", "revision", revisions="all") == [0, 1, 2]

    def test_other_values_under_a_stored_name_are_quarantined(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1), funding(0.2, at=T0 + HOUR))

        assert append(store, "funding", funding(0.3), funding(0.2, at=T0 + HOUR), funding(0.4, at=T0 + DAY)) == (
            1,
            1,
            1,
        )

        kept = store.quarantine("funding", market=MARKET)
        assert kept.select(["event_at", "funding_rate", "reason"]).to_pylist() == [
            {"event_at": T0, "funding_rate": 0.3, "reason": "other_values"}
        ]
        assert column(store, "funding", "funding_rate") == [0.1, 0.2, 0.4]

    def test_repetition_seen_later_or_elsewhere_changes_nothing(self, store: TableStore) -> None:
        append(store, "funding", funding(0.1))
        version = store.version("funding", market=MARKET)

        again = funding(0.1, known_at=T0 + DAY, source="backfill", origin="replay")

        assert append(store, "funding", again, again) == (0, 2, 0)
        assert read(store, "funding").equals(table("funding", [funding(0.1)]))
        assert store.version("funding", market=MARKET) == version

    def test_within_a_call_the_first_of_a_name_counts(self, store: TableStore) -> None:
        assert append(store, "funding", funding(0.1), funding(0.2), funding(0.1)) == (1, 1, 1)
        assert column(store, "funding", "funding_rate") == [0.1]

    def test_changed_lists_and_texts_are_other_values(self, store: TableStore) -> None:
        append(store, "book_update", row("book_update", bid_px=[1.0, 2.0], bid_qty=[0.0, 1.0], ask_px=[], ask_qty=[]))
        append(store, "posts", row("posts", text="to the moon", author_hash=None))

        assert append(store, "book_update", row("book_update", bid_px=[1.0, 3.0], bid_qty=[0.0, 1.0])) == (0, 0, 1)
        same = row("book_update", bid_px=[1.0, 2.0], bid_qty=[0.0, 1.0], ask_px=[], ask_qty=[])
        assert append(store, "book_update", same) == (0, 1, 0)
        assert append(store, "posts", row("posts", text="to the moon", author_hash="")) == (0, 0, 1)
        assert append(store, "posts", row("posts", text="to the moon!", author_hash=None)) == (0, 0, 1)

    # --- the newest rows ---

    def test_last_returns_the_newest_of_each_symbol_known_by_then(self, store: TableStore) -> None:
        store.append("trades", market=MARKET, rows=series("trades", 60, symbol="A"))
        store.append("trades", market=MARKET, rows=series("trades", 2, symbol="B", start=T0 - 20 * DAY))
        append(
            store, "trades", row("trades", symbol="A", event_at=T0 + 50 * HOUR, row_id="late", known_at=T0 + 9 * DAY)
        )

        found = store.last("trades", market=MARKET, symbols=None, n=3, as_of=T0 + 50 * HOUR)

        expected = [("B", T0 - 20 * DAY), ("B", T0 - 20 * DAY + HOUR), *(("A", T0 + i * HOUR) for i in (48, 49, 50))]
        assert list(zip(found["symbol"].to_pylist(), found["event_at"].to_pylist(), strict=True)) == expected
        assert found.schema == table_schema("trades")
        only = store.last("trades", market=MARKET, symbols=["A", "X"], n=1, as_of=T0 + 10 * DAY)
        assert only["row_id"].to_pylist() == ["59"]

    def test_last_gives_the_revision_known_then(self, store: TableStore) -> None:
        append(store, "macro", row("macro", value=1.0), row("macro", value=2.0, revision=1, known_at=T0 + 400 * DAY))

        for as_of, value in ((T0, 1.0), (T0 + 399 * DAY, 1.0), (T0 + 400 * DAY, 2.0)):
            assert store.last("macro", market=MARKET, symbols=None, n=2, as_of=as_of)["value"].to_pylist() == [value]

    def test_last_zero_is_empty(self, store: TableStore) -> None:
        append(store, "macro", row("macro"))

        assert store.last("macro", market=MARKET, symbols=None, n=0, as_of=T0).num_rows == 0

    # --- the version ---

    def test_version_names_the_content_whatever_the_calls(self, store: TableStore) -> None:
        rows = pa.concat_tables([series("trades", 30), series("trades", 30, symbol="ETHUSDT", start=T0 + 20 * HOUR)])
        store.append("trades", market=MARKET, rows=rows)
        mixed = rows.take(np.random.default_rng(7).permutation(60))
        for i in range(0, 60, 9):
            store.append("trades", market="other", rows=mixed.slice(i, 9))
        other = MemoryTables()
        other.append("trades", market="other", rows=rows)
        other.append("trades", market=MARKET, rows=rows)

        versions = [store.version("trades", market=market) for market in (MARKET, "other")]

        assert all(len(version) == 64 for version in versions)
        assert versions[0] != versions[1], "the market is part of what is named"
        self.check_same_versions(versions, [other.version("trades", market=market) for market in (MARKET, "other")])

    def check_same_versions(self, versions: list[str], twin: list[str]) -> None:
        assert versions == twin

    def test_version_changes_with_every_row_and_nothing_else(self, store: TableStore) -> None:
        def version() -> str:
            return store.version("funding", market=MARKET)

        seen = [version()]
        for rows in (
            [funding(0.1)],
            [funding(0.2, revision=1)],
            [funding(0.2, at=T0 + timedelta.resolution)],
            [funding(0.2, at=T0 + timedelta.resolution, symbol="ETHUSDT")],
        ):
            append(store, "funding", *rows)
            seen.append(version())
        assert len(set(seen)) == 5

        append(store, "funding", funding(0.1), funding(0.9), funding(0.3))
        store.last("funding", market=MARKET, symbols=None, n=1, as_of=T0)

        assert version() == seen[-1]

    # --- bad input ---

    @pytest.mark.parametrize(
        ("kind", "values", "reason"),
        [
            ("funding", {"symbol": ""}, "missing: symbol"),
            ("funding", {"symbol": None}, "missing: symbol"),
            ("funding", {"event_at": None, "known_at": T0}, "missing: event_at"),
            ("funding", {"known_at": None}, "missing: known_at"),
            ("funding", {"known_at": T0 - timedelta.resolution}, "known_before_event"),
            ("funding", {"event_at": datetime.fromisoformat("1970-01-21T07:00:00Z")}, "impossible_time: event_at"),
            ("funding", {"known_at": datetime.fromisoformat("2200-01-01T00:00:00Z")}, "impossible_time: known_at"),
            ("funding", {"row_id": "1"}, "unexpected: row_id"),
            ("funding", {"row_id": None}, "missing: row_id"),
            ("trades", {"row_id": ""}, "missing: row_id"),
            ("funding", {"revision": None}, "missing: revision"),
            ("funding", {"revision": -1}, "out_of_bounds: revision"),
            ("funding", {"origin": "rumour"}, "unknown: origin"),
            ("funding", {"origin": None}, "unknown: origin"),
            ("funding", {"source": ""}, "missing: source"),
            ("funding", {"funding_rate": None}, "missing: funding_rate"),
            ("funding", {"funding_rate": NAN}, "missing: funding_rate"),
            ("funding", {"funding_rate": -INF}, "not_finite: funding_rate"),
            ("funding", {"funding_rate": 1.5}, "out_of_bounds: funding_rate"),
            ("trades", {"price": 0.0}, "out_of_bounds: price"),
            ("trades", {"price": -1.0}, "out_of_bounds: price"),
            ("trades", {"qty": INF}, "not_finite: qty"),
            ("trades", {"is_taker_buy": None}, "missing: is_taker_buy"),
            ("posts", {"text": ""}, "missing: text"),
            ("book_ticker", {"update_id": -5}, "out_of_bounds: update_id"),
            ("book_update", {"bid_qty": [1.0]}, "unequal_lengths: bid_px bid_qty"),
            ("book_update", {"ask_px": [1.0]}, "unequal_lengths: ask_px ask_qty"),
            ("book_update", {"bid_px": [1.0, NAN]}, "not_finite: bid_px"),
            ("book_update", {"bid_px": [None, 1.0]}, "not_finite: bid_px"),
            ("book_update", {"ask_qty": [1.0, -1.0]}, "out_of_bounds: ask_qty"),
            ("book_update", {"ask_px": None}, "missing: ask_px"),
            ("mark_price", {"low": 2.0}, "not_at_most: low open"),
        ],
    )
    def test_forbidden_row_is_kept_with_its_reason(
        self, store: TableStore, kind: str, values: dict[str, Any], reason: str
    ) -> None:
        bad, good = row(kind, **values), row(kind, event_at=T0 + DAY, row_id="2" if KINDS[kind].has_row_id else "")

        assert append(store, kind, bad, good) == (1, 0, 1)

        kept = store.quarantine(kind, market=MARKET)
        assert kept.schema == table_schema(kind).append(pa.field("reason", pa.string()))
        assert repr(kept.to_pylist()) == repr([dict(table(kind, [bad]).to_pylist()[0], reason=reason)])
        assert read(store, kind).equals(table(kind, [good]))

    def test_instant_beyond_the_calendar_is_quarantined(self, store: TableStore) -> None:
        far = table("funding", [row("funding")])
        nanoseconds = pa.array([1_748_736_000_000_000_000]).cast(pa.timestamp("us", tz="UTC"))
        for name in ("event_at", "known_at"):
            far = far.set_column(far.schema.get_field_index(name), far.schema.field(name), nanoseconds)

        assert store.append("funding", market=MARKET, rows=far).n_quarantined == 1
        kept = store.quarantine("funding", market=MARKET)
        assert kept["event_at"].cast(pa.int64()).to_pylist() == [1_748_736_000_000_000_000]

    def test_row_refused_again_is_counted_again_and_kept_once(self, store: TableStore) -> None:
        bad = [row("trades", row_id=str(i), price=-1.0) for i in range(3)]

        assert append(store, "trades", *bad[:2]) == (0, 0, 2)
        assert append(store, "trades", *bad[1:]) == (0, 0, 2)

        assert store.quarantine("trades", market=MARKET)["row_id"].to_pylist() == ["0", "1", "2"]

    def test_unknown_kind_bars_and_bad_market_are_refused(self, store: TableStore) -> None:
        rows = table("funding", [row("funding")])
        with pytest.raises(ValueError, match="expected a kind"):
            store.append("fundings", market=MARKET, rows=rows)
        with pytest.raises(ValueError, match="expected a kind"):
            store.read("bars", market=MARKET, symbols=None, start=T0, end=T0)
        with pytest.raises(ValueError, match="expected a market"):
            store.append("funding", market="../x", rows=rows)
        with pytest.raises(ValueError, match="expected a market"):
            store.range("funding", market="a/b")

    @pytest.mark.parametrize(
        "change",
        [
            lambda rows: rows.drop_columns(["period_hours"]),
            lambda rows: rows.append_column("price", pa.array([1.0])),
            lambda rows: rows.append_column("symbol", rows["symbol"]),
            lambda rows: rows.set_column(1, "event_at", rows["event_at"].cast(pa.timestamp("ms", tz="UTC"))),
            lambda rows: rows.set_column(1, "event_at", rows["event_at"].cast(pa.timestamp("us"))),
            lambda rows: rows.set_column(7, "funding_rate", pa.array(["0.1"])),
            lambda rows: rows.set_column(7, "funding_rate", pa.array([0.1], pa.float32())),
        ],
        ids=["missing", "unknown", "twice", "milliseconds", "no zone", "text", "narrow"],
    )
    def test_columns_of_another_schema_are_refused_whole(self, store: TableStore, change: Any) -> None:
        with pytest.raises(ValueError, match="expected"):
            store.append("funding", market=MARKET, rows=change(table("funding", [row("funding")])))
        assert read(store, "funding").num_rows == 0

    def test_texts_in_another_layout_and_columns_in_another_order_are_the_same(self, store: TableStore) -> None:
        rows = table("posts", [row("posts")])
        other = {
            "symbol": rows["symbol"].cast(pa.dictionary(pa.int32(), pa.string())),
            "text": rows["text"].cast(pa.large_string()),
        }
        mixed = pa.table({name: other.get(name, rows[name]) for name in reversed(rows.column_names)})

        assert store.append("posts", market=MARKET, rows=mixed).n_new == 1
        assert read(store, "posts").equals(rows)

    def test_naive_instants_and_unknown_columns_are_refused(self, store: TableStore) -> None:
        with pytest.raises(ValueError, match="time zone"):
            read(store, "funding", start=T0.replace(tzinfo=None))
        with pytest.raises(ValueError, match="time zone"):
            store.last("funding", market=MARKET, symbols=None, n=1, as_of=T0.replace(tzinfo=None))
        with pytest.raises(ValueError, match="expected columns"):
            read(store, "funding", columns=["rate"])
        with pytest.raises(ValueError, match="expected columns"):
            read(store, "funding", columns=["symbol", "symbol"])
