"""A venue's past through ccxt, from a local server that speaks Binance's futures API: windows, limits, bans, drift."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from tests.svc_ingest.binance_server import Futures, Venue, serve_binance
from tests.svc_ingest.ingest_kit import T0

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import FixedClock
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.history import VenueClient
from svc_ingest.domain.tally import Tally
from svc_ingest.domain.venue_feeds import FEEDS, Banned, Feed, bar_feed
from svc_ingest.usecases.backfill import Backfill
from svc_ingest.usecases.kept_live import KeptLive

NOW = datetime(2025, 6, 2, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
M5 = 300_000
H8 = 8 * 3_600_000
FEED = {feed.name: feed for feed in FEEDS}


def stamps(n: int, step_ms: int, *, until_ms: int = NOW_MS) -> list[int]:
    return [until_ms - i * step_ms for i in range(n)][::-1]


def statistics(n: int) -> dict[str, list[dict]]:
    """Return n rows of each statistic, in the words of the venue's documentation."""
    times = stamps(n, M5)
    return {
        "/futures/data/openInterestHist": [
            {"symbol": "BTCUSDT", "sumOpenInterest": f"{1000 + i}.5", "sumOpenInterestValue": f"{1e8 + i}",
             "CMCCirculatingSupply": "165880.538", "timestamp": t} for i, t in enumerate(times)],
        "/futures/data/globalLongShortAccountRatio": [
            {"symbol": "BTCUSDT", "longShortRatio": "1.5000", "longAccount": "0.6000", "shortAccount": "0.4000",
             "timestamp": t} for t in times],
        "/futures/data/topLongShortPositionRatio": [
            {"symbol": "BTCUSDT", "longShortRatio": "1.2500", "longAccount": "0.5556", "shortAccount": "0.4444",
             "timestamp": t} for t in times[1:]],
        "/futures/data/takerlongshortRatio": [
            {"buySellRatio": "1.5", "buyVol": f"{100 + i}.0", "sellVol": "248.5030", "timestamp": t}
            for i, t in enumerate(times)],
    }  # fmt: skip


def funding(times: list[int]) -> list[dict]:
    return [
        {"symbol": "BTCUSDT", "fundingTime": t + 3, "fundingRate": "0.00010000", "markPrice": "34287.54619963"}
        for t in times
    ]


@pytest.fixture
def venue():
    closes = {"BTCUSDT": [100.0 + i for i in range(288)]}
    rows = statistics(1_200) | {"/fapi/v1/fundingRate": funding(stamps(10, H8))}
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes, futures=Futures(rows, NOW_MS))) as venue:
        yield venue


class Lake:
    """Stores in memory and one venue client on the server; `paused` = what it waited."""

    def __init__(self, venue: Venue) -> None:
        self.bars, self.tables, self.clock = MemoryBarStore(), MemoryTables(), FixedClock(NOW)
        self.paused: list[float] = []
        self.client = VenueClient("binance", ["BTCUSDT"], url=venue.url, clock=self.clock, pause=self._pause)
        self.client._client.enableRateLimit = False

    async def _pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.clock.elapsed_s += seconds

    async def fill(self, *feeds: Feed, days: float = 3, start=None, end=None, kept_live=None) -> Tally:
        tally = Tally()
        job = Backfill(
            self.client, self.bars, self.tables, self.clock, timedelta(days=days), lambda *_: None, kept_live
        )
        await job.run(feeds, ["BTCUSDT"], start=start, end=end, tally=tally)
        return tally

    def rows(self, kind: str) -> list[dict]:
        return self.tables.read(
            kind, market="binance.perp", symbols=None, start=NOW - timedelta(days=60), end=NOW + timedelta(days=1)
        ).to_pylist()


@asynccontextmanager
async def lake_at(venue: Venue) -> AsyncIterator[Lake]:
    lake = Lake(venue)
    try:
        await lake.client.open()
        yield lake
    finally:
        await lake.client.close()


async def test_statistics_are_read_in_windows_and_known_one_step_after_their_stamp(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["open_interest"], FEED["long_short"], FEED["taker_volume"])

    assert not tally.failures
    interest = lake.rows("open_interest")
    assert len(interest) == 3 * 288 - 1  # the newest is known five minutes from now
    assert interest[-1]["event_at"] == NOW - timedelta(minutes=5) and interest[-1]["known_at"] == NOW
    assert interest[-1]["open_interest"] == 1000 + 1198 + 0.5 and interest[-1]["source"] == "ccxt:binance"
    ratios = lake.rows("long_short")
    assert {row["position_ratio"] for row in ratios} == {1.25} and ratios[0]["long_account_frac"] == 0.6
    taker = lake.rows("taker_volume")
    assert taker[-1]["event_at"] == taker[-1]["known_at"] == NOW and taker[-1]["buy_volume"] == 100 + 1198
    asked = [(start, end) for path, start, end in venue.futures.asked if path.endswith("openInterestHist")]
    assert len(asked) == 2 and all(end - start < 500 * M5 for start, end in asked)


async def test_what_a_lake_that_is_polled_gets_later_is_known_when_it_came(venue: Venue, tmp_path) -> None:
    record = LakeRecord(tmp_path)
    since = record.polling_since("binance", NOW - timedelta(hours=2))
    async with lake_at(venue) as lake:
        lake.clock.at = NOW + timedelta(hours=1)
        tally = await lake.fill(FEED["taker_volume"], kept_live=KeptLive(lake.clock, record))

    rows = lake.rows("taker_volume")
    before, after = ([row for row in rows if (row["event_at"] > since) is is_later] for is_later in (False, True))
    assert not tally.failures and len(before) > 100 and len(after) == 25
    assert all(row["known_at"] == row["event_at"] for row in before)
    assert {row["known_at"] for row in after} == {NOW + timedelta(hours=1)}


async def test_lake_that_never_ran_live_keeps_the_times_of_the_venue(venue: Venue, tmp_path) -> None:
    async with lake_at(venue) as lake:
        await lake.fill(FEED["taker_volume"], kept_live=KeptLive(lake.clock, LakeRecord(tmp_path), "binance.perp"))

    assert all(row["known_at"] == row["event_at"] for row in lake.rows("taker_volume"))


async def test_second_run_asks_from_where_the_lake_ends_and_stores_nothing_twice(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        await lake.fill(FEED["open_interest"])
        venue.futures.asked.clear()
        again = await lake.fill(FEED["open_interest"])
        whole = await lake.fill(FEED["open_interest"], start=NOW - timedelta(days=3))

    assert again.total().n_new == 0 and whole.total().n_new == 0 and whole.total().n_repeated == 863
    assert venue.futures.asked[0][1] >= NOW_MS - 3 * M5


async def test_what_the_venue_forgot_is_a_gap_by_name_and_no_loop_of_errors(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["open_interest"], start=NOW - timedelta(days=90))

    assert [gap.code for gap in tally.gaps] == ["older_than_retention"]
    assert "2025-03-04T00:00:00Z to 2025-05-03T01:00:00Z: the venue keeps 30 days" in tally.gaps[0].why
    assert not tally.failures and all(start >= NOW_MS - 30 * 86_400_000 for _, start, _ in venue.futures.asked)


async def test_a_venue_that_forgets_sooner_than_it_says_is_a_gap_too(venue: Venue) -> None:
    venue.futures.retention_ms = 86_400_000
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["open_interest"])

    assert {gap.code for gap in tally.gaps} == {"older_than_retention"} and not tally.failures
    assert 0 < len(lake.rows("open_interest")) < 863


async def test_venue_that_gives_fewer_rows_than_asked_for_is_asked_until_it_has_no_more(venue: Venue) -> None:
    venue.futures.page_max = 70
    async with lake_at(venue) as lake:
        await lake.fill(FEED["open_interest"], FEED["funding"])

    assert len(lake.rows("open_interest")) == 863 and len(lake.rows("funding")) == 8


async def test_row_of_the_venue_replaces_the_derived_one_from_when_it_was_known(venue: Venue) -> None:
    hour = NOW - timedelta(hours=1)
    async with lake_at(venue) as lake:
        row = {"symbol": "BTCUSDT", "event_at": hour, "known_at": hour, "row_id": "", "revision": 0, "origin": "replay",
               "source": "derived:trades", "buy_volume": 1.0, "sell_volume": 2.0}  # fmt: skip
        schema = lake.tables.read("taker_volume", market="binance.perp", symbols=None, start=hour, end=hour).schema
        lake.tables.append("taker_volume", market="binance.perp", rows=pa.Table.from_pylist([row], schema=schema))
        tally = await lake.fill(FEED["taker_volume"], days=1)
        again = await lake.fill(FEED["taker_volume"], start=NOW - timedelta(days=1))

    rows = [row for row in lake.rows("taker_volume") if row["event_at"] == hour]
    assert [(it["revision"], it["source"], it["buy_volume"]) for it in rows] == [(1, "ccxt:binance", 100.0 + 1199 - 13)]
    assert tally.total().n_quarantined == again.total().n_quarantined == 0 and again.total().n_new == 0


async def test_funding_is_of_the_hour_and_carries_the_period_the_venue_keeps(venue: Venue) -> None:
    times = stamps(6, H8)
    venue.futures.rows["/fapi/v1/fundingRate"] = funding([*times, times[-1] + H8 // 2])
    venue.futures.now_ms += H8
    async with lake_at(venue) as lake:
        lake.clock.at = NOW + timedelta(hours=8)
        await lake.fill(FEED["funding"], days=1)

    rows = lake.rows("funding")
    assert [row["period_hours"] for row in rows] == [8.0, 8.0, 4.0]
    assert rows[-1]["event_at"] == NOW + timedelta(hours=4) and rows[-1]["known_at"] == rows[-1][
        "event_at"
    ] + timedelta(milliseconds=3)


async def test_trades_of_full_pages_are_whole_and_single(venue: Venue) -> None:
    first = NOW_MS - 3_600_000
    trades = [
        {
            "a": 100 + i,
            "p": "100.10",
            "q": "0.5",
            "nq": "0.5",
            "f": i,
            "l": i,
            "T": first + 10 + i // 3,
            "m": i % 2 == 0,
        }
        for i in range(2_500)
    ]
    venue.futures.rows["/fapi/v1/aggTrades"] = trades
    venue.futures.page_max = 1_000
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["trades.perp"])

    rows = lake.rows("trades")
    assert not tally.gaps and not tally.failures
    assert sorted(row["row_id"] for row in rows) == sorted(f"a{100 + i}" for i in range(2_500))
    assert sum(row["is_taker_buy"] for row in rows) == 1_250


async def test_book_of_now_is_a_snapshot_known_when_it_was_received(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        await lake.fill(FEED["book_snapshot.perp"])

    (row,) = lake.rows("book_snapshot")
    assert row["bid_px"] == [99.5, 99.4] and row["ask_qty"] == [3.0] and row["update_id"] == 4711
    assert row["event_at"] == NOW - timedelta(milliseconds=7) and row["known_at"] == NOW


async def test_bars_fill_the_lake_and_a_hole_in_it_becomes_known_now(venue: Venue) -> None:
    feed = bar_feed("perp", "5m", M5)
    venue.hidden = {("BTCUSDT", 100)}
    async with lake_at(venue) as lake:
        first = await lake.fill(feed, start=T0, end=NOW)
        venue.hidden = set()
        second = await lake.fill(feed, start=T0, end=NOW)
        third = await lake.fill(feed, start=T0, end=NOW)

    hole = T0 + timedelta(minutes=505)
    read = {
        "market": "binance.perp",
        "interval": "5m",
        "symbols": None,
        "start": hole - timedelta(minutes=5),
        "end": hole,
    }
    assert (first.total().n_new, second.total().n_new, third.total().n_new) == (287, 1, 0)
    assert lake.bars.read(**read, as_of=NOW - timedelta(seconds=1), revisions="latest") is None
    assert lake.bars.read(**read, as_of=NOW, revisions="latest").close[0, 0] == 200.0


async def test_429_is_waited_out_for_as_long_as_the_venue_says(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        venue.answers = [(429, {"Retry-After": "17"}, {"code": -1003, "msg": "Too many requests"})] * 2
        tally = await lake.fill(FEED["open_interest"], days=1)

    assert lake.paused == [17.0, 17.0] and not tally.failures and len(lake.rows("open_interest")) == 287


async def test_endless_429_ends_after_a_bounded_number_of_requests(venue: Venue) -> None:
    async with lake_at(venue) as lake:
        before = len(venue.requests)
        venue.answers = [(429, {"Retry-After": "1"}, {"code": -1003, "msg": "Too many requests"})] * 100
        with pytest.raises(Transient, match="exchange_away"):
            await lake.fill(FEED["open_interest"], days=1)

    assert len(venue.requests) - before == 5


async def test_ban_stops_everything_at_once_and_is_remembered(venue: Venue, tmp_path) -> None:
    async with lake_at(venue) as lake:
        before = len(venue.requests)
        venue.answers = [(418, {"Retry-After": "7200"}, {"code": -1003, "msg": "Way too many requests; IP banned"})]
        with pytest.raises(Banned, match="exchange_banned") as banned:
            await lake.fill(FEED["open_interest"], FEED["taker_volume"], days=1)
    record = LakeRecord(tmp_path)
    record.set_ban("binance", datetime.fromtimestamp(banned.value.until_ms / 1000, UTC))

    assert len(venue.requests) - before == 1 and lake.paused == []
    with pytest.raises(Transient, match="2025-06-02T02:00:00Z"):
        record.check_ban("binance", NOW + timedelta(hours=1))
    record.check_ban("binance", NOW + timedelta(hours=2))


async def test_renamed_entry_at_the_venue_is_named_and_other_feeds_go_on(venue: Venue) -> None:
    for row in venue.futures.rows["/futures/data/takerlongshortRatio"]:
        row["buyVolume"] = row.pop("buyVol")
    for row in venue.futures.rows["/futures/data/openInterestHist"]:
        row["openInterestSum"] = row.pop("sumOpenInterest")
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["taker_volume"], FEED["open_interest"], FEED["long_short"])

    assert [(it.where, it.code) for it in tally.failures] == [
        ("binance:taker_volume BTCUSDT", "schema_drift"),
        ("binance:open_interest BTCUSDT", "schema_drift"),
    ]
    assert "buyVol" in tally.failures[0].why and len(lake.rows("long_short")) == 863


async def test_venue_in_per_cent_is_quarantined_as_another_unit(venue: Venue) -> None:
    rows = venue.futures.rows["/futures/data/openInterestHist"]
    for row in rows[900:]:
        row["sumOpenInterestValue"] = str(float(row["sumOpenInterestValue"]) * 1000)
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["open_interest"])

    (count,) = tally.tables().values()
    assert count.n_new + count.n_quarantined == 863 and 250 < count.n_quarantined < 350
    assert [reason for reason in count.reasons if reason.startswith("unit_drift: open_interest_usd is 1e+03 times")]
    assert len(tally.refused) == count.n_quarantined
