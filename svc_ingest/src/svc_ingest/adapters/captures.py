"""
Recorded exchange messages as tables: Binance's raw feed with receive times, and two WebSocket captures.

Every table carries `event_at` and `received_at` in microseconds. A message without a time of its own (a spot ticker, a
REST snapshot) is of the newest exchange time seen before it, or of its receipt where that is later: the receiving
clock may be behind the exchange's, and a row must never seem known before it happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.parts import Part, Torn

# Messages held at once; 100,000 book messages are about 300 MB as Python objects.
PART_MESSAGES: Final = 25_000
MAX_TORN: Final = 1_000
# How far a receiving clock may be behind the exchange's: the ones at hand are a second and a quarter.
AHEAD_MAX_US: Final = 60_000_000
_LIST = pa.list_(pa.float64())
_COMMON: Final[list[tuple[str, pa.DataType]]] = [
    ("symbol", pa.string()),
    ("event_at", pa.int64()),
    ("received_at", pa.int64()),
]
_LEVELS: Final[list[tuple[str, pa.DataType]]] = [
    ("bid_px", _LIST),
    ("bid_qty", _LIST),
    ("ask_px", _LIST),
    ("ask_qty", _LIST),
]
_INT: Final[pa.DataType] = pa.int64()
SCHEMAS: Final[dict[str, pa.Schema]] = {
    "book_snapshot": pa.schema([*_COMMON, *_LEVELS, ("update_id", pa.int64())]),
    "book_update": pa.schema([*_COMMON, *_LEVELS, ("first_update_id", pa.int64()), ("final_update_id", pa.int64())]),
    "book_ticker": pa.schema(
        [*_COMMON, *((name, pa.float64()) for name in ("bid_px", "bid_qty", "ask_px", "ask_qty")),
         ("update_id", pa.int64())]
    ),
    "trades": pa.schema(
        [*_COMMON, ("id", pa.string()), ("price", pa.float64()), ("qty", pa.float64()), ("is_taker_buy", pa.bool_())]
    ),
    "bars": pa.schema(
        [*_COMMON, ("open_time", pa.int64()),
         *((name, pa.float64()) for name in ("open", "high", "low", "close", "volume"))]
    ),
}  # fmt: skip
# What a capture holds that is no row of ours, by the name under which the report counts it.
_NO_ROWS: Final = frozenset({"subscribed", "info", "subscribe"})
_Row = dict[str, Any]


class _Decoder:
    """Collects rows by table; knows the newest exchange time of the stream."""

    def __init__(self, stem: str) -> None:
        self.rows: dict[str, list[_Row]] = {name: [] for name in SCHEMAS}
        self.torn: list[Torn] = []
        # The symbol of messages that carry none: the file's own name says it, binance_spot_btcusdt_20240808.
        self._symbol = stem.split("_")[2].upper() if stem.count("_") >= 3 else ""
        self._exchange_us = 0

    def add(self, table: str, received_us: int, event_ms: int | None, symbol: str, **fields: Any) -> None:
        if event_ms is None:
            event_us = max(received_us, self._exchange_us)
        else:
            event_us = int(event_ms) * 1_000
            # A stamp far ahead is a fault of its own row and no time of the exchange for the rows after it.
            if event_us - received_us <= AHEAD_MAX_US:
                self._exchange_us = max(self._exchange_us, event_us)
        common = {"symbol": str(symbol or self._symbol), "event_at": event_us, "received_at": received_us}
        self.rows[table].append(common | fields)

    def take(self, first_row: int) -> Iterator[Part]:
        for name, rows in self.rows.items():
            if rows:
                yield Part(name, pa.Table.from_pylist(rows, schema=SCHEMAS[name]), first_row)
        if self.torn:
            yield Part("torn", pa.table({}), first_row, tuple(self.torn))
        self.rows, self.torn = {name: [] for name in SCHEMAS}, []


def parts(lines: Iterable[bytes], *, reader: str, stem: str) -> Iterator[Part]:
    """
    Yield the tables of a recording.

    Raises:
        Malformed: if more than MAX_TORN lines are no messages: the file is something else.
    """
    decoder, first, n_torn = _Decoder(stem), 0, 0
    message_of = _split_nanoseconds if reader == "binance_messages" else _split_capture
    take = _take_kraken if reader == "kraken_capture" else _take_binance
    for number, line in enumerate(lines):
        try:
            split = message_of(line)
            if split is not None:
                take(decoder, *split)
        except (msgspec.DecodeError, ArithmeticError, KeyError, ValueError, TypeError, IndexError) as error:
            reason = f"not_a_message: {type(error).__name__}: {error}"
            decoder.torn.append(Torn(number, reason, line.decode(errors="replace").rstrip()))
            n_torn += 1
            if n_torn > MAX_TORN:
                raise Malformed("unreadable_file", f"expected messages in {stem}, {n_torn} lines are none") from error
        if number - first + 1 >= PART_MESSAGES:
            yield from decoder.take(first)
            first = number + 1
    yield from decoder.take(first)


def _split_nanoseconds(line: bytes) -> tuple[int, _Row]:
    stamp, _, text = line.partition(b" ")
    return int(stamp) // 1_000, msgspec.json.decode(text, type=dict[str, Any])


def _split_capture(line: bytes) -> tuple[int, _Row] | None:
    """Return the receive time and the message; None for what we sent ourselves and for the connection."""
    stamp, _, text = line.partition(b": ")
    if b" <" in stamp or b" <-> " in line[:2_000]:
        return None
    whole, _, fraction = stamp.decode().partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0")[:6]), msgspec.json.decode(text, type=dict[str, Any])


def _levels(bids: Iterable[Any], asks: Iterable[Any]) -> _Row:
    pairs = {"bid": list(bids), "ask": list(asks)}
    return {f"{side}_{name}": [float(pair[i]) for pair in pairs[side]]
            for side in pairs for i, name in enumerate(("px", "qty"))}  # fmt: skip


def _take_binance(decoder: _Decoder, received_us: int, message: _Row) -> None:
    """Take one message of Binance's spot or futures feed. Source: developers.binance.com, WebSocket market streams."""
    data = message.get("data", message)
    if "lastUpdateId" in data:
        levels = _levels(data["bids"], data["asks"])
        decoder.add("book_snapshot", received_us, data.get("T"), "", **levels, update_id=int(data["lastUpdateId"]))
        return
    symbol, kind = data["s"], data.get("e", "bookTicker")
    when = data.get("T", data.get("E"))  # futures say when the engine matched (T) beside when it told (E)
    match kind:
        case "depthUpdate":
            levels = _levels(data["b"], data["a"])
            ids = {"first_update_id": int(data["U"]), "final_update_id": int(data["u"])}
            decoder.add("book_update", received_us, when, symbol, **levels, **ids)
        case "bookTicker":
            quote = {"bid_px": data["b"], "bid_qty": data["B"], "ask_px": data["a"], "ask_qty": data["A"]}
            numbers = {name: float(text) for name, text in quote.items()}
            decoder.add("book_ticker", received_us, when, symbol, **numbers, update_id=int(data["u"]))
        case "trade" | "aggTrade":
            # Ids of single and of aggregated trades are two sequences.
            own = str(data["t"]) if kind == "trade" else f"a{data['a']}"
            decoder.add(
                "trades", received_us, data["T"], symbol,
                id=own, price=float(data["p"]), qty=float(data["q"]), is_taker_buy=not data["m"],
            )  # fmt: skip
        case "kline":
            _take_kline(decoder, received_us, data)
        case _:
            raise ValueError(f"unknown message {kind!r}")


def _take_kline(decoder: _Decoder, received_us: int, data: _Row) -> None:
    bar = data["k"]
    if bar["x"]:  # closed; a forming bar is no row
        names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
        numbers = {name: float(bar[key]) for name, key in names.items()}
        decoder.add("bars", received_us, data["E"], bar["s"], open_time=int(bar["t"]) * 1_000, **numbers)


def _take_kraken(decoder: _Decoder, received_us: int, message: _Row) -> None:
    """
    Take one message of Kraken Futures.

    Its contracts here are inverse, one US dollar each, so a quantity in coins is contracts / price.
    Source: docs.kraken.com/api/docs/futures-api/websocket.
    """
    if message.get("event") in _NO_ROWS:
        return
    feed, symbol = message["feed"], message["product_id"]
    if feed == "book_snapshot":
        levels = _levels(*([_coins(level) for level in message[side]] for side in ("bids", "asks")))
        decoder.add("book_snapshot", received_us, message["timestamp"], symbol, **levels, update_id=int(message["seq"]))
    elif feed == "book":
        level = [_coins(message)]
        levels = _levels(level, []) if message["side"] == "buy" else _levels([], level)
        ids = {"first_update_id": int(message["seq"]), "final_update_id": int(message["seq"])}
        decoder.add("book_update", received_us, message["timestamp"], symbol, **levels, **ids)
    elif feed in ("trade", "trade_snapshot"):
        for trade in message.get("trades", [message]):
            price, qty = _coins(trade)
            decoder.add(
                "trades", received_us, trade["time"], symbol,
                id=str(trade["uid"]), price=price, qty=qty, is_taker_buy=trade["side"] == "buy",
            )  # fmt: skip
    elif feed == "ticker_lite":
        raise ValueError("ticker_lite has no quantities; the book has the same quotes")
    else:
        raise ValueError(f"unknown feed {feed!r}")


def _coins(level: _Row) -> tuple[float, float]:
    price = float(level["price"])
    return price, float(level["qty"]) / price
