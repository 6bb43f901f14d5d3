"""Flows, books and series worked out of what the lake holds: what is stored, when it is known, and only once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.svc_ingest.collect_kit import T0

from qraft_contracts.kinds import BASE_COLUMNS, KINDS, STATE_INPUTS
from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import FixedClock
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.shaping import ARROW_TYPES
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive import Deriver
from svc_ingest.usecases.kept_live import KeptLive

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Lake:
    def __init__(self) -> None:
        self.bars, self.tables = MemoryBarStore(), MemoryTables()

    def put(self, kind: str, market: str, *rows: dict) -> None:
        """Store rows; event_at and the fields of the kind are given, and whatever differs from the first of a feed."""
        base = {"symbol": "BTCUSDT", "row_id": "", "revision": 0, "origin": "real", "source": "file:x"}
        types = {"event_at": US, "known_at": US, "revision": pa.int32()}
        types |= {field.name: ARROW_TYPES[field.type] for field in KINDS[kind].fields}
        names = [*(name for name, _ in BASE_COLUMNS), *KINDS[kind].field_names]
        whole = [base | {"known_at": row["event_at"]} | dict.fromkeys(KINDS[kind].field_names) | row for row in rows]
        table = pa.table({name: pa.array([row[name] for row in whole], types.get(name, pa.string())) for name in names})
        assert self.tables.append(kind, market=market, rows=table).n_new == len(rows)

    def derive(self, *kinds: str, **selection) -> Tally:
        tally = Tally()
        Deriver(self.bars, self.tables).derive(Selection(kinds=kinds, **selection), tally)
        return tally

    def rows(self, kind: str, market: str) -> list[dict]:
        start, end = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        return self.tables.read(kind, market=market, symbols=None, start=start, end=end).to_pylist()


@pytest.fixture
def lake() -> Lake:
    return Lake()


def trade(number: int, at: timedelta, *, buys: bool, qty: float = 2.0) -> dict:
    return {"event_at": T0 + at, "row_id": str(number), "price": 100.0, "qty": qty, "is_taker_buy": buys}


def ticker(number: int, at: timedelta, bid_qty: float = 3.0) -> dict:
    return {
        "event_at": T0 + at, "row_id": str(number), "bid_px": 99.0, "bid_qty": bid_qty, "ask_px": 101.0, "ask_qty": 1.0,
    }  # fmt: skip


def test_trade_flow_is_stored_once_and_never_over_a_row_of_a_source(lake: Lake) -> None:
    given = {"event_at": T0 + 10 * MINUTE, "n_trades": 7.0, "n_taker_buys": 1.0, "notional": 9.0,
             "taker_buy_notional": 1.0}  # fmt: skip
    lake.put("trade_flow", "binance.spot", given)
    lake.put("trades", "binance.spot", *(trade(i, i * MINUTE, buys=i % 2 == 0) for i in range(1, 18)))

    first, second = lake.derive("trade_flow"), lake.derive("trade_flow")

    rows = {row["event_at"]: row for row in lake.rows("trade_flow", "binance.spot")}
    assert list(rows) == [T0 + 10 * MINUTE, T0 + 15 * MINUTE]
    assert rows[T0 + 10 * MINUTE]["source"] == "file:x"
    made = rows[T0 + 15 * MINUTE]  # of the minutes 11 to 15
    assert (made["n_trades"], made["n_taker_buys"]) == (5.0, 2.0)
    assert (made["notional"], made["taker_buy_notional"]) == (1000.0, 400.0)
    assert made["known_at"] == made["event_at"] and made["source"] == "derived:trades" and made["origin"] == "real"
    assert (first.total().n_new, second.total().n_new) == (1, 0)
    assert not lake.tables.markets("taker_volume")  # was not asked for


def test_what_is_derived_beside_a_running_line_is_known_when_it_was_derived(lake: Lake, tmp_path: Path) -> None:
    lake.put("trades", "x.spot", *(trade(i, i * MINUTE, buys=True) for i in range(1, 18)))
    lake.put("trades", "y.spot", *(trade(i, i * MINUTE, buys=True) for i in range(1, 18)))
    clock, record = FixedClock(T0 + HOUR), LakeRecord(tmp_path)
    record.polling_since("x", T0 + 12 * MINUTE)

    Deriver(lake.bars, lake.tables, KeptLive(clock, record)).derive(Selection(kinds=("trade_flow",)), Tally())

    known = {(market, row["event_at"] - T0): row["known_at"] - T0
             for market in ("x.spot", "y.spot") for row in lake.rows("trade_flow", market)}  # fmt: skip
    assert known == {
        ("x.spot", 10 * MINUTE): 10 * MINUTE, ("x.spot", 15 * MINUTE): HOUR,
        ("y.spot", 10 * MINUTE): 10 * MINUTE, ("y.spot", 15 * MINUTE): 15 * MINUTE,
    }  # fmt: skip


def test_liquidations_of_others_say_that_a_symbol_had_none(lake: Lake) -> None:
    fields = {"side": "S", "price": 1.0}
    lake.put(
        "liquidations", "x.perp",
        fields | {"event_at": T0 + MINUTE, "row_id": "a", "size_usd": 10.0},
        fields | {"event_at": T0 + 5 * MINUTE, "row_id": "b", "size_usd": 20.0},
        fields | {"event_at": T0 + 16 * MINUTE, "row_id": "c", "size_usd": 5.0, "symbol": "ETHUSDT"},
        fields | {"event_at": T0 + 21 * MINUTE, "row_id": "d", "size_usd": 1.0},
    )  # fmt: skip

    lake.derive("liquidation_flow")

    found = {(row["event_at"] - T0, row["symbol"]): row["liquidation_usd"] for row in lake.rows(
        "liquidation_flow", "x.perp")}  # fmt: skip
    assert found == {
        (5 * MINUTE, "BTCUSDT"): 30.0, (5 * MINUTE, "ETHUSDT"): 0.0,
        (20 * MINUTE, "BTCUSDT"): 0.0, (20 * MINUTE, "ETHUSDT"): 5.0,
    }  # fmt: skip


def test_capture_that_ends_inside_an_interval_and_goes_on_later_is_counted_whole_and_once(lake: Lake) -> None:
    def liquidation(number: int, at: timedelta) -> dict:
        return {"event_at": T0 + at, "row_id": str(number), "side": "S", "price": 1.0, "size_usd": 10.0}

    said = {"symbol": "US", "name": "CPI", "category": "macro"}
    kinds = ("liquidation_flow", "event_density", "book_state", "trade_flow")
    captures = ([1.0, 7.0], [8.5, 11.0])  # the first ends inside (5, 10]
    tallies = []
    for part, minutes in enumerate(captures):
        times = [it * MINUTE for it in minutes]
        lake.put("liquidations", "x.perp", *(liquidation(100 * part + i, it) for i, it in enumerate(times)))
        lake.put(
            "events",
            "us.macro",
            *(said | {"event_at": T0 + 24 * HOUR + 6 * it, "row_id": f"{part}{i}"} for i, it in enumerate(times)),
        )
        lake.put(
            "book_ticker",
            "x.perp",
            *(ticker(1000 * part + i, 9 * MINUTE + part * MINUTE + i * 10 * SECOND, 3.0 + part) for i in range(5)),
        )
        if part == 0:
            lake.put("events", "us.macro", said | {"event_at": T0 + MINUTE, "row_id": "first"})
        tallies.append(lake.derive(*kinds))
        if part == 0:
            ends = {
                (kind, row["event_at"] - T0)
                for kind, market in (
                    ("liquidation_flow", "x.perp"),
                    ("event_density", "us.macro"),
                    ("book_state", "x.perp"),
                )
                for row in lake.rows(kind, market)
            }
            assert ends == {("liquidation_flow", 5 * MINUTE), ("event_density", 24 * HOUR)}

    flow = {row["event_at"] - T0: row["n_liquidations"] for row in lake.rows("liquidation_flow", "x.perp")}
    assert flow == {5 * MINUTE: 1.0, 10 * MINUTE: 2.0}
    density = {row["event_at"] - T0: row["n_events_24h"] for row in lake.rows("event_density", "us.macro")}
    assert density == {24 * HOUR: 1.0, 25 * HOUR: 3.0}
    (book,) = lake.rows("book_state", "x.perp")
    assert book["event_at"] == T0 + 10 * MINUTE and book["queue_imbalance"] == 0.6  # of the second capture's quote


def test_interval_that_ends_at_midnight_is_counted_when_the_feed_went_on_the_next_day(lake: Lake) -> None:
    fields = {"side": "S", "price": 1.0, "size_usd": 10.0}
    times = [timedelta(days=1) - MINUTE, timedelta(days=1) + 6 * MINUTE]
    lake.put("liquidations", "x.perp", *(fields | {"event_at": T0 + it, "row_id": str(it)} for it in times))

    lake.derive("liquidation_flow")

    assert [row["event_at"] - T0 for row in lake.rows("liquidation_flow", "x.perp")] == [timedelta(days=1)]


def test_a_book_is_rebuilt_for_its_depth_and_not_carried_over_a_silence(lake: Lake) -> None:
    days = 40 * timedelta(days=1)
    levels = {"bid_px": [99.0], "bid_qty": [8.0], "ask_px": [101.0], "ask_qty": [4.0]}
    update = {"bid_px": [99.0], "bid_qty": [12.0], "ask_px": [], "ask_qty": [], "first_update_id": 8}
    lake.put("book_snapshot", "x.perp", levels | {"event_at": T0 + 270 * SECOND, "row_id": "9", "update_id": 9})
    lake.put(
        "book_update", "x.perp",
        *(update | {"event_at": T0 + it, "row_id": str(n), "final_update_id": n} for n, it in (
            (10, 5 * MINUTE), (11, 6 * MINUTE), (99, days + 5 * MINUTE - SECOND))),
    )  # fmt: skip
    heard = [5 * MINUTE - SECOND, *(5 * MINUTE + k * 30 * SECOND for k in range(11)), days + 5 * MINUTE - SECOND,
             days + 5 * MINUTE + SECOND]  # fmt: skip
    lake.put("book_ticker", "x.perp", *(ticker(n, it) for n, it in enumerate(heard)))

    tally = lake.derive("book_state")

    rows = {row["event_at"] - T0: row for row in lake.rows("book_state", "x.perp")}
    assert list(rows) == [5 * MINUTE, 10 * MINUTE, days + 5 * MINUTE] and tally.total().n_new == 3
    first, second, late = rows.values()
    assert (first["spread_frac"], first["queue_imbalance"]) == (0.02, 0.5)
    assert first["depth_imbalance"] == pytest.approx((12 - 4) / 16) and first["bid_depth"] == 0.0  # 1 % from the mid
    assert second["depth_imbalance"] is None  # the feed of levels was silent for minutes
    assert first["order_flow_imbalance"] is None and second["order_flow_imbalance"] == 0.0
    assert late["depth_imbalance"] is None and late["source"] == "derived:book_ticker"


def test_a_series_that_features_read_is_scored_by_its_first_figures(lake: Lake) -> None:
    day = timedelta(days=1)
    values = np.random.default_rng(1).normal(20, 2, 61)
    series = [{"symbol": "VIX", "event_at": T0 + i * day, "known_at": T0 + i * day + HOUR, "value": float(it)}
              for i, it in enumerate(values)]  # fmt: skip
    series[3]["known_at"] = T0 + 60 * day  # published late
    lake.put("macro", "us.macro", *series)
    lake.put("macro", "us.macro", series[59] | {"revision": 1, "value": 99.0, "known_at": T0 + 70 * day})
    lake.put("macro", "us.macro", *(it | {"symbol": "SP500"} for it in series))

    lake.derive("series_state")

    rows = lake.rows("series_state", "us.macro")
    assert [(row["symbol"], row["event_at"]) for row in rows] == [("VIX", T0 + 59 * day), ("VIX", T0 + 60 * day)]
    assert [row["known_at"] for row in rows] == [T0 + 60 * day, T0 + 60 * day + HOUR]
    assert rows[0]["zscore_60"] == pytest.approx((values[59] - values[:60].mean()) / values[:60].std())
    assert rows[0]["source"] == "derived:macro"


def test_events_are_counted_by_the_hour_in_which_they_became_known(lake: Lake) -> None:
    said = {"symbol": "US", "name": "CPI", "category": "macro"}
    lake.put("events", "us.macro", *(said | {"event_at": T0 + it, "row_id": str(it)} for it in (
        10 * MINUTE, 30 * MINUTE, 26 * HOUR, 26 * HOUR + SECOND)))  # fmt: skip

    lake.derive("event_density", start=T0 + 24 * HOUR)

    rows = lake.rows("event_density", "us.macro")
    assert [(row["event_at"] - T0, row["n_events_24h"]) for row in rows] == [(25 * HOUR, 0.0), (26 * HOUR, 1.0)]
    assert all(row["known_at"] == row["event_at"] for row in rows)


def test_a_mark_is_compared_with_the_bar_that_ends_with_it(lake: Lake) -> None:
    prices = {"open": 101.0, "high": 101.0, "low": 101.0, "close": 101.0}
    lake.put("mark_price", "x.perp", *(prices | {"event_at": T0 + n * HOUR} for n in (1, 2, 3)))
    for interval, price, ends in (("5m", 100.0, [12, 13]), ("1h", 102.0, [12, 24])):
        lake.bars.append([_bar(interval, T0 + n * 5 * MINUTE, price) for n in ends])

    lake.derive("mark_premium")

    found = {row["event_at"] - T0: row["premium_frac"] for row in lake.rows("mark_premium", "x.perp")}
    assert found == {HOUR: pytest.approx(0.01), 2 * HOUR: pytest.approx(101 / 102 - 1)}  # of 3 h there is no bar


def _bar(interval: str, closed_at: datetime, price: float) -> BarBatch:
    prices = [np.array([price])] * 5
    return BarBatch("x.perp", interval, closed_at, closed_at, 0, Origin.REAL, ("BTCUSDT",), *prices)


def test_every_derived_input_can_be_derived() -> None:
    derived = {state.kind for state in STATE_INPUTS.values() if KINDS[state.kind].derived_from}

    assert derived == {
        "basis", "taker_volume", "mark_premium", "book_state", "trade_flow", "liquidation_flow", "series_state",
        "event_density", "text_state",
    }  # fmt: skip
