"""ccxt against a local server that speaks Binance's klines: backfill, forming bar, late rows, outages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from tests.svc_ingest.binance_server import Venue, serve_binance
from tests.svc_ingest.ingest_kit import T0, at, make_check, shown

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed, Transient
from svc_ingest.adapters.exchange import ExchangeSettings, ExchangeSource
from svc_ingest.domain.faults import FaultKind


class SteppedClock:
    """A clock that moves a little at each look and takes the venue along, so that polls come in time."""

    def __init__(self, venue: Venue, start: datetime, step: timedelta = timedelta(0)) -> None:
        self.venue, self.at, self.step = venue, start, step

    def now(self) -> datetime:
        self.at += self.step
        self.venue.now = self.at
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def venue():
    closes = {"BTCUSDT": [100.0 + i for i in range(40)], "ETHUSDT": [10.0 + i for i in range(40)]}
    with serve_binance(Venue(int(T0.timestamp() * 1000), closes)) as venue:
        yield venue


@asynccontextmanager
async def source_at(venue: Venue, now: datetime, *, step: timedelta = timedelta(0), **options) -> AsyncIterator:
    settings = ExchangeSettings(
        exchange_id="binance",
        symbols=options.pop("symbols", ("BTCUSDT", "ETHUSDT")),
        history=timedelta(minutes=50),
        url=venue.url,
        **({"settle_s": 0.0, "poll_s": 0.0, "retry_first_s": 0.0, "nap_s": 0.001} | options),
    )
    source = ExchangeSource(settings, interval="5m", clock=SteppedClock(venue, now, step))
    # ccxt waits 50 ms between requests, as the real venue demands.
    source._client.enableRateLimit = False
    try:
        await source.open()
        yield source
    finally:
        await source.close()


async def batches_of(source: ExchangeSource, *, after=None, until=None, check=None, chunks_max: int = 1000):
    check = check or make_check(source.origin)
    found = []
    async for chunk in source.chunks(after=after, until=until):
        found += check.take(chunk)
        chunks_max -= 1
        if chunks_max == 0:
            break
    return found


async def test_backfill_gives_all_symbols_and_never_the_forming_bar(venue: Venue) -> None:
    async with source_at(venue, at(9) + timedelta(minutes=3)) as source:
        found = await batches_of(source, after=at(-1), until=at(9))

    assert source.origin is Origin.REAL and source.is_live and source.last_closed_at is None
    assert shown(found) == [(i, 0, {"BTCUSDT": 100.0 + i, "ETHUSDT": 10.0 + i}) for i in range(10)]
    assert all(batch.known_at == batch.closed_at for batch in found)


async def test_without_a_start_the_backfill_reaches_back_by_the_history(venue: Venue) -> None:
    async with source_at(venue, at(29) + timedelta(minutes=1)) as source:
        found = await batches_of(source, until=at(29))

    assert [index for index, _, _ in shown(found)] == list(range(20, 30))


async def test_pages_shorter_than_asked_for_are_put_together(venue: Venue) -> None:
    venue.page_max = 3
    async with source_at(venue, at(20)) as source:
        found = await batches_of(source, after=at(-1), until=at(15))

    assert [index for index, _, _ in shown(found)] == list(range(16))


async def test_bars_are_given_out_as_they_close(venue: Venue) -> None:
    async with source_at(venue, at(5), step=timedelta(seconds=20)) as source:
        found = await batches_of(source, after=at(3), until=at(7))

    assert shown(found) == [(i, 0, {"BTCUSDT": 100.0 + i, "ETHUSDT": 10.0 + i}) for i in (4, 5, 6, 7)]


async def test_symbol_that_comes_late_follows_as_revision(venue: Venue) -> None:
    venue.hidden = {("ETHUSDT", 5)}
    check = make_check(Origin.REAL)
    async with source_at(venue, at(5), step=timedelta(seconds=20), polls_max=2) as source:
        first = await batches_of(source, after=at(4), until=at(5), check=check)
        venue.hidden = set()
        second = await batches_of(source, after=at(5), until=at(6), check=check)

    assert shown(first) == [(5, 0, {"BTCUSDT": 105.0})]
    assert shown(second) == [(5, 1, {"ETHUSDT": 15.0}), (6, 0, {"BTCUSDT": 106.0, "ETHUSDT": 16.0})]
    assert second[0].known_at > at(5)
    assert check.report.count(FaultKind.LATE) == 1


async def test_correction_of_the_venue_follows_as_revision(venue: Venue) -> None:
    check = make_check(Origin.REAL)
    async with source_at(venue, at(5), step=timedelta(seconds=20)) as source:
        await batches_of(source, after=at(4), until=at(5), check=check)
        venue.closes["BTCUSDT"][5] = 50.0
        second = await batches_of(source, after=at(5), until=at(6), check=check)

    assert shown(second)[0] == (5, 1, {"BTCUSDT": 50.0})
    assert check.report.count(FaultKind.REVISION) == 1 and check.report.count(FaultKind.DUPLICATE) == 0


async def test_short_outage_is_waited_out(venue: Venue) -> None:
    async with source_at(venue, at(9)) as source:
        venue.fail_next = 3
        found = await batches_of(source, after=at(6), until=at(8))

    assert [index for index, _, _ in shown(found)] == [7, 8]


@pytest.mark.parametrize("status", [429, 418])
async def test_venue_that_wants_us_away_is_not_asked_before_it_said(venue: Venue, status: int) -> None:
    async with source_at(venue, at(9)) as source:
        venue.answers = [(status, {"Retry-After": "0.3"}, {"code": -1003, "msg": "Too many requests"})]
        began_s = time.monotonic()
        found = await batches_of(source, after=at(6), until=at(8))
        took_s = time.monotonic() - began_s

    assert [index for index, _, _ in shown(found)] == [7, 8] and took_s >= 0.3


async def test_long_outage_is_transient(venue: Venue) -> None:
    async with source_at(venue, at(9), retries_max=2) as source:
        venue.fail_next = 1000
        with pytest.raises(Transient, match="exchange_away"):
            await batches_of(source, after=at(6), until=at(8))


async def test_nobody_at_the_address_is_transient(venue: Venue) -> None:
    venue.url = "http://127.0.0.1:9"
    with pytest.raises(Transient, match="exchange_away"):
        async with source_at(venue, at(9), retries_max=1):
            pass


async def test_unknown_symbol_and_exchange_are_named(venue: Venue) -> None:
    with pytest.raises(Malformed, match="DOGEUSDT"):
        async with source_at(venue, at(9), symbols=("DOGEUSDT",)):
            pass
    with pytest.raises(Malformed, match="unknown_exchange"):
        ExchangeSource(
            ExchangeSettings("nowhere", ("BTCUSDT",), timedelta(days=1)), interval="5m", clock=SteppedClock(venue, T0)
        )
