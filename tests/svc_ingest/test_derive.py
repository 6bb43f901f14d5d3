"""Kinds worked out of others: splits and dividends, taker volume, basis."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
from tests.svc_ingest.collect_kit import BARS, T0, Bench, bar_columns, dataset, instants

from svc_ingest.domain.actions import actions_of_factors, dividends_of_adjusted
from svc_ingest.domain.derive import taker_volume
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derive import Deriver

DAYS = np.arange("2014-06-02", "2014-06-14", dtype="datetime64[D]")
STEP = 300_000_000


def test_factors_give_back_the_split_and_the_dividend_that_made_them() -> None:
    # A 7:1 split on the 9th (Friday the 6th is the last day at 700) and 2.80 a share on the 12th at a close of 100.
    weekdays = DAYS[np.is_busday(DAYS)]
    closes = np.where(weekdays < np.datetime64("2014-06-09"), 700.0, 100.0)
    dates = np.array(["2014-06-02", "2014-06-06", "2014-06-11", "2050-12-31"], dtype="datetime64[D]")
    found = actions_of_factors(
        dates,
        np.array([0.972, 0.972, 0.972, 1.0]),
        np.array([1 / 7, 1 / 7, 1.0, 1.0]),
        trading_days=weekdays,
        closes=closes,
    )

    assert found.ex_date.astype(str).tolist() == ["2014-06-09", "2014-06-12"]
    np.testing.assert_allclose(found.split_ratio, [7.0, 1.0])
    np.testing.assert_allclose(found.dividend, [0.0, 2.8])


def test_adjusted_closes_give_back_the_dividends_and_rounding_gives_none() -> None:
    dates, closes = DAYS[:6], np.array([50.0, 51.0, 52.0, np.nan, 51.0, 50.0])
    factor = np.array([1 - 0.52 / 52, 1 - 0.52 / 52, 1 - 0.52 / 52, np.nan, 1.0, 1.0])
    adjusted = np.round(closes * factor, 6) * (1 + 1e-7)

    found = dividends_of_adjusted(dates, closes, adjusted)

    assert found.ex_date.astype(str).tolist() == ["2014-06-06"] and found.split_ratio.tolist() == [1.0]
    np.testing.assert_allclose(found.dividend, [0.52], rtol=1e-4)


def trades(times: list[int], ids: list[int] | None = None) -> tuple:
    event = np.array(times, dtype=np.int64)
    n = event.size
    ids_ = np.arange(100, 100 + n) if ids is None else np.array(ids)
    return event, event + 5, np.arange(1.0, n + 1), np.arange(n) % 2 == 0, ids_


def test_taker_volume_holds_whole_intervals_only_from_start_to_before_the_end() -> None:
    found = taker_volume(*trades([10, STEP, STEP + 7, 2 * STEP - 1, 2 * STEP, 3 * STEP - 2]), step_us=STEP)

    # The first interval began before the first trade, the third has no trade at or after its end.
    assert found.event_us.tolist() == [2 * STEP]
    assert (found.buy.tolist(), found.sell.tolist()) == ([3.0], [2.0 + 4.0])
    assert found.known_us.tolist() == [2 * STEP + 4]  # the last trade was received after the interval's end


def test_taker_volume_is_not_made_over_a_missing_trade_or_without_running_numbers() -> None:
    times = [10, STEP + 1, 2 * STEP + 1, 3 * STEP + 1, 4 * STEP + 1]

    assert taker_volume(*trades(times), step_us=STEP).event_us.tolist() == [2 * STEP, 3 * STEP, 4 * STEP]
    assert taker_volume(*trades(times, [1, 2, 4, 5, 6]), step_us=STEP).event_us.tolist() == [4 * STEP]
    assert taker_volume(*trades(times)[:4], None, step_us=STEP).event_us.size == 0


def test_later_trades_never_change_an_interval_that_is_over() -> None:
    event, known, qty, is_buy, ids = trades([10, STEP + 1, 2 * STEP + 1, 2 * STEP + 2, 3 * STEP + 1])
    whole = taker_volume(event, known, qty, is_buy, ids, step_us=STEP)
    qty[3:] *= 1000

    changed = taker_volume(event, known, qty, ~is_buy & (ids > 102) | is_buy & (ids <= 102), ids, step_us=STEP)

    assert (whole.buy[0], whole.sell[0]) == (changed.buy[0], changed.sell[0])
    assert whole.sell[1] != changed.sell[1]


def test_basis_is_made_where_both_bars_are_known_and_no_source_gave_it(tmp_path) -> None:
    spot = BARS | {"market": "binance.spot"}
    given = {"kind": "basis", "market": "binance.perp", "symbol": "BTCUSDT", "time": {"column": "time"},
             "fields": {"spot_price": "spot", "future_price": "future",
                        "basis_frac": {"column": "future", "over": "spot", "plus": -1.0}}}  # fmt: skip
    bench = Bench(
        tmp_path, dataset("s", "s/*.parquet", spot), dataset("p", "p/*.parquet", BARS), dataset("g", "g.parquet", given)
    )
    bench.write("s/BTCUSDT.parquet", **bar_columns([100.0] * 20))
    late = instants(20, 300, T0 + timedelta(minutes=25))
    bench.write("p/BTCUSDT.parquet", **bar_columns([101.0] * 20, open_time=late))
    given_at = instants(1, 300, T0 + timedelta(minutes=30))
    bench.write("g.parquet", time=given_at, spot=pa.array([100.0]), future=pa.array([105.0]))
    bench.collect()

    first, second = Tally(), Tally()
    Deriver(bench.bars, bench.tables).derive(Selection(), first)
    Deriver(bench.bars, bench.tables).derive(Selection(), second)

    rows = bench.rows("basis", "binance.perp")
    assert len(rows) == 15 and rows[0]["event_at"] == rows[0]["known_at"] == T0 + timedelta(minutes=30)
    assert rows[0]["source"] == "file:g" and rows[0]["future_price"] == 105.0
    assert {row["source"] for row in rows[1:]} == {"derived:bars"}
    np.testing.assert_allclose([row["basis_frac"] for row in rows[1:]], 0.01)
    assert (first.total().n_new, second.total().n_new, second.total().n_repeated) == (14, 0, 15)
