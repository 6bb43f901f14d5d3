"""Live polling of a venue's other kinds: known when received, corrected by revisions, never in the way of bars."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.svc_ingest.binance_server import STEP_MS, Futures, Venue, serve_binance
from tests.svc_ingest.test_backfill import H8, M5, NOW, NOW_MS, funding, statistics

from qraft_runtime.clock import FixedClock
from qraft_runtime.health import Health
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.history import VenueClient
from svc_ingest.domain.polling import polled_feeds
from svc_ingest.usecases.poll import Poller, PollSettings
from svc_ingest.usecases.poll_rows import PollRows

EVER = datetime(2200, 1, 1, tzinfo=UTC)
FEEDS = {polled.feed.name: polled for polled in polled_feeds(("BTCUSDT",))}
INTEREST = "/futures/data/openInterestHist"
RATE_LIMITED = {"code": -1003, "msg": "Too many requests"}


@pytest.fixture
def venue() -> Iterator[Venue]:
    """Serve a venue whose rows are those of two days up to NOW; perpetuals cost 0.5 more."""
    prices = {"BTCUSDT": 100.0, "ETHUSDT": 50.0}
    closes = {symbol: [price + i * 0.1 for i in range(2 * 288)] for symbol, price in prices.items()}
    rows = statistics(600) | {"/fapi/v1/fundingRate": funding([NOW_MS - i * H8 for i in range(10)][::-1])}
    first_ms = NOW_MS - 2 * 288 * STEP_MS
    with serve_binance(Venue(first_ms, closes, futures=Futures(rows, NOW_MS), perp_shift=0.5)) as venue:
        yield venue


class Bench:
    """A poller over stores in memory whose clock moves with what it waits, and the venue's time with it."""

    def __init__(self, venue: Venue, home: Path, *, symbols=("BTCUSDT",), stores=None, at=NOW) -> None:
        self.venue, self.clock, self.paused = venue, FixedClock(at), list[float]()
        self.polled: PollRows | None = None
        self.bars, self.tables = stores or (MemoryBarStore(), MemoryTables())
        self.record, self.health, self.until = LakeRecord(home), Health(), EVER
        self.client = VenueClient("binance", symbols, url=venue.url, clock=self.clock, pause=self.pause)
        self.client._client.enableRateLimit = False
        settings = PollSettings(symbols, timedelta(days=1), polled_feeds())
        self.poller = Poller(
            self.client, self.bars, self.tables, self.record, self.clock, self.health, settings, lambda: 0.5, self.pause
        )

    async def pause(self, seconds: float) -> None:
        """Let time pass at once; once it has reached `until` for good, nobody goes on."""
        self.paused.append(seconds)
        if self.clock.at >= self.until:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        self.go(timedelta(seconds=seconds))

    def go(self, by: timedelta) -> None:
        self.clock.at += by
        self.clock.elapsed_s += by.total_seconds()
        self.venue.now = self.clock.at
        self.venue.futures.now_ms = int(self.clock.at.timestamp() * 1000)

    async def poll(self, *names: str) -> list[bool]:
        self.polled = self.polled or self.poller.rows()
        return [await self.poller.poll(FEEDS[name], self.polled) for name in names]

    def rows(self, kind: str, *, as_of: datetime = EVER, revisions: str = "latest") -> list[dict]:
        return self.tables.read(
            kind, market="binance.perp", symbols=None, start=NOW - timedelta(days=60), end=NOW + timedelta(days=60),
            as_of=as_of, revisions=revisions,
        ).to_pylist()  # fmt: skip

    def refused(self) -> list[dict]:
        return [row for path in (self.record._lake / "refused").glob("*") for row in pq.read_table(path).to_pylist()]


@asynccontextmanager
async def bench_at(venue: Venue, home: Path, **options) -> AsyncIterator[Bench]:
    bench = Bench(venue, home, **options)
    try:
        await bench.client.open()
        yield bench
    finally:
        await bench.client.close()


def tell_interest(venue: Venue, at_ms: int, usd: float) -> None:
    row = {"symbol": "BTCUSDT", "sumOpenInterest": "1600.0", "sumOpenInterestValue": str(usd), "timestamp": at_ms}
    venue.futures.rows[INTEREST].append(row)


async def test_what_the_venue_told_before_is_known_then_and_what_follows_when_it_was_received(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        assert await bench.poll("open_interest", "taker_volume", "long_short", "funding", "mark_price") == [True] * 5
        before = bench.rows("open_interest")
        tell_interest(venue, NOW_MS, 2e8)
        bench.go(timedelta(minutes=5, seconds=17))
        await bench.poll("open_interest")

    assert len(before) == 287 and all(row["known_at"] - row["event_at"] == timedelta(minutes=5) for row in before)
    assert {kind: len(bench.rows(kind)) for kind in ("taker_volume", "long_short", "funding", "mark_price")} == {
        "taker_volume": 288, "long_short": 287, "funding": 2, "mark_price": 24,
    }  # fmt: skip
    newest = bench.rows("open_interest")[-1]
    assert newest["event_at"] == NOW and newest["known_at"] == NOW + timedelta(minutes=5, seconds=17)
    assert newest["origin"] == "real" and newest["source"] == "ccxt:binance"


async def test_changed_value_is_a_revision_known_when_it_was_received(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll("open_interest", "taker_volume")
        venue.futures.rows[INTEREST][-3]["sumOpenInterestValue"] = "123456789.0"
        venue.futures.rows["/futures/data/takerlongshortRatio"][-2]["buyVol"] = "7.0"
        bench.go(timedelta(minutes=1))
        await bench.poll("open_interest", "taker_volume")
        await bench.poll("open_interest", "taker_volume")

    (revised,) = (row for row in bench.rows("open_interest") if row["revision"])
    assert (revised["revision"], revised["open_interest_usd"]) == (1, 123456789.0)
    assert revised["known_at"] == NOW + timedelta(minutes=1)
    assert [row["revision"] for row in bench.rows("open_interest", as_of=NOW + timedelta(seconds=59))] == [0] * 287
    assert [row["buy_volume"] for row in bench.rows("taker_volume") if row["revision"]] == [7.0]
    state = bench.poller.states["open_interest"]
    assert (state.n_new, state.n_revised, state.n_quarantined) == (287, 1, 0)


async def test_rate_shown_before_its_settlement_is_not_stored_as_the_settled_one(venue, tmp_path) -> None:
    rates = venue.futures.rows["/fapi/v1/fundingRate"]
    predicted = {"symbol": "BTCUSDT", "fundingTime": NOW_MS + H8, "fundingRate": "0.00070000", "markPrice": "1"}
    async with bench_at(venue, tmp_path) as bench:
        rates.append(predicted)
        await bench.poll("funding")
        # Our clock is twenty seconds ahead of the venue's, which still shows what it expects.
        bench.go(timedelta(hours=8, seconds=20))
        await bench.poll("funding")
        shown = bench.rows("funding")
        rates[-1] = predicted | {"fundingTime": NOW_MS + H8 + 4, "fundingRate": "0.00020000"}
        bench.go(timedelta(seconds=50))
        await bench.poll("funding")

    assert [row["event_at"] for row in shown][-1] == NOW and 0.0007 not in [row["funding_rate"] for row in shown]
    settled = bench.rows("funding")[-1]
    assert (settled["event_at"], settled["funding_rate"]) == (NOW + timedelta(hours=8), 0.0002)
    assert settled["revision"] == 0 and settled["known_at"] == NOW + timedelta(hours=8, seconds=70)


async def test_429_is_waited_out_by_every_feed_and_nothing_is_lost(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        venue.answers = [(429, {"Retry-After": "17"}, RATE_LIMITED)]
        done = await asyncio.gather(bench.poll("open_interest"), bench.poll("taker_volume"))

    assert done == [[True], [True]] and 17.0 in bench.paused
    assert len(bench.rows("open_interest")) == 287 and len(bench.rows("taker_volume")) == 288


async def test_ban_is_remembered_obeyed_after_a_restart_and_ends(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        venue.answers = [(418, {"Retry-After": "3600"}, {"code": -1003, "msg": "IP banned"})]
        assert await bench.poll("open_interest") == [False]
        n_asked = len(venue.requests)
    async with bench_at(venue, tmp_path) as again:
        n_opening = len(venue.requests) - n_asked
        again.until = NOW + timedelta(minutes=59)
        blocked = asyncio.create_task(again.poll("open_interest"))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(blocked), 0.5)
        assert not blocked.done() and len(venue.requests) == n_asked + n_opening
        assert "wants no request before 2025-06-02T01:00:00Z" in again.health.report()["feeds"]
        blocked.cancel()
        again.until = EVER
        assert await again.poll("open_interest") == [True]

    assert again.clock.at >= NOW + timedelta(hours=1) and len(again.rows("open_interest")) > 200


async def test_renamed_entry_is_a_problem_of_its_feed_and_the_others_go_on(venue, tmp_path) -> None:
    for row in venue.futures.rows[INTEREST]:
        row["openInterestSum"] = row.pop("sumOpenInterest")
    async with bench_at(venue, tmp_path) as bench:
        assert await bench.poll("open_interest", "taker_volume") == [False, True]

    assert "schema_drift" in bench.health.report()["feed open_interest binance.perp"]
    assert bench.rows("open_interest") == [] and len(bench.rows("taker_volume")) == 288
    assert bench.poller.states["open_interest"].n_errors == 1


async def test_connection_killed_in_the_middle_of_an_answer_is_asked_again(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        venue.answers = [(0, {}, None)] * 2
        assert await bench.poll("open_interest") == [True]

    assert len(bench.rows("open_interest")) == 287 and bench.paused == [0.5, 1.0]


async def test_after_a_pause_of_ours_rows_are_known_when_we_got_them_and_none_is_there_twice(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as first:
        await first.poll("open_interest")
        stores = (first.bars, first.tables)
    for i in range(12):
        tell_interest(venue, NOW_MS + i * M5, 2e8 + i)
    later = NOW + timedelta(hours=1, seconds=15)
    async with bench_at(venue, tmp_path, stores=stores, at=later) as second:
        venue.futures.now_ms = int(later.timestamp() * 1000)
        await second.poll("open_interest")

    rows = second.rows("open_interest", revisions="all")
    assert len(rows) == len({row["event_at"] for row in rows}) == 287 + 12
    assert {row["known_at"] for row in rows if row["event_at"] >= NOW} == {later}


async def test_row_of_another_unit_is_kept_apart_once_and_the_next_good_one_is_stored(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll("open_interest")
        tell_interest(venue, NOW_MS, 2e8 / 1000)
        tell_interest(venue, NOW_MS + M5, 2e8)
        bench.go(timedelta(minutes=10, seconds=15))
        await bench.poll("open_interest")
        await bench.poll("open_interest")

    stored = bench.rows("open_interest")
    assert stored[-1]["event_at"] == NOW + timedelta(minutes=5) and NOW not in [row["event_at"] for row in stored]
    (row,) = bench.refused()
    assert row["reason"].startswith("unit_drift: open_interest_usd is 0.002 times") and "200000.0" in row["received"]


async def test_basis_of_two_symbols_follows_the_bars_and_is_known_when_both_are_here(venue, tmp_path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    async with bench_at(venue, tmp_path, symbols=symbols, at=NOW - timedelta(minutes=5)) as bench:
        bench.go(timedelta(seconds=6))
        await bench.poll("bars.5m.perp", "bars.5m.spot")
        n_before = len(bench.rows("basis"))
        bench.go(timedelta(minutes=5))
        await bench.poll("bars.5m.perp", "bars.5m.spot")

    panel = bench.bars.read(market="binance.perp", interval="5m", symbols=None, start=NOW - timedelta(hours=1), end=NOW)
    assert panel.symbols == symbols and panel.closed_at.size == 12
    rows = bench.rows("basis")
    assert (n_before, len(rows)) == (2 * 288, 2 * 289)
    newest = {row["symbol"]: row for row in rows if row["event_at"] == NOW}
    assert newest["BTCUSDT"]["basis_frac"] == pytest.approx(0.5 / (100 + 57.5))
    assert newest["ETHUSDT"]["known_at"] == NOW + timedelta(seconds=6) and newest["ETHUSDT"]["source"] == "derived:bars"


async def test_feed_that_hangs_delays_no_other_and_all_keep_their_pace(venue, tmp_path) -> None:
    venue.held[INTEREST] = threading.Event()
    async with bench_at(venue, tmp_path) as bench:
        bench.until = NOW + timedelta(hours=2)
        task = asyncio.create_task(bench.poller.serve())
        async with asyncio.timeout(20):
            while len(bench.poller.states) < 7 or not all(bench.rows(kind) for kind in ("funding", "basis")):
                await asyncio.sleep(0.01)
        assert bench.rows("open_interest") == []
        venue.held[INTEREST].set()
        async with asyncio.timeout(20):
            while bench.clock.at < bench.until or not bench.rows("open_interest"):
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    n_taker = sum(path.endswith("takerlongshortRatio") for path in venue.requests)
    n_funding = sum(path.endswith("fundingRate") for path in venue.requests)
    assert n_taker > n_funding >= 1


async def test_feed_without_new_rows_is_stale_by_the_dictionary_and_told_so(venue, tmp_path) -> None:
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll("open_interest", "funding")
        assert bench.health.report()["feed open_interest binance.perp"] == "fresh"
        bench.go(timedelta(hours=4))
        await bench.poll("open_interest", "funding")

    assert bench.health.report()["feed open_interest binance.perp"] == "stale: BTCUSDT"
    assert bench.health.report()["feed funding binance.perp"] == "fresh"
    told = {feed["kind"]: feed for feed in bench.poller.as_dict()["feeds"]}
    assert (told["open_interest"]["stale"], told["open_interest"]["age_s"]) == (["BTCUSDT"], 4 * 3600)


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.99])
def test_next_poll_is_after_the_step_was_written_and_spread_a_little(spread: float) -> None:
    polled = FEEDS["open_interest"]
    due = polled.next_ms(NOW_MS + 1, spread)

    assert due - NOW_MS == 15_000 + int(spread * 15_000)
    assert polled.next_ms(due, spread) == due + M5
