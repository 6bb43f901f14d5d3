"""Out of single messages: taker volume, flows of trades and liquidations, and the state of the book."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from qraft_quant.derived import (
    BestQuotes,
    Depth,
    DepthBook,
    LevelRow,
    depth_states,
    liquidation_flow,
    quote_states,
    trade_flow,
)
from svc_ingest.domain.derive import taker_volume
from svc_ingest.domain.raw import FloatArray, Int64Array, micros_of
from svc_ingest.usecases.collect import Selection
from svc_ingest.usecases.derived_rows import (
    STEP,
    STEP_US,
    DerivedRows,
    Series,
    busy_hours,
    ends_within,
    running_numbers,
    stretches,
)

# Stretches of time that are read at once; trades of a day of a busy market are some millions, quotes of an hour too.
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
# A book is rebuilt from a snapshot so long before what was asked for; venues are asked for one more often.
_SNAPSHOT_BEFORE: Final = timedelta(days=1)
# Before the first interval the feed of quotes must have been heard, at most so long ago.
_QUOTES_BEFORE: Final = timedelta(minutes=1)
_LEVELS: Final = ("bid_px", "bid_qty", "ask_px", "ask_qty")


def derive_trades(rows: DerivedRows, selection: Selection) -> None:
    """Add taker_volume and trade_flow of whole intervals."""
    tables = rows.tables
    for market in tables.markets("trades"):
        for start, end in stretches(tables.range("trades", market=market), selection, _DAY):
            for own in rows.series(
                "trades", market, start - STEP, end + STEP, columns=("price", "qty", "is_taker_buy")
            ):
                if selection.takes("taker_volume"):
                    _taker_volume(rows, market, own, start, end)
                if selection.takes("trade_flow"):
                    _trade_flow(rows, market, own, start, end)


def derive_liquidations(rows: DerivedRows, selection: Selection) -> None:
    """Add liquidation_flow of every symbol, in the intervals in which any was liquidated."""
    tables = rows.tables
    for market in tables.markets("liquidations"):
        symbols, heard_us = tables.symbols("liquidations", market=market), rows.heard_us("liquidations", market)
        for start, end in stretches(tables.range("liquidations", market=market), selection, _DAY):
            all_of = rows.series("liquidations", market, start - STEP, end, columns=("size_usd",))
            if not all_of:
                continue
            known = np.concatenate([own.micros("known_at") for own in all_of])
            size = np.concatenate([own.numbers("size_usd") for own in all_of])
            number = np.concatenate([np.full(own.rows.num_rows, symbols.index(own.symbol)) for own in all_of])
            order = np.argsort(known, kind="stable")
            found = liquidation_flow(
                known[order], size[order], number[order], n_symbols=len(symbols), step_us=STEP_US, until_us=heard_us
            )
            inside = _inside(found.ends, start, end)
            for column, symbol in enumerate(symbols):
                rows.add(
                    "liquidation_flow", market, symbol, found.ends[inside], found.ends[inside],
                    {"n_liquidations": found.n_liquidations[inside, column],
                     "liquidation_usd": found.liquidation_usd[inside, column]},
                    "liquidations", max(own.origin for own in all_of),
                )  # fmt: skip


def derive_books(rows: DerivedRows, selection: Selection) -> None:
    """Add book_state: best quotes where a feed of them is stored, and the depth where a book can be rebuilt."""
    tables = rows.tables
    for market in tables.markets("book_ticker"):
        for symbol in tables.symbols("book_ticker", market=market):
            book: DepthBook | None = None
            heard_us = rows.heard_us("book_ticker", market, symbol=symbol)
            for start, end in busy_hours(tables, "book_ticker", market, symbol, selection):
                quotes = rows.series(
                    "book_ticker", market, start - STEP - _QUOTES_BEFORE, end, columns=_LEVELS, symbol=symbol
                )
                if not quotes:
                    continue
                if book is None:
                    book = _book_before(rows, market, symbol, start)
                depths = _depths(rows, market, symbol, book, start, end)
                _book_state(rows, market, quotes[0].by_known(), depths, ends_within(start, end), heard_us)


def _taker_volume(rows: DerivedRows, market: str, own: Series, start: datetime, end: datetime) -> None:
    found = taker_volume(
        own.micros("event_at"), own.micros("known_at"), own.numbers("qty"), own.numbers("is_taker_buy") > 0,
        running_numbers(own), step_us=STEP_US,
    )  # fmt: skip
    inside = _inside(found.event_us, start, end)
    fields = {"buy_volume": found.buy[inside], "sell_volume": found.sell[inside]}
    event, known = found.event_us[inside], found.known_us[inside]
    rows.add("taker_volume", market, own.symbol, event, known, fields, "trades", own.origin)


def _trade_flow(rows: DerivedRows, market: str, own: Series, start: datetime, end: datetime) -> None:
    found = trade_flow(
        own.micros("known_at"), own.numbers("price"), own.numbers("qty"), own.numbers("is_taker_buy") > 0,
        running_numbers(own), step_us=STEP_US,
    )  # fmt: skip
    inside = _inside(found.ends, start, end)
    names = ("n_trades", "n_taker_buys", "notional", "taker_buy_notional")
    fields = {name: getattr(found, name)[inside] for name in names}
    rows.add("trade_flow", market, own.symbol, found.ends[inside], found.ends[inside], fields, "trades", own.origin)


def _book_state(
    rows: DerivedRows, market: str, quotes: Series, depths: list[Depth | None], ends: Int64Array, heard_us: int
) -> None:
    best = BestQuotes(quotes.micros("known_at"), *(quotes.numbers(name) for name in _LEVELS))
    found = quote_states(best, ends=ends, step_us=STEP_US)
    fields: dict[str, FloatArray] = {
        name: getattr(found, name)
        for name in ("spread_frac", "microprice_frac", "queue_imbalance", "order_flow_imbalance")
    }
    for name, part in (("depth_imbalance", "imbalance"), ("bid_depth", "bid"), ("ask_depth", "ask")):
        fields[name] = np.array([np.nan if it is None else getattr(it, part) for it in depths])
    there = ~np.isnan(found.queue_imbalance) & ~np.isnan(found.spread_frac) & (ends < heard_us)
    kept = {name: values[there] for name, values in fields.items()}
    rows.add("book_state", market, quotes.symbol, ends[there], ends[there], kept, "book_ticker", quotes.origin)


def _book_before(rows: DerivedRows, market: str, symbol: str, start: datetime) -> DepthBook:
    """Return the book as of the start, empty where no snapshot of the day before it is stored."""
    updates = _messages(rows, "book_update", market, symbol, start - _SNAPSHOT_BEFORE, start + _HOUR)
    finals = {it.final_id for it in updates}
    n_following = sum(it.first_id - 1 in finals for it in updates)
    # Spot and Kraken number every change; Binance's futures leave numbers out, and name the message before instead.
    book = DepthBook(is_numbered=2 * n_following > len(updates))
    _depths(rows, market, symbol, book, start - _SNAPSHOT_BEFORE, start)
    return book


def _depths(
    rows: DerivedRows, market: str, symbol: str, book: DepthBook, start: datetime, end: datetime
) -> list[Depth | None]:
    found = [
        message
        for kind in ("book_snapshot", "book_update")
        for message in _messages(rows, kind, market, symbol, start, end)
    ]
    found.sort(key=lambda it: (it.final_id, not it.is_snapshot))
    return depth_states(book, found, ends=ends_within(start, end))


def _messages(rows: DerivedRows, kind: str, market: str, symbol: str, start: datetime, end: datetime) -> list[LevelRow]:
    is_snapshot = kind == "book_snapshot"
    ids = ("update_id", "update_id") if is_snapshot else ("first_update_id", "final_update_id")
    columns = (*_LEVELS, *dict.fromkeys(ids))
    found = []
    for own in rows.series(kind, market, start, end, columns=columns, symbol=symbol):
        levels: list[list[Any]] = [own.rows[name].to_pylist() for name in _LEVELS]
        numbers = [own.rows[name].to_pylist() for name in ids]
        for known, first, final, *sides in zip(own.micros("known_at").tolist(), *numbers, *levels, strict=True):
            found.append(LevelRow(known, is_snapshot, first, final, *(np.array(side, dtype=float) for side in sides)))
    return found


def _inside(at: Int64Array, start: datetime, end: datetime) -> Any:
    return (at > micros_of(start)) & (at <= micros_of(end))
