"""Real files into a lake: known numbers come out, kinds agree with each other, nothing is known early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from qraft_runtime.clock import SystemClock
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_ingest.adapters.catalogue import OURS, read_catalogue
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.readers import FileReader
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Collector, Selection
from svc_ingest.usecases.derive import Deriver

pytestmark = pytest.mark.data
# Small files of every reader and rule; the whole catalogue takes minutes and is run by hand.
DATASETS = (
    "ws_capture_binance_futures", "ws_capture_kraken_futures", "book_binance_spot_2024", "trades_binance_2024",
    "bittrex_5m_2018", "equities_1h_unadjusted", "actions_of_factors", "funding_2020_2023", "funding_2023_2025",
    "funding_multi_venue_2025", "funding_2025", "open_interest_binance_daily", "us_monthly", "us_yields", "vix",
    "event_dates", "economic_calendar", "reddit_titles_2025",
)  # fmt: skip
EVER = datetime(2100, 1, 1, tzinfo=UTC)


class Lake:
    def __init__(self, data: Path, root: Path) -> None:
        self.bars, self.tables, self.tally, self.root = ParquetLake(root), ParquetTables(root), Tally(), root
        collector = Collector(
            read_catalogue(OURS), data, FileReader(), self.bars, self.tables, LakeRecord(root), SystemClock(),
            lambda *_: None,
        )  # fmt: skip
        start = datetime(2014, 1, 1, tzinfo=UTC)  # of the equities; everything else begins later or is small
        collector.collect(
            Selection(datasets=tuple(it for it in DATASETS if it != "equities_1h_unadjusted")), self.tally
        )
        collector.collect(Selection(datasets=("equities_1h_unadjusted",), start=start), self.tally)
        Deriver(self.bars, self.tables).derive(
            Selection(kinds=("taker_volume", "trade_flow", "book_state")), self.tally
        )

    def rows(self, kind: str, market: str, symbol: str, **span) -> list[dict]:
        span = {"start": datetime(1980, 1, 1, tzinfo=UTC), "end": EVER} | span
        return self.tables.read(kind, market=market, symbols=[symbol], **span).to_pylist()


@pytest.fixture(scope="module")
def lake(qraft_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(qraft_data, tmp_path_factory.mktemp("lake"))


def test_everything_flows_and_what_does_not_has_a_name(lake: Lake) -> None:
    reasons = lake.tally.total().reasons

    assert lake.tally.failures == []
    assert reasons["no_time"] == 9 and reasons["kept: revision"] == 63
    assert {gap.code for gap in lake.tally.gaps} == {"not_taken: futures_contracts", "not_taken: book_ticker"}
    assert lake.tally.total().n_quarantined == 9 + 107  # ticker_lite has no quantities


def test_trades_of_the_raw_feed_and_of_the_file_are_the_same_rows(lake: Lake) -> None:
    assert lake.tally.counts["trades_binance_2024", "trades", "binance.spot"].n_repeated == 19_904
    assert lake.tally.counts["book_binance_spot_2024", "trades", "binance.spot"].n_new == 19_904


def test_taker_volume_of_the_raw_trades_is_the_volume_of_the_known_bar(lake: Lake) -> None:
    found = {row["event_at"]: row for row in lake.rows("taker_volume", "binance.spot", "BTCUSDT")}

    row = found[datetime(2024, 8, 9, tzinfo=UTC)]
    # The README's bar of 23:55, independently published: volume 199.42863.
    assert row["buy_volume"] + row["sell_volume"] == pytest.approx(199.42863, abs=1e-9)
    assert row["source"] == "derived:trades" and list(found) == [
        row["event_at"],
        row["event_at"] + timedelta(minutes=5),
    ]


def test_flows_and_book_states_of_the_raw_feed_agree_with_the_known_bar(lake: Lake) -> None:
    at = datetime(2024, 8, 9, tzinfo=UTC)
    flows = {row["event_at"]: row for row in lake.rows("trade_flow", "binance.spot", "BTCUSDT")}
    states = {row["event_at"]: row for row in lake.rows("book_state", "binance.spot", "BTCUSDT")}
    flow, state = flows[at], states[at]

    # The README's bar of 23:55: low 61583.22, high 61860.80, volume 199.42863 by the times of trades.
    assert 61_583.22 < flow["notional"] / 199.42863 < 61_860.80
    assert len(flows) == 2 and flow["known_at"] == at and 0 < flow["n_taker_buys"] < flow["n_trades"] < 19_904
    assert list(states) == [at - timedelta(minutes=5), at, at + timedelta(minutes=5)]
    assert state["spread_frac"] == pytest.approx(0.01 / 61_685.995)  # one tick, at the bar's close of 61,685.99
    assert state["bid_depth"] > 1e6 and state["ask_depth"] > 1e6 and abs(state["depth_imbalance"]) < 1
    assert states[at - timedelta(minutes=5)]["order_flow_imbalance"] is None  # the capture began within it
    assert state["order_flow_imbalance"] < 0 and state["source"] == "derived:book_ticker"


def test_nothing_of_the_book_is_known_before_the_exchange_said_it_happened(lake: Lake) -> None:
    for kind in ("book_ticker", "book_update", "book_snapshot", "trades"):
        table = lake.tables.read(
            kind, market="binance.spot", symbols=None, start=datetime(2024, 1, 1, tzinfo=UTC), end=EVER
        )
        event, known = (np.asarray(table[name].cast("int64").to_numpy()) for name in ("event_at", "known_at"))
        assert (known >= event).all()
    tickers = lake.tables.read(
        "book_ticker", market="binance.spot", symbols=None, start=datetime(2024, 1, 1, tzinfo=UTC), end=EVER
    )
    # Spot tickers carry no time; taken at their receipt they would be 1.27 s early. They follow the exchange's clock.
    first = tickers["event_at"][0].as_py()
    assert first >= datetime(2024, 8, 8, 23, 54, 15, 208_000, tzinfo=UTC)


def test_apple_split_four_and_seven_and_paid_what_it_announced(lake: Lake) -> None:
    actions = lake.rows("corporate_actions", "us.equities", "AAPL")

    splits = {row["event_at"].date().isoformat(): row["split_ratio"] for row in actions if row["split_ratio"] != 1.0}
    assert {day: round(ratio, 3) for day, ratio in splits.items()} == {
        "2000-06-21": 2.0, "2005-02-28": 2.0, "2014-06-09": 7.0, "2020-08-31": 4.0,
    }  # fmt: skip
    paid = {row["event_at"].date().isoformat(): row["dividend"] for row in actions}
    assert paid["2013-05-09"] == pytest.approx(3.05, abs=1e-3) and paid["2020-08-07"] == pytest.approx(0.82, abs=1e-3)


def test_unadjusted_bars_times_the_split_have_no_jump(lake: Lake) -> None:
    friday, monday = datetime(2014, 6, 6, 20, tzinfo=UTC), datetime(2014, 6, 9, 14, tzinfo=UTC)
    panel = lake.bars.read(
        market="us.equities", interval="1h", symbols=["AAPL"], start=friday - timedelta(hours=1), end=monday
    )
    assert panel is not None
    close = panel.close[~np.isnan(panel.close[:, 0]), 0]

    assert close[-1] / close[0] * 7.0 == pytest.approx(1.0, abs=0.02)


def test_four_sources_of_one_funding_history_agree(lake: Lake) -> None:
    rows = lake.rows("funding", "binance.perp", "BTCUSDT")
    events = [row["event_at"] for row in rows]

    assert len(events) == len(set(events)) and all(event.minute == event.second == 0 for event in events)
    assert {b - a for a, b in pairwise(events)} == {timedelta(hours=8)}
    assert lake.tables.quarantine("funding", market="binance.perp").num_rows == 0
    hourly = lake.rows("funding", "hyperliquid.perp", "BTCUSDT")
    assert {row["period_hours"] for row in hourly} == {1.0} and {row["period_hours"] for row in rows} == {8.0}


def test_revised_monthly_values_are_invisible_before_they_were_collected(lake: Lake) -> None:
    def known(as_of: datetime) -> int:
        return len(lake.rows("macro", "us.macro", "CORE_CPI", as_of=as_of))

    assert known(datetime(2025, 12, 31, tzinfo=UTC)) == 0
    assert known(datetime(2026, 2, 1, tzinfo=UTC)) == 428


def test_friday_yield_is_known_on_tuesday_night_at_the_earliest(lake: Lake) -> None:
    friday = datetime(2025, 9, 26, tzinfo=UTC)
    (row,) = lake.rows("macro", "us.macro", "US10Y", start=friday, end=friday + timedelta(days=1), as_of=EVER)

    assert row["known_at"] == datetime(2025, 10, 1, tzinfo=UTC)
    (vix,) = lake.rows("macro", "us.macro", "VIX", start=friday, end=friday + timedelta(days=1), as_of=EVER)
    assert vix["known_at"] == vix["event_at"] == datetime(2025, 9, 27, tzinfo=UTC)


def test_per_cent_of_the_long_accounts_is_a_fraction_that_fits_the_ratio(lake: Lake) -> None:
    rows = lake.rows("long_short", "binance.perp", "BTCUSDT")

    assert len(rows) == 31 and all(row["known_at"] - row["event_at"] == timedelta(days=1) for row in rows)
    for row in rows:
        frac = row["long_account_frac"]
        assert frac / (1 - frac) == pytest.approx(row["account_ratio"], rel=2e-3)


def test_engagement_of_reddit_titles_is_known_after_the_day_it_was_counted(lake: Lake) -> None:
    rows = lake.rows("post_engagement", "reddit", "BTCUSDT")

    assert len(rows) == 3_049 and {row["known_at"] for row in rows} == {datetime(2025, 4, 27, tzinfo=UTC)}
