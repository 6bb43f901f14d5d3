"""Rounds of polls: long histories in stretches, tries again of what failed only, derived only of what is new."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.svc_ingest.binance_server import STEP_MS, Venue
from tests.svc_ingest.test_backfill import NOW, NOW_MS
from tests.svc_ingest.test_poll import FEEDS, Bench, bench_at, venue  # noqa: F401 the fixture
from tests.svc_ingest.test_poll_faults import ended

from qraft_contracts.outcomes import Malformed, Transient
from qraft_runtime.health import Health
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.port import Appended
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.domain.polling import Retries
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Count
from svc_ingest.domain.venue_feeds import Feed
from svc_ingest.usecases.poll import Poller, PollSettings
from svc_ingest.usecases.poll_rows import PollRows

MINUTE, STEP = timedelta(minutes=1), timedelta(minutes=5)
PERP, SPOT, MARKS, BOOK = "bars.5m.perp", "bars.5m.spot", "mark_price", "book_snapshot.perp"
BOTH = ("BTCUSDT", "ETHUSDT")


class LongBars:
    """A venue with bars of any time."""

    name = "binance"

    async def open(self) -> None:
        """Trade everything."""

    def has(self, feed: Feed, symbol: str) -> bool:
        return True

    async def page(self, feed: Feed, symbol: str, *, start_ms: int, end_ms: int) -> Sequence[dict[str, Any]]:
        opened = range(-(-start_ms // STEP_MS) * STEP_MS, end_ms + 1, STEP_MS)[: feed.page_rows]
        return [{"timestamp": t, "open": 9, "high": 10, "low": 8, "close": 9, "volume": 1} for t in opened]


async def test_history_of_bars_is_stored_in_stretches_of_which_none_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = tuple(f"S{i}" for i in range(5))
    bench = Bench(Venue(0, {}), tmp_path, symbols=symbols)
    await bench.client.close()
    settings = PollSettings(symbols, timedelta(days=7), ())
    bars, record = ParquetLake(tmp_path / "lake"), LakeRecord(tmp_path)
    poller = Poller(
        LongBars(), bars, MemoryTables(), record, bench.clock, Health(), settings, lambda: 0.5, bench.pause
    )  # fmt: skip
    held, stored = list[int](), PollRows.store_bars

    def store_bars(self: PollRows, feed: Feed, rows: dict[str, pa.Table], count: Count) -> list[Refused]:
        held.append(sum(len(table) for table in rows.values()))
        return stored(self, feed, rows, count)

    monkeypatch.setattr(PollRows, "store_bars", store_bars)

    assert await poller.poll(FEEDS[PERP], poller.rows())

    assert max(held) <= 5 * 3 * 288 and sum(held) == 5 * 7 * 288
    panel = bars.read(
        market="binance.perp", interval="5m", symbols=None, start=NOW - timedelta(days=8), end=NOW, revisions="first"
    )  # fmt: skip
    assert panel is not None and int((panel.close > 0).sum()) == 5 * 7 * 288
    assert poller.states[PERP].n_new == 5 * 7 * 288


def failing(bench: Bench, fails: Callable[[str], bool]) -> dict[str, set[timedelta]]:
    """Refuse the symbols for which it says so; note when each is asked for."""
    asked, page = defaultdict[str, set[timedelta]](set), bench.client.page

    async def refused(feed: Feed, symbol: str, **options: int) -> Sequence[Any]:
        asked[symbol].add(bench.clock.at - NOW)
        if fails(symbol):
            raise Malformed("exchange_refused", "Invalid symbol")
        return await page(feed, symbol, **options)

    bench.client.page = refused  # type: ignore[method-assign]
    return asked


async def served(bench: Bench, name: str, hours: float) -> None:
    """Poll a feed for so long."""
    bench.until = NOW + timedelta(hours=hours)
    serving = asyncio.create_task(bench.poller._feed(FEEDS[name], bench.poller.rows(), set()))
    async with asyncio.timeout(20):
        while bench.clock.at < bench.until:
            assert not serving.done()
            await asyncio.sleep(0.005)
    await ended(serving)


async def test_symbol_that_fails_for_good_is_tried_again_a_few_times_and_no_other_is(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path, symbols=BOTH) as bench:
        asked = failing(bench, lambda symbol: symbol == "ETHUSDT")
        await served(bench, "funding", 1.1)

    settled = timedelta(seconds=75)
    assert asked["BTCUSDT"] == {timedelta(0), settled, timedelta(hours=1) + settled} < asked["ETHUSDT"]
    assert len(asked["ETHUSDT"]) <= 3 + 8
    assert "Invalid symbol" in bench.poller.states["funding"].problem


async def test_symbol_that_failed_once_is_there_seconds_later(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    async with bench_at(venue, tmp_path, symbols=BOTH) as bench:
        asked = failing(bench, lambda symbol: symbol == "ETHUSDT" and bench.clock.at < NOW + MINUTE)
        await served(bench, "funding", 0.1)

    # 5, 10 and 20 seconds after one another, then with all.
    assert {name: sorted(it.seconds for it in at) for name, at in asked.items()} == {
        "BTCUSDT": [0, 75], "ETHUSDT": [0, 5, 15, 35, 75],
    }  # fmt: skip
    assert bench.poller.states["funding"].problem == ""


def test_what_fails_for_good_is_left_to_the_next_poll_until_it_goes_well_again() -> None:
    retries, waited = Retries(), list[int]()
    retries.note("S1", has_failed=False)
    while True:
        retries.note("S2", has_failed=True)
        if not retries.names():
            break
        waited.append(retries.wait_ms())

    assert waited == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]
    assert retries.failing() == {"S2"}
    retries.note("S2", has_failed=False)
    retries.note("S2", has_failed=True)
    assert retries.names() == ["S2"] and retries.wait_ms() == 5_000


class FullDisk(MemoryTables):
    """Tables of which one kind cannot be written the first times."""

    n_full = 3

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        if kind == "mark_premium" and self.n_full:
            self.n_full -= 1
            raise Transient("disk_full", "no space left")
        return super().append(kind, market=market, rows=rows)


async def test_derivation_that_failed_is_made_again_without_asking_the_venue(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path) as bench:
        bench.tables = bench.poller.tables = FullDisk()
        await bench.poller.poll(FEEDS[PERP], bench.poller.rows())  # nothing to derive without marks
        asked = failing(bench, lambda _: False)
        await served(bench, MARKS, 0.1)

    # Derived at 0, 5 and 15 s; at 20 s the feed itself is due.
    assert asked["BTCUSDT"] <= {timedelta(0), timedelta(seconds=20)}
    assert len(bench.rows("mark_premium")) == 24 and bench.tables.n_full == 0


async def test_contract_that_is_traded_no_more_costs_no_derivation(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from svc_ingest.usecases.derive import Deriver

    made, derive, read = list[Any](), Deriver.derive, MemoryBarStore.rows
    monkeypatch.setattr(Deriver, "derive", lambda *it: (made.append(it[1].kinds), derive(*it))[1])
    monkeypatch.setattr(MemoryBarStore, "rows", lambda *it, **by: (made.append(by["market"]), read(*it, **by))[1])
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll(SPOT, PERP, MARKS)
        n_basis, at_first = len(bench.rows("basis")), set(map(str, made))
        made.clear()
        # So that its last bars are read again.
        bench.poller.settings = replace(bench.poller.settings, history=timedelta(days=30))
        bench.go(timedelta(days=10))
        assert await bench.poll(SPOT, PERP, MARKS) == [True] * 3

    assert at_first == {"('mark_premium',)", "binance.spot", "binance.perp"} and made == []
    assert n_basis == len(bench.rows("basis")) == 288


async def test_premium_is_there_with_the_bars_also_when_marks_came_while_bars_were_asked_for(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path, symbols=BOTH, at=NOW - 10 * MINUTE) as bench:
        bench.go(timedelta(0))
        await bench.poll(PERP, MARKS)
        bench.go(10 * MINUTE + timedelta(seconds=12))
        reached, go_on, page = asyncio.Event(), asyncio.Event(), bench.client.page

        async def slow(feed: Feed, symbol: str, **options: int) -> Sequence[Any]:
            if (feed.name, symbol) == (PERP, "ETHUSDT"):
                reached.set()
                await go_on.wait()
                raise Transient("exchange_away", "timed out")
            return await page(feed, symbol, **options)

        bench.client.page = slow  # type: ignore[method-assign]
        polling = asyncio.create_task(bench.poll(PERP))
        await asyncio.wait_for(reached.wait(), 10)
        await bench.poll(MARKS)
        before = [row["symbol"] for row in bench.rows("mark_premium") if row["event_at"] == NOW]
        go_on.set()
        assert await polling == [False]

    assert before == []
    assert [row["symbol"] for row in bench.rows("mark_premium") if row["event_at"] == NOW] == ["BTCUSDT"]


async def test_book_that_was_asked_for_too_early_for_an_end_is_asked_for_again(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path, at=NOW + STEP - timedelta(seconds=75)) as bench:
        bench.go(timedelta(0))
        for after_s in (0, 30, 15):  # 75, 45 and 30 s before the end: the last one has its book
            bench.go(timedelta(seconds=after_s))
            venue.futures.book_id += 1
            assert await bench.poll(BOOK) == [True]

    assert len(bench.rows("book_snapshot")) == 2
    assert [row["event_at"] for row in bench.rows("book_state")] == [NOW + STEP]
    assert FEEDS[BOOK].is_answered(NOW_MS - 60_000, NOW_MS - 1) and not FEEDS[BOOK].is_answered(NOW_MS - 60_000, NOW_MS)
    assert not replace(FEEDS[BOOK], is_timed=False).is_answered(NOW_MS, NOW_MS + 1)


async def test_stretch_that_a_ban_cuts_short_makes_no_symbol_late(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    async with bench_at(venue, tmp_path, symbols=BOTH) as bench:
        page, banned = bench.client.page, [(418, {"Retry-After": "600"}, {"code": -1003, "msg": "IP banned"})]

        async def second_is_banned(feed: Feed, symbol: str, **options: int) -> Sequence[Any]:
            if symbol == "ETHUSDT" and banned:
                venue.answers = [banned.pop()]
            return await page(feed, symbol, **options)

        bench.client.page = second_is_banned  # type: ignore[method-assign]
        assert await bench.poll(PERP) == [False]
        assert await bench.poll(PERP) == [True]

    panel = bench.bars.read(
        market="binance.perp", interval="5m", symbols=None, start=NOW - timedelta(days=1), end=NOW, revisions="first"
    )  # fmt: skip
    assert panel is not None
    n_bars = (panel.close > 0).sum(axis=0).tolist()
    assert n_bars[0] == n_bars[1] > 250
