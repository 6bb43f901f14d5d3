"""What a living line derives of what it polls: as history does, in time for the next bar, missing if not whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.svc_ingest.binance_server import Venue
from tests.svc_ingest.test_backfill import NOW, NOW_MS
from tests.svc_ingest.test_poll import EVER, FEEDS, RATE_LIMITED, Bench, bench_at, venue  # noqa: F401 the fixture

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Transient
from qraft_frames.bars import BarBatch
from qraft_quant.derived.depth import DEPTH_FRAC, N_LEVELS
from qraft_runtime.settings import CommonSettings
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import Appended
from svc_ingest.adapters.late_rows import LateRows, ReadMark
from svc_ingest.adapters.market_state import LakeState
from svc_ingest.adapters.polling import PolledExchange, feeds_of
from svc_ingest.domain.polling import FeedState
from svc_ingest.domain.tally import Count, Tally
from svc_ingest.domain.venue_rows import BOOK_FRAC, BOOK_LEVELS
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive import Deriver
from svc_ingest.usecases.join_state import StateJoin
from svc_ingest.usecases.poll import PollSettings

PERP = "binance.perp"
SECOND, MINUTE, STEP = timedelta(seconds=1), timedelta(minutes=1), timedelta(minutes=5)
TRADES, BOOK, MARKS, BARS = "trades.perp", "book_snapshot.perp", "mark_price", "bars.5m.perp"
FLOW = ("n_trades", "n_taker_buys", "notional", "taker_buy_notional")
DERIVED = ("trade_flow", "book_state", "mark_premium")


def tell_trades(venue: Venue, *at: timedelta, first_id: int = 1) -> None:  # noqa: F811
    """Add one trade of two coins at 100 for each time after NOW; every second one is bought."""
    rows = venue.futures.rows.setdefault("/fapi/v1/aggTrades", [])
    rows += [
        {"a": first_id + i, "p": "100.0", "q": "2.0", "f": 1, "l": 1, "T": NOW_MS + int(it.total_seconds() * 1000),
         "m": bool((first_id + i) % 2)}
        for i, it in enumerate(at)
    ]  # fmt: skip


def every(step: timedelta, first: timedelta, last: timedelta) -> list[timedelta]:
    return [first + i * step for i in range((last - first) // step + 1)]


def to(bench: Bench, at: timedelta) -> None:
    bench.go(NOW + at - bench.clock.at)


def derived(bench: Bench, kind: str) -> dict[timedelta, dict]:
    """Return the stored rows by the end of their interval, and see that none is there twice."""
    rows = bench.rows(kind, revisions="all")
    assert len(rows) == len({row["event_at"] for row in rows})
    return {row["event_at"] - NOW: row for row in rows}


def recomputed(bench: Bench) -> dict[str, dict[timedelta, dict]]:
    """Return what `collect --source derived` makes of the same raw rows in a lake that never lived."""
    tables = MemoryTables()
    for kind in ("trades", "book_snapshot", "mark_price"):
        rows = bench.tables.read(
            kind, market=PERP, symbols=None, start=NOW - timedelta(days=2), end=EVER, revisions="all"
        )
        tables.append(kind, market=PERP, rows=rows)
    Deriver(bench.bars, tables).derive(Selection(kinds=DERIVED), Tally())
    return {
        kind: {row["event_at"] - NOW: row for row in tables.read(
            kind, market=PERP, symbols=None, start=NOW - timedelta(days=2), end=EVER).to_pylist()}
        for kind in DERIVED
    }  # fmt: skip


async def state_of(bench: Bench, mark: ReadMark, at: timedelta) -> dict[str, float]:
    """Return the state columns of the message of the bar that ends then."""
    prices = [np.array([100.0])] * 5
    bar = BarBatch("crypto", "5m", NOW + at, NOW + at, 0, Origin.REAL, ("BTCUSDT",), *prices)
    (batch,) = [it async for it in StateJoin(LakeState(bench.tables, PERP, mark)).joined([bar])]
    return {name: float(values[0]) for name, values in batch.state.items()}


async def test_what_is_polled_goes_into_the_state_of_the_next_bar(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    tell_trades(venue, *every(10 * SECOND, 2 * SECOND - 10 * MINUTE, 10 * MINUTE))
    tables, mark = MemoryTables(), ReadMark()
    async with bench_at(venue, tmp_path, at=NOW - 20 * MINUTE) as bench:
        bench.tables = bench.poller.tables = LateRows(tables, mark)
        bench.go(timedelta(0))
        await bench.poll(BARS, "bars.5m.spot", MARKS)
        to(bench, 4 * MINUTE + 20 * SECOND)
        assert await bench.poll(BOOK, TRADES, BARS, MARKS) == [True] * 4
        at_bar = await state_of(bench, mark, 5 * MINUTE)
        to(bench, 5 * MINUTE + 5 * SECOND)
        await bench.poll(TRADES)
        at_next = await state_of(bench, mark, 10 * MINUTE)

    # The book of the bar's own end and the premium of the last hour are known; its trades were not over.
    assert at_bar["book_spread_frac"] == pytest.approx(0.01) and at_bar["queue_imbalance"] == pytest.approx(-0.2)
    assert at_bar["depth_imbalance"] == 0.0 and at_bar["bid_depth"] == at_bar["ask_depth"] == 0.0
    assert np.isfinite(at_bar["mark_premium_frac"]) and "order_flow_imbalance" not in at_bar
    assert at_bar["n_trades"] == at_next["n_trades"] == 30.0
    assert at_next["trade_notional"] == 6000.0 and at_next["taker_buy_notional"] == 3000.0
    # The flow of (0, 5] was derived five seconds after it was over, and known then.
    flow = derived(bench, "trade_flow")
    assert flow[5 * MINUTE]["known_at"] == NOW + 5 * MINUTE + 5 * SECOND
    assert flow[5 * MINUTE]["source"] == "derived:trades" and flow[5 * MINUTE]["origin"] == "real"
    assert derived(bench, "book_state")[5 * MINUTE]["known_at"] == NOW + 5 * MINUTE
    report = bench.health.report()
    assert {report[f"feed {kind} {PERP}"] for kind in DERIVED} == {"fresh"}


async def test_rows_derived_live_are_those_of_a_recomputation_and_never_known_earlier(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(7)
    times = np.sort(draw.integers(-600, 4000, 500)).tolist()
    tell_trades(venue, *(it * SECOND for it in times))
    async with bench_at(venue, tmp_path) as bench:
        bench.poller.settings = replace(bench.poller.settings, keeps_trades=True)
        await bench.poll(BARS, MARKS)
        for i in range(12):  # an hour, at odd times
            to(bench, i * STEP + int(draw.integers(2, 60)) * SECOND)
            venue.futures.book_id, levels = 5000 + i, [[f"{99.5 - k / 50:.2f}", str(1 + i + k)] for k in range(9)]
            venue.futures.book = {"bids": levels, "asks": [["100.50", "3.0"], ["101.00", "1.0"]]}
            await bench.poll(TRADES, BARS, MARKS)
            to(bench, (i + 1) * STEP - int(draw.integers(10, 50)) * SECOND)
            await bench.poll(BOOK)

    again = recomputed(bench)
    for kind in DERIVED:
        live, names = derived(bench, kind), list(again[kind])
        assert set(live) <= set(names) and len(live) >= len(names) - 1 and len(live) > 10
        for at, row in live.items():
            values = {name: value for name, value in row.items() if name not in ("known_at",)}
            assert values == {name: again[kind][at][name] for name in values}
            assert row["known_at"] >= again[kind][at]["known_at"] >= row["event_at"]
    assert sum(row["n_trades"] for row in derived(bench, "trade_flow").values()) > 300


async def test_interval_with_more_trades_than_are_asked_for_is_missing_and_told(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    venue.futures.page_max = 10
    tell_trades(venue, *every(20 * SECOND, 2 * SECOND - 11 * MINUTE, 20 * MINUTE))
    tight = replace(FEEDS[TRADES], pages_max=4, reach_ms=8 * 60_000)
    async with bench_at(venue, tmp_path, at=NOW - 5 * MINUTE) as bench:
        rows = bench.poller.rows()
        bench.go(5 * SECOND)
        await bench.poller.poll(tight, rows)
        to(bench, 5 * SECOND)
        await bench.poller.poll(tight, rows)
        told_whole = bench.health.report()[f"feed trades {PERP}"]
        to(bench, 10 * MINUTE + 5 * SECOND)  # a poll was left out: what is older than eight minutes is not asked for
        await bench.poller.poll(tight, rows)
        told_gap, state = bench.health.report()[f"feed trades {PERP}"], bench.poller.states[TRADES]
        venue.futures.page_max = 3
        to(bench, 15 * MINUTE + 5 * SECOND)  # fifteen trades, and four pages of three, which begin with the last one
        await bench.poller.poll(tight, rows)
        told_cut = bench.health.report()[f"feed trades {PERP}"]
        venue.futures.page_max = 100
        to(bench, 20 * MINUTE + 5 * SECOND)
        await bench.poller.poll(tight, rows)

    assert told_whole == "fresh" and "not_polled: binance:trades.perp BTCUSDT" in told_gap
    assert "too_many_rows" in told_cut and state.n_gaps == 2
    flow = derived(bench, "trade_flow")
    # Nothing proves (0, 5]; (10, 15] was read late and is whole.
    assert {at: row["n_trades"] for at, row in flow.items() if at >= timedelta(0)} == {
        timedelta(0): 15.0, 10 * MINUTE: 15.0, 15 * MINUTE: 15.0,
    }  # fmt: skip
    assert flow[15 * MINUTE]["known_at"] == NOW + 20 * MINUTE + 5 * SECOND


async def test_process_that_ends_inside_an_interval_costs_nothing_and_nothing_is_there_twice(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    tell_trades(venue, *every(10 * SECOND, 2 * SECOND - 10 * MINUTE, 20 * MINUTE))
    async with bench_at(venue, tmp_path, at=NOW) as first:
        first.go(5 * SECOND)
        await first.poll(TRADES)
        to(first, 2 * MINUTE)
        await first.poll(TRADES)
        # Killed after a book and trades came and before anything was derived of them.
        for name, at in ((BOOK, 4 * MINUTE + 15 * SECOND), (TRADES, 5 * MINUTE + 5 * SECOND)):
            to(first, at)
            await first.poller._round(FEEDS[name], first.polled, FeedState("", ""), Count()).run(["BTCUSDT"])
        stores, was = (first.bars, first.tables), set(derived(first, "trade_flow"))
    async with bench_at(venue, tmp_path, stores=stores, at=NOW + 7 * MINUTE) as second:
        second.go(timedelta(0))
        await second.poll(TRADES, BOOK)
        to(second, 10 * MINUTE + 5 * SECOND)
        await second.poll(TRADES)

    flow = derived(second, "trade_flow")
    assert was == {timedelta(0)} and set(flow) == {timedelta(0), STEP, 2 * STEP}
    assert {row["n_trades"] for row in flow.values()} == {30.0}
    assert flow[timedelta(0)]["known_at"] == NOW + 2 * SECOND and flow[STEP]["known_at"] == NOW + 7 * MINUTE
    assert [(at, row["known_at"]) for at, row in derived(second, "book_state").items()] == [(STEP, NOW + 7 * MINUTE)]


async def test_book_is_asked_for_once_before_each_end_and_not_at_the_start(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    async with bench_at(venue, tmp_path) as bench:
        bench.poller.settings = PollSettings(("BTCUSDT",), timedelta(days=1), (FEEDS[BOOK],))
        bench.until = NOW + timedelta(minutes=31)
        task = asyncio.create_task(bench.poller.serve())
        await bench.poller.first_pass()
        assert not bench.rows("book_snapshot")  # the first bars do not wait for it
        async with asyncio.timeout(20):
            while bench.clock.at < bench.until or len(bench.rows("book_snapshot")) < 6:
                assert not task.done()
                venue.futures.book_id = 5000 + (bench.clock.at - NOW) // STEP
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])

    at = [(row["known_at"] - NOW) % STEP for row in bench.rows("book_snapshot")]
    assert len(at) == 6 and min(at) >= STEP - 50 * SECOND and max(at) <= STEP - 25 * SECOND
    assert set(derived(bench, "book_state")) == {(i + 1) * STEP for i in range(6)}


async def test_book_asked_for_again_in_its_minute_is_one_row_and_depth_beyond_its_levels_is_not_known(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    far = [["99.00", "1.0"], *([f"{98 - i:.2f}", "1.0"] for i in range(9))]
    venue.futures.book = {"bids": [["99.99", "2.0"], *far], "asks": [["100.01", "1.0"], ["100.02", "10.0"]]}
    async with bench_at(venue, tmp_path, at=NOW + 4 * MINUTE + 20 * SECOND) as bench:
        bench.go(timedelta(0))
        await bench.poll(BOOK)
        bench.go(15 * SECOND)
        venue.futures.book_id += 1
        await bench.poll(BOOK)
        bench.go(STEP - 36 * SECOND)  # too early for the next end: more than a minute before it
        venue.futures.book_id += 1
        await bench.poll(BOOK)

    assert [len(row["bid_px"]) for row in bench.rows("book_snapshot")] == [N_LEVELS] * 2
    assert (BOOK_LEVELS, BOOK_FRAC) == (N_LEVELS, DEPTH_FRAC)
    (row,) = derived(bench, "book_state").values()
    assert row["event_at"] == NOW + STEP and row["bid_depth"] == pytest.approx(2 * 99.99)
    assert row["ask_depth"] is None  # both levels are within 0.1 %
    assert row["depth_imbalance"] == pytest.approx((6 - 11) / 17)


async def test_book_that_came_after_a_long_wait_is_not_taken_for_one_ahead_of_the_clock(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path, at=NOW + 2 * MINUTE) as bench:
        venue.answers = [(429, {"Retry-After": "100"}, RATE_LIMITED)]
        assert await bench.poll(BOOK) == [True]

    (row,) = bench.rows("book_snapshot")
    assert row["known_at"] == NOW + 3 * MINUTE + 40 * SECOND and not bench.refused()


async def test_trade_that_is_refused_leaves_its_interval_missing(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    tell_trades(venue, *every(10 * SECOND, 2 * SECOND - 10 * MINUTE, 40 * MINUTE))
    for row in venue.futures.rows["/fapi/v1/aggTrades"]:
        minute = (row["T"] - NOW_MS) / 60_000
        if 1 < minute < 1.1:
            row["p"] = "0"
        elif 15 < minute <= 20:
            row["p"] = "100000.0"
    async with bench_at(venue, tmp_path) as bench:
        for i in range(7):
            to(bench, i * STEP + 5 * SECOND)
            await bench.poll(TRADES)

    flow = derived(bench, "trade_flow")
    assert [at // STEP for at in flow] == [0, 2, 6] and {row["notional"] for row in flow.values()} == {6000.0}
    assert len(bench.refused()) == bench.poller.states[TRADES].n_quarantined == 31
    assert {row["reason"].split(":")[0] for row in bench.refused()} == {"out_of_bounds", "unit_drift"}


class FullDisk(MemoryTables):
    """Tables of which two kinds cannot be written for a while."""

    is_full = True

    def append(self, kind: str, *, market: str, rows) -> Appended:
        if kind in ("trade_flow", "book_state") and self.is_full:
            raise Transient("disk_full", "no space left")
        return super().append(kind, market=market, rows=rows)


async def test_derivation_that_fails_is_told_like_a_feed_and_made_up_for(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    tell_trades(venue, *every(10 * SECOND, 2 * SECOND - 15 * MINUTE, 30 * MINUTE))
    async with bench_at(venue, tmp_path) as bench:
        bench.tables = bench.poller.tables = FullDisk()
        rows = bench.poller.rows()
        polls = []
        for i in range(4):
            to(bench, i * STEP + 5 * SECOND)
            bench.tables.is_full = i < 3
            polls.append(await bench.poller.poll(FEEDS[TRADES], rows))
            if i == 2:
                told = bench.health.report()
            to(bench, i * STEP + 4 * MINUTE + 20 * SECOND)
            venue.futures.book_id += 1
            polls.append(await bench.poller.poll(FEEDS[BOOK], rows))

    assert polls == [False] * 6 + [True] * 2
    assert told[f"feed trade_flow {PERP}"] == "stale: BTCUSDT; disk_full: no space left"
    assert told[f"feed trades {PERP}"] == "fresh"
    assert bench.health.report()[f"feed trade_flow {PERP}"] == "fresh"
    flow = derived(bench, "trade_flow")
    assert list(flow) == [-STEP, timedelta(0), STEP, 2 * STEP, 3 * STEP]
    assert {row["known_at"] for at, row in flow.items() if at > timedelta(0)} == {NOW + 15 * MINUTE + 5 * SECOND}
    assert list(derived(bench, "book_state")) == [STEP, 2 * STEP, 3 * STEP, 4 * STEP]


@pytest.mark.parametrize(
    ("exchange", "n_symbols", "asked", "state_market", "n_flow"),
    [
        ("binance", 10, None, PERP, 10), ("binance", 11, None, PERP, 0), ("binance", 500, ("S3", "S7"), PERP, 2),
        ("binance", 2, (), PERP, 0), ("binance", 2, None, "bybit.perp", 0), ("bybit", 2, None, "bybit.perp", 0),
    ],
)  # fmt: skip
def test_trades_and_books_are_polled_of_few_symbols_or_of_those_asked_for(
    exchange: str, n_symbols: int, asked: tuple[str, ...] | None, state_market: str, n_flow: int
) -> None:
    polled = PolledExchange(exchange, None, tuple(f"S{i}" for i in range(n_symbols)), timedelta(days=1), asked)

    feeds = {it.feed.name: it for it in feeds_of(CommonSettings(state_market=state_market), polled)}

    assert [len(feeds[name].symbols) if name in feeds else 0 for name in (TRADES, BOOK)] == [n_flow] * 2
    assert "trades.spot" not in feeds and "open_interest" in feeds


@pytest.mark.parametrize(
    ("exchange", "asked"),
    [("binance", ("S1", "DOGE")), ("binance", tuple(f"S{i}" for i in range(21))), ("bybit", ("S1",))],
)
def test_flow_of_unknown_or_too_many_symbols_or_of_unnumbered_trades_is_refused(
    exchange: str, asked: tuple[str, ...]
) -> None:
    polled = PolledExchange(exchange, None, tuple(f"S{i}" for i in range(30)), timedelta(days=1), asked)

    with pytest.raises(Malformed, match="QRAFT_INGEST_POLL_FLOW"):
        feeds_of(CommonSettings(), polled)


def test_flow_is_set_by_names_and_by_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert IngestSettings().poll_flow is None
    monkeypatch.setenv("QRAFT_INGEST_POLL_FLOW", "BTCUSDT, ETHUSDT")
    assert IngestSettings().poll_flow == ("BTCUSDT", "ETHUSDT")
    monkeypatch.setenv("QRAFT_INGEST_POLL_FLOW", "")
    assert IngestSettings().poll_flow == ()
