"""What a venue allows beside its weight, and its bans: kept by all feeds of a process together."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.svc_ingest.binance_server import STEP_MS, Futures, Venue, serve_binance
from tests.svc_ingest.test_backfill import NOW, NOW_MS
from tests.svc_ingest.test_poll import INTEREST, bench_at

from qraft_contracts.kinds import KINDS
from svc_ingest.adapters.lanes import lanes_of
from svc_ingest.domain.venue_feeds import Banned

STATISTICS = ("open_interest", "long_short", "taker_volume")
RATIO = "/futures/data/takerlongshortRatio"


@contextmanager
def venue_of(*symbols: str) -> Iterator[Venue]:
    """Serve a venue that has these contracts and none of their statistics."""
    closes = {symbol: [100.0] for symbol in symbols}
    with serve_binance(Venue(NOW_MS - STEP_MS, closes, futures=Futures({}, NOW_MS))) as venue:
        yield venue


def most_in_five_minutes(asked_at: list[float]) -> int:
    return max(bisect_left(asked_at, at + 300.0) - i for i, at in enumerate(asked_at))


async def test_first_pass_of_thirty_days_and_fourteen_symbols_stays_within_the_venues_limits(tmp_path: Path) -> None:
    symbols, asked_at = tuple(f"C{i}USDT" for i in range(14)), defaultdict[str, list[float]](list)
    with venue_of(*symbols) as venue:
        async with bench_at(venue, tmp_path, symbols=symbols) as bench:

            async def answer(url: str, *_: object) -> list[object]:
                group = "statistics" if "/futures/data/" in url else urlsplit(url).path
                asked_at[group].append(bench.clock.monotonic())
                return []

            bench.client._client.fetch = answer  # 1,500 requests over a socket would take a minute
            bench.poller.settings = replace(bench.poller.settings, history=timedelta(days=30))
            assert await bench.poll(*STATISTICS) == [True] * 3
            for _ in range(36):
                assert await bench.poll("funding") == [True]

    assert {group: len(at) for group, at in asked_at.items()} == {
        "statistics": 14 * 72,
        "/fapi/v1/fundingRate": 14 * 36,
    }
    assert 450 < most_in_five_minutes(asked_at["statistics"]) <= 1_000
    assert 220 < most_in_five_minutes(asked_at["/fapi/v1/fundingRate"]) <= 500


def test_who_takes_a_token_later_waits_longer_and_statistics_share_theirs() -> None:
    lanes = lanes_of("binance")
    waits = [lanes[kind].take(7.0) for kind in islice(cycle(STATISTICS), 453)]

    assert waits[:450] == [0.0] * 450 and waits[450:] == pytest.approx([1 / 1.5, 2 / 1.5, 3 / 1.5])
    assert lanes["funding"].take(7.0) == 0.0
    assert lanes["taker_volume"].take(7.0 + 300.0) == 0.0
    assert not lanes_of("bybit")


@pytest.mark.parametrize("n_requests", [1, 2])  # two where the venue has not written the newest row yet
def test_statistics_of_500_symbols_are_asked_for_before_they_are_stale(n_requests: int) -> None:
    lanes, now_s = lanes_of("binance"), 0.0
    due_s = dict.fromkeys(STATISTICS, 0.0)
    rounds = {kind: iter(range(4 * 500)) for kind in STATISTICS}
    seen = {kind: [-1.0] * 500 for kind in STATISTICS}
    oldest = dict.fromkeys(STATISTICS, 0.0)
    while True:
        kind = min(due_s, key=due_s.__getitem__)  # each feed asks one thing at a time
        now_s, number = due_s[kind], next(rounds[kind], None)
        if number is None:
            break
        for _ in range(n_requests * (2 if kind == "long_short" else 1)):
            now_s += lanes[kind].take(now_s)
        if (before_s := seen[kind][number % 500]) >= 0:
            oldest[kind] = max(oldest[kind], now_s - before_s)
        seen[kind][number % 500] = now_s
        is_round_over = number % 500 == 499
        due_s[kind] = (now_s // 300 + 1) * 300 + 15 if is_round_over else now_s

    for kind in STATISTICS:
        # The newest row that is known ended up to two steps before it was asked for.
        assert 600 < oldest[kind] + 600 < KINDS[kind].stale_after_s, oldest


async def test_feed_that_is_in_the_middle_asks_nothing_more_after_another_met_a_ban(tmp_path: Path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    with venue_of(*symbols) as venue:
        venue.held[INTEREST] = threading.Event()
        async with bench_at(venue, tmp_path, symbols=symbols) as bench:
            interest = asyncio.create_task(bench.poll("open_interest"))
            async with asyncio.timeout(10):
                while INTEREST not in venue.requests:
                    await asyncio.sleep(0.005)
            venue.answers = [(418, {"Retry-After": "600"}, {"code": -1003, "msg": "IP banned"})]
            assert await bench.poll("taker_volume") == [False]
            venue.held[INTEREST].set()
            assert await interest == [False]
            n_asked = len(venue.requests)
            with pytest.raises(Banned, match="wants no request before 2025-06-02T00:10:00Z"):
                await bench.client.open()

    assert (venue.requests.count(INTEREST), venue.requests.count(RATIO), len(venue.requests)) == (1, 1, n_asked)
    assert bench.poller.states["open_interest"].problem.startswith("exchange_banned")


async def test_feed_that_sits_out_a_ban_sits_out_the_longer_one_that_was_met_meanwhile(tmp_path: Path) -> None:
    with venue_of("BTCUSDT") as venue:
        async with bench_at(venue, tmp_path) as bench:
            bans = bench.poller.bans
            bans.met(Banned(NOW_MS + 200_000, "short"))
            waiting = asyncio.create_task(bans.sit_out())
            await asyncio.sleep(0)
            bans.met(Banned(NOW_MS + 600_000, "long"))
            await waiting
            told = bench.health.report()["feeds"]

    assert bench.clock.at == NOW + timedelta(minutes=10) and told == "polled"
