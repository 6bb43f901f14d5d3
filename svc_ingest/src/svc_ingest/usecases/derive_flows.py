"""Out of single messages: taker volume, flows of trades and liquidations, and the state of the book."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align import bucket_ends
from qraft_quant.derived import (
    BestQuotes,
    Depth,
    DepthBook,
    LevelRow,
    TradeFlow,
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
# An interval is whole with a trade before it; a contract that is polled trades at least so often.
_TRADES_BEFORE: Final = timedelta(minutes=15)
_LEVELS: Final = ("bid_px", "bid_qty", "ask_px", "ask_qty")


def derive_trades(rows: DerivedRows, selection: Selection) -> None:
    """Add taker_volume and trade_flow of whole intervals."""
    tables = rows.tables
    for market in tables.markets("trades"):
        if not any(selection.takes_market(kind, market) for kind in ("taker_volume", "trade_flow")):
            continue
        for start, end in stretches(tables.range("trades", market=market), selection, _DAY):
            for own in rows.series(
                "trades", market, start - _TRADES_BEFORE, end + STEP, columns=("price", "qty", "is_taker_buy"),
                symbols=selection.symbols,
            ):  # fmt: skip
                if selection.takes_market("taker_volume", market):
                    _taker_volume(rows, market, own, start, end)
                if selection.takes_market("trade_flow", market):
                    _trade_flow(rows, market, own, start, end)


def derive_liquidations(rows: DerivedRows, selection: Selection) -> None:
    """Add liquidation_flow of every symbol, in the intervals in which any was liquidated."""
    tables = rows.tables
    for market in tables.markets("liquidations"):
        if not selection.takes_market("liquidation_flow", market):
            continue
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
    """
    Add book_state: best quotes where a feed of them is stored, and the depth where a book can be rebuilt.

    Where there is no such feed, a book that the venue was asked for within the minute before an interval's end stands
    for its end.
    """
    tables = rows.tables
    for market in tables.markets("book_ticker"):
        if not selection.takes_market("book_state", market):
            continue
        for symbol in selection.symbols or tables.symbols("book_ticker", market=market):
            book: DepthBook | None = None
            heard_us = rows.heard_us("book_ticker", market, symbol=symbol)
            for start, end in busy_hours(tables, "book_ticker", market, symbol, selection):
                quotes = rows.series(
                    "book_ticker", market, start - STEP - _QUOTES_BEFORE, end, columns=_LEVELS, symbols=(symbol,)
                )
                if not quotes:
                    continue
                if book is None:
                    book = _book_before(rows, market, symbol, start)
                depths = _depths(rows, market, symbol, book, start, end)
                own, ends = quotes[0].by_known(), ends_within(start, end)
                best = BestQuotes(own.micros("known_at"), *(own.numbers(name) for name in _LEVELS))
                is_over = ends < heard_us
                _book_state(rows, market, own, best, depths, ends, is_over, "book_ticker")
    for market in tables.markets("book_snapshot"):
        if selection.takes_market("book_state", market):
            for symbol in selection.symbols or tables.symbols("book_snapshot", market=market):
                for start, end in stretches(tables.range("book_snapshot", market=market), selection, _DAY):
                    _asked_books(rows, market, symbol, start, end)


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
    if heard := own.only(is_asked=False):
        known = heard.micros("known_at")
        found = _flow(heard, known)
        _add_flow(rows, market, heard, found, found.ends, _inside(found.ends, start, end))
    if asked := own.only(is_asked=True):
        _add_asked(rows, market, asked, start, end)


def add_asked_flow(rows: DerivedRows, market: str, own: Series) -> int:
    """
    Add the flow of the intervals that trades of one symbol cover whole; return the end of the newest, -1 without any.

    For trades that a venue was asked for. A poll brings those of minutes at once: they count where they happened, and
    the flow is known with the last trade that it takes to know it whole. Trades that were heard as they came count
    where they became known, in `derive_trades`.
    """
    return _add_asked(rows, market, own, None, None)


def _add_asked(rows: DerivedRows, market: str, own: Series, start: datetime | None, end: datetime | None) -> int:
    event = own.micros("event_at")
    found = _flow(own, event)
    inside = _inside(found.ends, start, end) if start and end else np.ones(found.ends.size, dtype=bool)
    _add_flow(rows, market, own, found, _known_whole(event, own.micros("known_at"), found.ends), inside)
    return int(found.ends[-1]) if found.ends.size else -1


def _flow(own: Series, at_us: Int64Array) -> TradeFlow:
    return trade_flow(
        at_us, own.numbers("price"), own.numbers("qty"), own.numbers("is_taker_buy") > 0, running_numbers(own),
        step_us=STEP_US,
    )  # fmt: skip


def _add_flow(
    rows: DerivedRows, market: str, own: Series, found: TradeFlow, known: Int64Array, inside: npt.NDArray[np.bool_]
) -> None:
    names = ("n_trades", "n_taker_buys", "notional", "taker_buy_notional")
    fields = {name: getattr(found, name)[inside] for name in names}
    rows.add("trade_flow", market, own.symbol, found.ends[inside], known[inside], fields, "trades", own.origin)


def _known_whole(event: Int64Array, known: Int64Array, ends: Int64Array) -> Int64Array:
    """
    Return when all trades were known from the last before an interval to the first after it, never before its end.

    Args:
        event, known: (n,) by event. ends: (m,) of intervals with a trade at or before their start and one after them.
    """
    first = np.searchsorted(event, ends - STEP_US, side="right") - 1
    last = np.searchsorted(event, ends, side="right")
    newest = [known[i : j + 1].max() for i, j in zip(first.tolist(), last.tolist(), strict=True)]
    return np.maximum(ends, np.array(newest, dtype=np.int64))


def _asked_books(rows: DerivedRows, market: str, symbol: str, start: datetime, end: datetime) -> None:
    """Add the state at the ends of the intervals in which a book was asked for, as the newest one shows it."""
    # Most stored books were heard with their changes: their levels are not read for nothing.
    if not any(own.only(is_asked=True) for own in rows.series(
        "book_snapshot", market, start, end, columns=(), symbols=(symbol,)
    )):  # fmt: skip
        return
    found = rows.series("book_snapshot", market, start, end, columns=(*_LEVELS, "update_id"), symbols=(symbol,))
    own = found[0].only(is_asked=True)
    assert own is not None, "rows of a table stay"
    books = [it for it in _level_rows(own.by_known(), ("update_id", "update_id"), is_snapshot=True) if _has_sides(it)]
    known = np.array([it.known_us for it in books], dtype=np.int64)
    ends = np.unique(bucket_ends(known, STEP_US))
    best = BestQuotes(known, *(np.array([getattr(it, name)[0] for it in books], dtype=float) for name in _LEVELS))
    depths = depth_states(DepthBook(is_numbered=True, is_cut=True), books, ends=ends)
    _book_state(rows, market, own, best, depths, ends, np.ones(ends.size, dtype=bool), "book_snapshot")


def _has_sides(book: LevelRow) -> bool:
    return all(side.size and side[0] > 0 for side in (book.bid_qty, book.ask_qty))


def _book_state(
    rows: DerivedRows, market: str, own: Series, best: BestQuotes, depths: list[Depth | None], ends: Int64Array,
    is_over: npt.NDArray[np.bool_], came_from: str,
) -> None:  # fmt: skip
    found = quote_states(best, ends=ends, step_us=STEP_US)
    fields: dict[str, FloatArray] = {
        name: getattr(found, name)
        for name in ("spread_frac", "microprice_frac", "queue_imbalance", "order_flow_imbalance")
    }
    for name, part in (("depth_imbalance", "imbalance"), ("bid_depth", "bid"), ("ask_depth", "ask")):
        fields[name] = np.array([np.nan if it is None else getattr(it, part) for it in depths], dtype=float)
    there = ~np.isnan(found.queue_imbalance) & ~np.isnan(found.spread_frac) & is_over
    kept = {name: values[there] for name, values in fields.items()}
    rows.add("book_state", market, own.symbol, ends[there], ends[there], kept, came_from, own.origin)


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
    return [
        row
        for own in rows.series(kind, market, start, end, columns=columns, symbols=(symbol,))
        for row in _level_rows(own, ids, is_snapshot=is_snapshot)
    ]


def _level_rows(own: Series, ids: tuple[str, str], *, is_snapshot: bool) -> Iterator[LevelRow]:
    levels: list[list[Any]] = [own.rows[name].to_pylist() for name in _LEVELS]
    numbers = [own.rows[name].to_pylist() for name in ids]
    for known, first, final, *sides in zip(own.micros("known_at").tolist(), *numbers, *levels, strict=True):
        yield LevelRow(known, is_snapshot, first, final, *(np.array(side, dtype=float) for side in sides))


def _inside(at: Int64Array, start: datetime, end: datetime) -> Any:
    return (at > micros_of(start)) & (at <= micros_of(end))
