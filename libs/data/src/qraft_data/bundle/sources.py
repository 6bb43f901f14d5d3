"""What a lake holds for a bundle: its sources, and their rows in parts that do not depend on the engine below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Refused
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import parse_instant
from qraft_data.bundle.manifest import PART_BYTES_MAX, Selection, Source
from qraft_data.bundle.sizes import row_bytes
from qraft_data.times import Int64Array, instant_of, micros, micros_column
from qraft_store.bars.port import BarStore
from qraft_store.bars.rows import ROW_SCHEMA
from qraft_store.tables.port import TableStore
from qraft_store.tables.rules import LAST_MICROS
from qraft_store.tables.schema import table_schema

# 500,000 rows of bars are 40 MB in memory; a row with a whole order book is 32 kB, a text perhaps 1 kB.
_PART_ROWS: Final = 500_000
_PART_ROWS_OF_LISTS: Final = 20_000
# A quarter of what a reader takes (manifest.PART_BYTES_MAX), so that one large instant more is no fault. Bars have 90
# bytes a row: their number is bound enough.
_PART_BYTES: Final = PART_BYTES_MAX // 4
# Nothing that a store takes is known later.
EVER: Final = instant_of(LAST_MICROS)
_DAY_S: Final = 86_400
# The times of a month of these may be a gigabyte; of everything else they are read by the month.
_DENSE: Final = frozenset({"trades", "book_snapshot", "book_update", "book_ticker", "option_quotes"})


@dataclass(frozen=True, slots=True)
class Stores:
    """The two stores of a lake."""

    bars: BarStore
    tables: TableStore

    def version(self, source: Source) -> str:
        """Return the version of a source."""
        if source.kind == "bars":
            return self.bars.version(market=source.market, interval=source.interval)
        return self.tables.version(source.kind, market=source.market)

    def rows(self, source: Source, *, first_us: int, last_us: int, as_of: datetime | None = None) -> pa.Table:
        """Return every revision with first_us <= event_at <= last_us known by `as_of` (None = at any time), sorted."""
        start, end = instant_of(first_us - 1), instant_of(last_us)
        if source.kind != "bars":
            return self.tables.read(
                source.kind,
                market=source.market,
                symbols=None,
                start=start,
                end=end,
                as_of=as_of or EVER,
                revisions="all",
            )
        found = self.bars.rows(market=source.market, interval=source.interval, start=start, end=end, as_of=as_of)
        tables = list(found)
        return pa.concat_tables(tables).combine_chunks() if tables else empty_rows(source)


def empty_rows(source: Source) -> pa.Table:
    """Return no row, with the columns of a source."""
    return (ROW_SCHEMA if source.kind == "bars" else table_schema(source.kind)).empty_table()


def time_column(source: Source) -> str:
    """Return the column that says what a row is about."""
    return "closed_at" if source.kind == "bars" else "event_at"


def sources_of(stores: Stores, selection: Selection) -> tuple[Source, ...]:
    """
    Return what a selection takes, sorted.

    Raises:
        Refused: if a kind or market that it names has nothing stored, or it takes nothing at all.
    """
    there = [Source("bars", grid, market) for grid in INTERVAL_SECONDS for market in stores.bars.markets(grid)]
    there += [Source(kind, "", market) for kind in KINDS if kind != "bars" for market in stores.tables.markets(kind)]
    taken = tuple(sorted(source for source in there if selection.takes(source)))
    for asked, found in (
        (selection.kinds, {it.kind for it in taken}),
        (selection.markets, {it.market for it in taken}),
    ):
        if absent := sorted(set(asked) - found):
            raise Refused("nothing_to_bundle", f"expected rows of {', '.join(absent)}, found none in this lake; "
                          "`qraft data collect` brings them")  # fmt: skip
    if not taken:
        raise Refused("nothing_to_bundle", "expected rows in this lake, found none; `qraft data collect` brings them")
    return taken


def parts_of(stores: Stores, source: Source, selection: Selection, *, after_us: int | None) -> Iterator[pa.Table]:
    """
    Give the rows of a source in parts: of one month (of daily and rarer series: one year), cut where there are many.

    A cut is between two instants and depends on the rows behind the one before only, so that `after_us`, the end of
    the last part written, goes on with the same parts. None = from the beginning.
    """
    start, end, as_of = (
        parse_instant(it) if it else None for it in (selection.start, selection.until, selection.as_of)
    )
    if after_us is not None:
        start = instant_of(after_us)  # a part ends within the range
    if source.kind == "bars":
        yield from _bar_parts(stores, source, start=start, end=end, as_of=as_of)
        return
    first = -LAST_MICROS if start is None else micros(start) + 1
    last = LAST_MICROS if end is None else micros(end)
    spans = _table_spans(stores, source, first=first, last=last, as_of=as_of or EVER)
    while (span := next(spans, None)) is not None:
        rows = stores.rows(source, first_us=span[0], last_us=span[1], as_of=as_of)
        times = micros_column(rows, "event_at")
        n = _fitting(rows, times)
        if n < rows.num_rows:
            rows = rows.take(np.arange(n))
            spans = _table_spans(stores, source, first=int(times[n]), last=last, as_of=as_of or EVER)
        yield rows


def _fitting(rows: pa.Table, times: Int64Array) -> int:
    """Return how many of the sorted rows are of a part's size, no instant divided and at least one taken."""
    sizes = row_bytes(rows)
    if int(sizes.sum()) <= _PART_BYTES:
        return rows.num_rows
    n, size = 0, int(sizes[0])
    while size <= _PART_BYTES:  # ends within the rows, which are larger
        n += 1
        size += int(sizes[n])
    return int(np.searchsorted(times, times[n], side="left")) or cut_after(times, 1)


def _bar_parts(
    stores: Stores, source: Source, *, start: datetime | None, end: datetime | None, as_of: datetime | None
) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    month = -1
    for rows in stores.bars.rows(market=source.market, interval=source.interval, start=start, end=end, as_of=as_of):
        times = micros_column(rows, "closed_at")
        of_rows = int(months_of(times[:1])[0])
        if held and of_rows != month:
            yield pa.concat_tables(held).combine_chunks()
            held = []
        month = of_rows
        held.append(rows)
        while sum(part.num_rows for part in held) >= _PART_ROWS:
            both = pa.concat_tables(held).combine_chunks()
            cut = cut_after(micros_column(both, "closed_at"), _PART_ROWS)
            yield both.slice(0, cut)
            held = [both.slice(cut)] if cut < both.num_rows else []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _table_spans(
    stores: Stores, source: Source, *, first: int, last: int, as_of: datetime
) -> Iterator[tuple[int, int]]:
    """Give the first and last event_at of each part; reads the times, a day or a period of a series at once."""
    whole = stores.tables.range(source.kind, market=source.market)
    if whole is None:
        return
    first, last = max(first, micros(whole[0])), min(last, micros(whole[1]))
    kind = KINDS[source.kind]
    n = _PART_ROWS_OF_LISTS if any(field.type.startswith("list") for field in kind.fields) else _PART_ROWS
    is_rare = kind.cadence_s is not None and kind.cadence_s >= _DAY_S
    for low, high in _periods(first, last, unit="Y" if is_rare else "M"):
        held = np.empty(0, dtype=np.int64)
        for day_low, day_high in _periods(low, high, unit="D") if source.kind in _DENSE else [(low, high)]:
            found = stores.tables.read(
                source.kind, market=source.market, symbols=None, start=instant_of(day_low - 1),
                end=instant_of(day_high), as_of=as_of, columns=("event_at",), revisions="all",
            )  # fmt: skip
            held = np.concatenate([held, micros_column(found, "event_at")])
            while held.size >= n:
                cut = cut_after(held, n)
                yield int(held[0]), int(held[cut - 1])
                held = held[cut:]
        if held.size:
            yield int(held[0]), int(held[-1])


def _periods(first: int, last: int, *, unit: str) -> Iterator[tuple[int, int]]:
    """Give the calendar periods from one instant to another, both ends cut to these, inclusive."""
    low = np.datetime64(first, "us")
    while low <= np.datetime64(last, "us"):
        end = (low.astype(f"datetime64[{unit}]") + 1).astype("datetime64[us]") - np.timedelta64(1, "us")
        high = min(end, np.datetime64(last, "us"))
        yield int(low.astype(np.int64)), int(high.astype(np.int64))
        low = end + np.timedelta64(1, "us")


def cut_after(times: Int64Array, n: int) -> int:
    """Return how many of the sorted rows, at least n, make a part that no instant is divided by."""
    return int(np.searchsorted(times, times[min(n, times.size) - 1], side="right"))


def months_of(times_us: Int64Array) -> Int64Array:
    """Return the month of each instant, counted from 1970."""
    return times_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
