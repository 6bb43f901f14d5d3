"""The whole path on a living source: backfill to the lake, then bars as they close, across restarts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from tests.svc_ingest.binance_server import Venue, serve_binance
from tests.svc_ingest.ingest_kit import T0, at, make_run, recording_bus, run_to_the_end, shown
from tests.svc_ingest.test_exchange import SteppedClock

from qraft_bus.memory import MemoryBroker
from qraft_store.bars.memory import MemoryBarStore
from svc_ingest.adapters.exchange import ExchangeSettings, ExchangeSource
from svc_ingest.domain.faults import FaultKind


@pytest.fixture
def venue():
    closes = {"BTCUSDT": [100.0 + i for i in range(40)], "ETHUSDT": [10.0 + i for i in range(40)]}
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes)) as venue:
        yield venue


async def live_run(venue: Venue, store, broker: MemoryBroker, home: Path, *, start: int, until: int, state=None):
    """Serve from a wall clock of bar `start` on to bar `until`; return the run and what it published."""
    clock = SteppedClock(venue, at(start) + timedelta(seconds=30), timedelta(seconds=20))
    settings = ExchangeSettings(
        "binance",
        ("BTCUSDT", "ETHUSDT"),
        timedelta(minutes=50),
        venue.url,
        settle_s=0,
        poll_s=0,
        polls_max=2,
        nap_s=0.001,
    )
    source = ExchangeSource(settings, interval="5m", clock=clock)
    source._client.enableRateLimit = False
    try:
        async with recording_bus(broker) as (bus, received):
            run = make_run(source, store, bus, home, clock, state, replay_until=at(until))
            async with asyncio.timeout(20):
                await run_to_the_end(run)
                while await bus.slowest_lag("BARS"):
                    await asyncio.sleep(0.002)
        return run, received
    finally:
        await source.close()


async def test_empty_lake_is_filled_by_the_history_and_then_bars_go_out_as_they_close(
    venue: Venue, tmp_path: Path
) -> None:
    store = MemoryBarStore()

    _, received = await live_run(venue, store, MemoryBroker(), tmp_path, start=20, until=23)

    assert shown(received) == [(i, 0, {"BTCUSDT": 100.0 + i, "ETHUSDT": 10.0 + i}) for i in (20, 21, 22, 23)]
    assert store.range(market="crypto", interval="5m") == (at(11), at(23))


async def test_bars_missed_while_down_follow_in_order_and_corrections_are_revisions(
    venue: Venue, tmp_path: Path
) -> None:
    store, broker = MemoryBarStore(), MemoryBroker()
    venue.hidden = {("ETHUSDT", 22)}
    await live_run(venue, store, broker, tmp_path, start=20, until=22)
    venue.hidden = set()
    venue.closes["BTCUSDT"][22] = 50.0

    run, received = await live_run(venue, store, broker, tmp_path, start=23, until=25)

    assert shown(received) == [
        (23, 0, {"BTCUSDT": 123.0, "ETHUSDT": 33.0}),
        (22, 1, {"BTCUSDT": 50.0, "ETHUSDT": 32.0}),
        (24, 0, {"BTCUSDT": 124.0, "ETHUSDT": 34.0}),
        (25, 0, {"BTCUSDT": 125.0, "ETHUSDT": 35.0}),
    ]
    report = run.publisher.line.check.report
    assert report.count(FaultKind.LATE) == 1 and report.count(FaultKind.REVISION) == 1
    assert report.count(FaultKind.DUPLICATE) == 0


async def test_revision_number_that_is_taken_is_counted_up(venue: Venue, tmp_path: Path) -> None:
    store, broker = MemoryBarStore(), MemoryBroker()
    await live_run(venue, store, broker, tmp_path, start=20, until=22)
    venue.closes["BTCUSDT"][22] = 50.0
    await live_run(venue, store, broker, tmp_path, start=22, until=23)
    venue.closes["BTCUSDT"][22] = 60.0

    _, received = await live_run(venue, store, broker, tmp_path, start=23, until=24)

    assert (22, 2, {"BTCUSDT": 60.0}) in shown(received)
