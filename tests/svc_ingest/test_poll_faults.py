"""What goes wrong while feeds are polled: one feed's trouble, late histories, bans not kept, refused rows."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tests.svc_ingest.binance_server import Venue
from tests.svc_ingest.test_backfill import M5, NOW, NOW_MS
from tests.svc_ingest.test_poll import FEEDS, INTEREST, RATE_LIMITED, Bench, bench_at, tell_interest, venue  # noqa: F401

from svc_ingest.usecases import poll_refused
from svc_ingest.usecases.bans import BAN_UNREADABLE

STEP = timedelta(minutes=5)
BARS = ("bars.5m.perp", "bars.5m.spot")
BANNED = (418, {"Retry-After": "3600"}, {"code": -1003, "msg": "IP banned"})


def closes(bench: Bench, symbol: str, **options) -> int:
    """Return how many bars of a symbol's perpetual are read."""
    panel = bench.bars.read(
        market="binance.perp", interval="5m", symbols=[symbol], start=NOW - timedelta(days=3),
        end=NOW + timedelta(days=1), **options,
    )  # fmt: skip
    return 0 if panel is None else int((panel.close > 0).sum())


async def until(claim) -> None:
    async with asyncio.timeout(20):
        while not claim():
            await asyncio.sleep(0.005)


async def ended(task: asyncio.Task) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_symbol_that_is_added_later_gets_its_history_and_its_basis_known_when_they_came(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path) as first:
        await first.poll(*BARS)
        stores = (first.bars, first.tables)
    later = NOW + timedelta(minutes=2)
    async with bench_at(venue, tmp_path, symbols=("BTCUSDT", "ETHUSDT"), stores=stores, at=later) as bench:
        assert await bench.poll(*BARS) == [True, True]
        n_revised = [bench.poller.states["basis.perp"].n_revised]
        await bench.poll(*BARS)

    assert closes(bench, "ETHUSDT") == 0  # first reads: runs of the past did not see them
    assert closes(bench, "ETHUSDT", as_of=later, revisions="latest") == closes(bench, "BTCUSDT") == 288
    basis = {symbol: [row for row in bench.rows("basis", revisions="all") if row["symbol"] == symbol]
             for symbol in ("BTCUSDT", "ETHUSDT")}  # fmt: skip
    assert [len(rows) for rows in basis.values()] == [288, 288] and n_revised == [0]
    assert {row["known_at"] for row in basis["ETHUSDT"]} == {later}
    assert all(row["known_at"] == row["event_at"] for row in basis["BTCUSDT"])


async def test_bar_of_another_unit_is_kept_apart_and_the_next_good_one_is_stored(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path, at=NOW - timedelta(minutes=20)) as bench:
        bench.go(timedelta(0))  # the venue shows no more than there is
        await bench.poll(*BARS)
        venue.closes["BTCUSDT"][-3] *= 1000
        bench.go(timedelta(minutes=20, seconds=6))
        assert await bench.poll(*BARS) == [True, True]
        await bench.poll(*BARS)

    panel = bench.bars.read(market="binance.spot", interval="5m", symbols=["BTCUSDT"], start=NOW - 4 * STEP, end=NOW)
    assert [close > 0 for close in panel.close[:, 0]] == [True, False, True, True] and panel.close[0, 0] < 200
    refused = {(row["file"], row["market"]): row["reason"] for row in bench.refused()}
    assert refused.keys() == {("binance.spot.5m",) * 2, ("binance.perp.5m",) * 2}
    assert all(reason.startswith("unit_drift: close is 1.03e+03 times") for reason in refused.values())
    assert [bench.poller.states[name].n_quarantined for name in BARS] == [1, 1]
    assert [row["event_at"] for row in bench.rows("basis")][-3:] == [NOW - 3 * STEP, NOW - STEP, NOW]


async def test_refused_row_is_counted_once_however_often_it_is_read(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll("open_interest")
        tell_interest(venue, NOW_MS, 2e8 / 1000)
        venue.futures.rows[INTEREST].append({"symbol": "BTCUSDT", "timestamp": NOW_MS + M5, "sumOpenInterest": "x",
                                             "sumOpenInterestValue": "1"})  # fmt: skip
        tell_interest(venue, NOW_MS + 2 * M5, 2e8)
        bench.go(timedelta(minutes=15, seconds=15))
        for _ in range(3):
            await bench.poll("open_interest")
            bench.go(timedelta(seconds=1))

    assert bench.poller.states["open_interest"].n_quarantined == len(bench.refused()) == 2


async def test_row_that_the_store_quarantines_is_counted_and_kept_once_also_after_a_restart(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    impossible = {"symbol": "BTCUSDT", "fundingTime": NOW_MS - 4 * 3_600_000, "fundingRate": "0.9", "markPrice": "1"}
    venue.futures.rows["/fapi/v1/fundingRate"].insert(-1, impossible)
    async with bench_at(venue, tmp_path) as first:
        rows = first.poller.rows()
        for _ in range(3):
            assert await first.poller.poll(FEEDS["funding"], rows)
            first.go(timedelta(hours=1))
        stores = (first.bars, first.tables)
    async with bench_at(venue, tmp_path, stores=stores, at=NOW + timedelta(hours=4)) as second:
        second.go(timedelta(0))
        await second.poll("funding")

    assert first.poller.states["funding"].n_quarantined == 1 and second.poller.states["funding"].n_quarantined == 0
    (kept,) = second.tables.quarantine("funding", market="binance.perp").to_pylist()
    assert kept["funding_rate"] == 0.9 and len(second.rows("funding")) == 3


async def test_refused_rows_beyond_what_is_kept_are_counted_and_told_once(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(poll_refused, "_REFUSED_MAX", 1)
    async with bench_at(venue, tmp_path) as bench:
        await bench.poll("open_interest")
        for i in range(3):
            tell_interest(venue, NOW_MS + i * M5, 2e8 / (1000 + i))
        bench.go(timedelta(minutes=15, seconds=15))
        await bench.poll("open_interest")

    said = capsys.readouterr()
    assert bench.poller.states["open_interest"].n_quarantined == 3 and len(bench.refused()) == 1
    assert (said.out + said.err).count("feeds.refused_full") == 1


async def test_ban_that_cannot_be_written_is_obeyed_and_is_one_feeds_trouble(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "collected/.ban.binance.json.tmp").mkdir(parents=True)  # where the file would be written
    async with bench_at(venue, tmp_path) as bench:
        venue.answers = [BANNED]
        assert await bench.poll("open_interest") == [False]
        assert "banned" in bench.poller.states["open_interest"].problem
        assert bench.poller.as_dict()["banned_until"] == "2025-06-02T01:00:00Z"
        assert await bench.poll("taker_volume") == [True]

    assert bench.record.banned_until("binance") is None and bench.clock.at >= NOW + timedelta(hours=1)
    assert bench.poller.as_dict()["banned_until"] is None


async def test_kept_ban_that_is_no_json_is_sat_out_for_a_stated_time_and_ends_no_service(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "collected").mkdir()
    (tmp_path / "collected/ban.binance.json").write_text('{"until')
    bench = Bench(venue, tmp_path)
    bench.until = NOW + timedelta(hours=2)
    serving = asyncio.create_task(bench.poller.serve())
    await until(lambda: serving.done() or bench.paused)
    again = Bench(venue, tmp_path)  # a restart obeys the same time, it does not begin anew
    kept = again.record.banned_until("binance")
    await until(lambda: serving.done() or bench.rows("funding"))
    failed = serving.done()
    await ended(serving)
    await bench.client.close()

    assert not failed and bench.clock.at >= NOW + BAN_UNREADABLE == kept


async def test_first_bars_wait_for_every_feed_and_not_for_so_many_polls(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    for row in venue.futures.rows["/futures/data/globalLongShortAccountRatio"]:
        row["renamed"] = row.pop("longShortRatio")
    venue.held[INTEREST] = threading.Event()
    async with bench_at(venue, tmp_path) as bench:
        waiting = asyncio.create_task(bench.poller.first_pass())
        serving = asyncio.create_task(bench.poller.serve())
        await until(lambda: "long_short" in bench.poller.states and bench.poller.states["long_short"].n_errors >= 4)
        was_done, told = waiting.done(), bench.health.report()["feeds first pass"]
        venue.held[INTEREST].set()
        await until(waiting.done)
        await ended(serving)

    assert not was_done and told.startswith("bars wait 60 s at most")
    assert bench.rows("open_interest") and bench.health.report()["feeds first pass"] == "over"


async def test_bars_beside_a_lake_that_was_polled_before_wait_for_no_feed(venue: Venue, tmp_path: Path) -> None:  # noqa: F811
    async with bench_at(venue, tmp_path) as first:
        await first.poll("funding")
    again = Bench(venue, tmp_path, at=NOW + timedelta(seconds=1))
    async with asyncio.timeout(1):
        await again.poller.first_pass()  # nobody polls
    damaged = Bench(venue, tmp_path, at=NOW + timedelta(seconds=1))
    (tmp_path / "collected/polled.binance.json").write_text("{")
    async with asyncio.timeout(1):
        await damaged.poller.first_pass()


async def test_history_that_comes_after_the_process_that_began_is_known_when_it_came_unless_it_was_stale(
    venue: Venue,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with bench_at(venue, tmp_path) as first:
        await first.poll("taker_volume")  # it ended before open interest was told
        stores = (first.bars, first.tables)
    later = NOW + timedelta(minutes=30)
    async with bench_at(venue, tmp_path, stores=stores, at=later) as second:
        await second.poll("open_interest", "taker_volume")

    rows = second.rows("open_interest")
    fresh = [row for row in rows if row["event_at"] >= NOW - timedelta(hours=3)]
    assert 30 < len(fresh) < len(rows) and {row["known_at"] for row in fresh} == {later}
    assert all(row["known_at"] - row["event_at"] == STEP for row in rows[: -len(fresh)])
    assert {row["revision"] for row in second.rows("taker_volume")} == {0}
    assert all(row["known_at"] <= NOW for row in second.rows("taker_volume") if row["event_at"] <= NOW)
