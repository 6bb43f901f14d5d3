"""Bad input through files and recordings: units, swapped columns, clocks; and every row is accounted for."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from tests.svc_ingest.collect_kit import BARS, FUNDING, NOW, T0, Bench, bar_columns, dataset, funding_columns, instants

TAKER = {"kind": "taker_volume", "market": "binance.perp", "symbol": "BTCUSDT", "time": {"column": "time"},
         "fields": {"buy_volume": "buy", "sell_volume": "sell"}}  # fmt: skip
TICKER = {"kind": "book_ticker", "market": "m", "symbol": "BTCUSDT", "time": {"column": "time"}, "row_id": "{id}",
          "fields": {"bid_px": "bid", "bid_qty": "qty", "ask_px": "ask", "ask_qty": "qty"}}  # fmt: skip
RECEIVED_NS = int(T0.timestamp()) * 1_000_000_000


def raw_rule(kind: str, **fields: str) -> dict:
    """Return a rule of the reader binance_messages, which makes its own columns."""
    return {"kind": kind, "market": "binance.spot", "symbol": "{symbol}", "part": kind, "time": {"column": "event_at"},
            "known": {"rule": "column", "column": "received_at"}, "fields": fields}  # fmt: skip


TRADES = raw_rule("trades", price="price", qty="qty", is_taker_buy="is_taker_buy") | {"row_id": "{id}"}
TICKERS = raw_rule("book_ticker", **{name: name for name in ("bid_px", "bid_qty", "ask_px", "ask_qty", "update_id")})
TICKERS |= {"row_id": "{update_id}"}


def message(i: int, **changes: object) -> bytes:
    """Return one line of a recording: a trade, received ten milliseconds after it happened."""
    at_ms = RECEIVED_NS // 1_000_000 + i * 100
    data = {"e": "trade", "s": "BTCUSDT", "t": i, "p": "100.0", "q": "0.5", "T": at_ms, "m": True} | changes
    return f"{(at_ms + 10) * 1_000_000} ".encode() + json.dumps({"stream": "x", "data": data}).encode() + b"\n"


def quote(i: int) -> bytes:
    at_ns = RECEIVED_NS + i * 100_000_000 + 11_000_000
    data = {"u": i, "s": "BTCUSDT", "b": "99.5", "B": "1", "a": "100.5", "A": "1"}
    return f"{at_ns} ".encode() + json.dumps({"stream": "x", "data": data}).encode() + b"\n"


def recorded(folder: Path, lines: list[bytes]) -> Bench:
    bench = Bench(folder, dataset("r", "*.jsonl", TRADES, TICKERS, reader="binance_messages"))
    (bench.data / "binance_spot_btcusdt_1.jsonl").write_bytes(b"".join(lines))
    return bench


@pytest.mark.parametrize("rule", [FUNDING, BARS])
def test_milliseconds_read_as_microseconds_are_refused_as_a_time_before_every_market(tmp_path, rule: dict) -> None:
    bench = Bench(tmp_path, dataset("d", "*.parquet", rule))
    stamps = [int(T0.timestamp() * 1000) // 300_000_000 * 300_000_000 + i * 300_000_000 for i in range(12)]
    micros = pa.array(stamps, pa.timestamp("us", tz="UTC"))
    if rule is FUNDING:
        bench.write("BTCUSDT.parquet", **funding_columns([0.0001] * 12, funding_time=micros))
    else:
        bench.write("BTCUSDT.parquet", **bar_columns([100.0] * 12, open_time=micros))

    tally = bench.collect()

    reasons = (
        [row["reason"] for row in bench.refused("d")]
        if rule is BARS
        else bench.tables.quarantine("funding", market="binance.perp")["reason"].to_pylist()
    )
    assert reasons == ["impossible_time: event_at"] * 12
    assert (tally.total().n_new, tally.total().n_quarantined, tally.lost()) == (0, 12, {})


def test_dollars_instead_of_coins_in_taker_volume_are_quarantined(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("t", "*.parquet", TAKER))
    buy = [100.0 + i % 9 for i in range(100)] + [60_000.0 * (100 + i % 9) for i in range(100)]
    bench.write("t.parquet", time=instants(200, 300), buy=buy, sell=[50.0] * 200)

    tally = bench.collect()

    assert (tally.total().n_new, tally.total().n_quarantined, tally.lost()) == (100, 100, {})
    assert next(iter(tally.total().reasons)).startswith("unit_drift: buy_volume is 6e+04 times")


def test_swapped_bid_and_ask_fail_the_file_and_one_crossed_quote_is_quarantined(tmp_path) -> None:
    bench = Bench(tmp_path, dataset("s", "s.parquet", TICKER), dataset("c", "c.parquet", TICKER))
    time, ids = instants(50, 1), [str(i) for i in range(50)]
    bench.write("s.parquet", time=time, id=ids, bid=[101.0] * 50, ask=[100.0] * 50, qty=[1.0] * 50)
    bench.write("c.parquet", time=time, id=ids, bid=[99.0] * 49 + [101.0], ask=[100.0] * 50, qty=[1.0] * 50)

    tally = bench.collect()

    assert [(it.where, it.code) for it in tally.failures] == [("s", "file_fault")]
    assert "bid_px above ask_px" in tally.failures[0].why and tally.total().n_new == 49
    assert bench.tables.quarantine("book_ticker", market="m")["reason"].to_pylist() == ["not_at_most: bid_px ask_px"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p": "0"}, "out_of_bounds: price"),
        ({"p": "-3"}, "out_of_bounds: price"),
        ({"q": "Infinity"}, "not_finite: qty"),
        ({"p": "nan"}, "missing: price"),
        ({"p": "n/a"}, "not_a_message"),
        ({"T": "noon"}, "not_a_message"),
        ({"e": "newcomer"}, "not_a_message"),
        ({"q": None}, "not_a_message"),
        ({"T": int(NOW.timestamp() * 1000) + 3_600_000}, "ahead_of_clock"),
        ({"t": 4, "p": "101.0"}, "other_values"),
    ],
)
def test_bad_message_of_a_recording_is_kept_with_its_reason_and_the_others_are_stored(
    tmp_path, changes, reason
) -> None:
    bench = recorded(tmp_path, [message(i, **(changes if i == 5 else {})) for i in range(30)])
    if reason == "other_values":  # the same id again, at the same time
        (bench.data / "binance_spot_btcusdt_1.jsonl").write_bytes(
            b"".join([*(message(i) for i in range(30) if i != 5), message(4, **changes)])
        )

    tally = bench.collect()

    kept = [row["reason"] for row in bench.refused("r")]
    kept += bench.tables.quarantine("trades", market="binance.spot")["reason"].to_pylist()
    assert len(kept) == 1 and kept[0].startswith(reason)
    assert (tally.total().n_new, tally.total().n_quarantined, tally.lost()) == (29, 1, {})


def test_stamp_far_ahead_in_a_recording_does_not_move_the_quotes_after_it(tmp_path) -> None:
    lines = [message(0), message(1, T=int(NOW.timestamp() * 1000) + 3_600_000), *(quote(i) for i in range(2, 9))]

    tally = recorded(tmp_path, lines).collect()

    assert tally.counts["r", "book_ticker", "binance.spot"].n_new == 7
    assert tally.total().reasons == {"ahead_of_clock": 1}


def test_kraken_trade_at_no_price_is_kept_and_named(tmp_path) -> None:
    rule = TRADES | {"market": "kraken.futures"}
    bench = Bench(tmp_path, dataset("k", "*.txt.gz", rule, reader="kraken_capture"))
    trade = {"feed": "trade", "product_id": "PI_XBTUSD", "uid": "u", "side": "buy", "time": 1748736000000, "qty": 5}
    lines = [f"1748736001.5: {json.dumps(trade | {'uid': str(i), 'price': i % 2 * 100})}\n" for i in range(2)]
    (bench.data / "k.txt.gz").write_bytes(gzip.compress("".join(lines).encode()))

    tally = bench.collect()

    assert tally.total().n_new == 1 and tally.lost() == {}
    assert [row["reason"].partition(":")[0] for row in bench.refused("k")] == ["not_a_message"]


def test_every_row_of_a_bad_file_is_stored_repeated_or_kept_with_its_reason(tmp_path) -> None:
    with_empty = FUNDING | {"no_value": ["funding_rate"]}
    bench = Bench(
        tmp_path, dataset("f", "f*.parquet", with_empty), dataset("b", "B*.parquet", BARS),
        dataset("j", "*.jsonl", FUNDING, reader="jsonl"),
    )  # fmt: skip
    rates = [0.0001] * 40
    rates[3], rates[4], rates[5] = 0.9, float("nan"), float("inf")
    times = [int(T0.timestamp() * 1000) + i * 8 * 3_600_000 for i in range(40)]
    times[7], times[8] = times[6], int(NOW.timestamp() * 1000) + 10**7
    stamps = pa.array([None if i == 9 else it for i, it in enumerate(times)], pa.timestamp("ms", tz="UTC"))
    bench.write("f.parquet", **funding_columns(rates, funding_time=stamps))
    closes = [100.0 + i for i in range(60)]
    closes[10], closes[20] = 0.0, -4.0
    bench.write("BTCUSDT.parquet", **bar_columns(
        closes, volume=[5.0] * 59 + [float("inf")], open_time=instants(60, 300, T0 + timedelta(days=1))))  # fmt: skip
    (bench.data / "x.jsonl").write_text(
        '{"funding_time": "2025-06-02T00:00:00Z", "venue": "x", "symbol": "BTCUSDT", "funding_rate": 0.0001}\n'
        + '{"funding_time": "2025-06-\n' * 3
    )

    tally = bench.collect(start=T0 + timedelta(hours=9))

    total = tally.total()
    assert tally.n_taken.total() == 40 + 60 + 4 and tally.lost() == {} and not tally.failures
    assert tally.n_taken.total() == (
        total.n_new + total.n_repeated + total.n_quarantined + total.n_empty + tally.n_outside.total()
    )
    assert (total.n_repeated, total.n_empty, tally.n_outside["f"]) == (1, 1, 2) and total.n_quarantined == 4 + 3 + 3
    again = bench.collect(start=T0 + timedelta(hours=9))
    assert again.total().n_new == 0 and again.lost() == {}
