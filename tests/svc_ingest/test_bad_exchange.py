"""Bad input from an exchange: what cannot be read or trusted is kept with its reason and counted, the rest flows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.svc_ingest.binance_server import Venue
from tests.svc_ingest.test_backfill import FEED, M5, NOW, NOW_MS, lake_at, venue  # noqa: F401 the fixture
from tests.svc_ingest.test_poll import Bench

from svc_ingest.domain.tally import Tally
from svc_ingest.domain.venue_feeds import bar_feed

INTEREST = "/futures/data/openInterestHist"
TAKER = "/futures/data/takerlongshortRatio"
RATIOS = ("/futures/data/globalLongShortAccountRatio", "/futures/data/topLongShortPositionRatio")
RATES = "/fapi/v1/fundingRate"


@pytest.fixture
async def poller(venue: Venue, tmp_path: Path) -> AsyncIterator[Bench]:  # noqa: F811
    bench = Bench(venue, tmp_path)
    try:
        await bench.client.open()
        yield bench
    finally:
        await bench.client.close()


@pytest.mark.parametrize(
    ("path", "feed", "changes", "reason"),
    [
        (INTEREST, "open_interest", {"sumOpenInterestValue": "n/a"}, "missing: open_interest_usd"),
        (INTEREST, "open_interest", {"sumOpenInterestValue": "Infinity"}, "not_finite: open_interest_usd"),
        (INTEREST, "open_interest", {"sumOpenInterestValue": "-5"}, "out_of_bounds: open_interest_usd"),
        (TAKER, "taker_volume", {"buyVol": "many"}, "unreadable: ValueError"),
        (TAKER, "taker_volume", {"sellVol": "inf"}, "not_finite: sell_volume"),
        (TAKER, "taker_volume", {"buyVol": "-1"}, "out_of_bounds: buy_volume"),
        (RATES, "funding", {"fundingRate": "0.7"}, "out_of_bounds: funding_rate"),
    ],
)
async def test_impossible_value_is_quarantined_and_its_neighbours_are_stored(
    venue: Venue,  # noqa: F811
    path: str,
    feed: str,
    changes: dict,
    reason: str,
) -> None:
    rows = venue.futures.rows[path]
    rows[-5] = rows[-5] | changes
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED[feed])
        stored = lake.tables.quarantine(feed, market="binance.perp")["reason"].to_pylist()

    total = tally.total()
    (kept,) = [row.reason for _, row in tally.refused] + stored
    assert kept.startswith(reason) and total.n_quarantined == 1 and tally.lost() == {}
    assert total.n_new == {"open_interest": 862, "taker_volume": 863, "funding": 7}[feed]


async def test_row_ahead_of_the_clock_and_row_without_a_time_are_kept_and_hide_no_others(venue: Venue) -> None:  # noqa: F811
    rows = venue.futures.rows[TAKER]
    rows[600] = rows[600] | {"timestamp": NOW_MS + 3 * 3_600_000}
    rows[601] = rows[601] | {"timestamp": None}
    async with lake_at(venue) as lake:
        # A venue whose clock went wrong gives these rows whatever it is asked for.
        venue.answers = [(200, {}, answer) for answer in (rows[335:600], [rows[600], *rows[602:900]], rows[601:])]
        tally = await lake.fill(FEED["taker_volume"], days=3)

    assert sorted(row.reason for _, row in tally.refused) == ["ahead_of_clock", "no_time"]
    assert (tally.total().n_new, tally.total().n_quarantined, tally.lost()) == (864 - 2, 2, {})


@pytest.mark.parametrize("answer", [{"data": []}, ["rows"], [[]]])
async def test_answer_of_another_form_is_named_and_other_feeds_go_on(venue: Venue, answer: object) -> None:  # noqa: F811
    async with lake_at(venue) as lake:
        venue.answers = [(200, {}, answer)]
        tally = await lake.fill(FEED["taker_volume"], FEED["long_short"])

    assert [it.code for it in tally.failures] == ["schema_drift"]
    assert lake.rows("taker_volume") == [] and len(lake.rows("long_short")) == 863


async def test_odd_answer_to_either_ratio_is_its_feeds_trouble_and_not_the_process(poller: Bench) -> None:
    accounts = poller.venue.futures.rows[RATIOS[0]][-288:]
    for answer in ({"data": []}, "<html>maintenance</html>", [["x"]], [None], None):
        for before in ([], [accounts]):
            poller.venue.answers = [(200, {}, it) for it in (*before, answer)]
            assert await poller.poll("long_short") == [False], answer
            assert poller.poller.states["long_short"].problem.startswith("schema_drift")

    assert await poller.poll("long_short") == [True] and poller.rows("long_short")


async def test_page_of_a_maintenance_is_told_by_every_feed_and_not_taken_for_no_rows(poller: Bench) -> None:
    for feed in ("funding", "open_interest", "taker_volume", "mark_price", "bars.5m.perp", "trades.perp"):
        poller.venue.answers = [(200, {}, "<html>maintenance</html>")]
        assert await poller.poll(feed) == [False]
        assert poller.poller.states[feed].problem.startswith("schema_drift"), feed


async def test_rows_with_stamps_that_are_none_are_kept_apart_and_the_others_are_stored(poller: Bench) -> None:
    odd = ["2026-01-01", "", 1e300, [1]]
    for feed, paths in (("taker_volume", [TAKER]), ("long_short", RATIOS)):
        pages = [poller.venue.futures.rows[path][-288:] for path in paths]
        pages = [[row | {"timestamp": it} for row, it in zip(rows, odd, strict=False)] + rows[4:] for rows in pages]
        poller.venue.answers = [(200, {}, rows) for rows in pages]
        n_before = len(poller.venue.requests)

        assert await poller.poll(feed) == [True]
        assert len(poller.venue.requests) - n_before <= 2 * len(paths)
        assert poller.poller.states[feed].n_quarantined == 4 and len(poller.rows(feed)) in (283, 284)
        assert {row["position_ratio"] for row in poller.rows("long_short")} <= {1.25}


async def test_page_in_seconds_instead_of_milliseconds_does_not_ask_for_every_millisecond(poller: Bench) -> None:
    rows = poller.venue.futures.rows[TAKER]
    poller.venue.futures.rows[TAKER] = []
    poller.venue.answers = [(200, {}, [row | {"timestamp": row["timestamp"] // 1000} for row in rows[-288:]])]
    n_before = len(poller.venue.requests)
    await poller.poll("taker_volume")

    assert len(poller.venue.requests) - n_before == 1 and not poller.rows("taker_volume")


async def test_contracts_instead_of_coins_are_found_by_the_price_they_imply(venue: Venue) -> None:  # noqa: F811
    for row in venue.futures.rows[INTEREST]:
        row["sumOpenInterestValue"] = str(float(row["sumOpenInterest"]) * 60_000)
    for row in venue.futures.rows[INTEREST][900:]:
        row["sumOpenInterest"] = str(float(row["sumOpenInterest"]) * 10)  # a contract is a tenth of a coin
    async with lake_at(venue) as lake:
        tally = await lake.fill(FEED["open_interest"])

    (reason,) = tally.total().reasons
    assert reason == "unit_drift: open_interest_usd / open_interest is 0.1 times what it was"
    assert 250 < tally.total().n_quarantined < 350 and tally.lost() == {}


async def test_impossible_bars_of_the_venue_are_kept_with_their_reasons(venue: Venue) -> None:  # noqa: F811
    good = venue.klines("BTCUSDT", 0, 288)
    for i, (column, value) in enumerate([(4, "0"), (3, "-1"), (5, "Infinity"), (2, "1")]):
        good[10 + i][column] = value
    async with lake_at(venue) as lake:
        venue.answers = [(200, {}, good)]
        tally = await lake.fill(bar_feed("perp", "5m", M5), start=NOW - timedelta(days=1), end=NOW)

    reasons = sorted(row.reason for _, row in tally.refused)
    assert reasons == ["not_at_most: low high", "not_finite: volume", "not_positive: close", "not_positive: low"]
    assert tally.total().n_new == 284 and tally.lost() == {}


async def test_bars_of_several_symbols_are_all_first_words(venue: Venue) -> None:  # noqa: F811
    venue.closes["ETHUSDT"] = [10.0 + i for i in range(288)]
    async with lake_at(venue) as lake:
        await lake.client.close()
        lake.client = type(lake.client)("binance", ["BTCUSDT", "ETHUSDT"], url=venue.url, clock=lake.clock,
                                        pause=lake._pause)  # fmt: skip
        await lake.client.open()
        tally = Tally()
        from svc_ingest.usecases.backfill import Backfill

        job = Backfill(lake.client, lake.bars, lake.tables, lake.clock, timedelta(days=3), lambda *_: None)
        feed = bar_feed("perp", "5m", M5)
        await job.run([feed], ["BTCUSDT", "ETHUSDT"], start=NOW - timedelta(days=1), end=NOW, tally=tally)
        panel = lake.bars.read(
            market="binance.perp", interval="5m", symbols=None, start=NOW - timedelta(days=1), end=NOW
        )

    assert panel.symbols == ("BTCUSDT", "ETHUSDT") and not tally.total().reasons


async def test_poll_counts_each_bad_row_once_and_keeps_it(poller: Bench) -> None:
    rows = poller.venue.futures.rows[TAKER]
    rows[-2] = rows[-2] | {"buyVol": "many"}
    rows[-4] = rows[-4] | {"timestamp": None}
    for _ in range(3):
        poller.venue.answers = [(200, {}, rows[-300:])]
        assert await poller.poll("taker_volume") == [True]

    state = poller.poller.states["taker_volume"]
    assert (state.n_quarantined, len(poller.rows("taker_volume"))) == (2, state.n_new)
    assert sorted(row["reason"].partition(" ")[0] for row in poller.refused()) == ["no_time", "unreadable:"]
    assert "many" in next(row["received"] for row in poller.refused() if row["reason"] != "no_time")


async def test_duplicate_trade_with_another_price_is_quarantined(venue: Venue) -> None:  # noqa: F811
    def trade(i: int, price: str) -> dict:
        return {"a": i, "p": price, "q": "0.5", "nq": "0.5", "f": i, "l": i, "T": NOW_MS - 60_000 + i, "m": False}

    venue.futures.rows["/fapi/v1/aggTrades"] = [trade(i, "100.1") for i in range(20)]
    async with lake_at(venue) as lake:
        await lake.fill(FEED["trades.perp"])
        venue.futures.rows["/fapi/v1/aggTrades"][7]["p"] = "99.0"
        tally = await lake.fill(FEED["trades.perp"], start=NOW - timedelta(hours=1))

    assert (tally.total().n_new, tally.total().n_repeated, tally.total().n_quarantined) == (0, 19, 1)
    assert lake.tables.quarantine("trades", market="binance.perp")["reason"].to_pylist() == ["other_values"]


def test_refused_rows_are_json_that_a_person_can_read(tmp_path: Path) -> None:
    from svc_ingest.domain.venue_feeds import BadRow
    from svc_ingest.domain.venue_rows import refused_rows

    (row,) = refused_rows("funding", "binance.perp", [BadRow("no_time", {"fundingRate": "0.1"})])

    assert json.loads(row.received) == {"fundingRate": "0.1"}
