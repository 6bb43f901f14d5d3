"""Stored bar rows as Arrow tables: from batches, their keys, what is new in them, and the panel they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel

VALUES: Final = ("open", "high", "low", "close", "volume")
_INSTANT = pa.timestamp("us", tz="UTC")
_FIELDS: Final[list[tuple[str, pa.DataType]]] = [
    ("symbol", pa.string()),
    ("closed_at", _INSTANT),
    ("known_at", _INSTANT),
    ("revision", pa.int32()),
    ("origin", pa.string()),
]
_ROW_KEY: Final = [name for name, _ in _FIELDS if name != "origin"]
ROW_SCHEMA: Final = pa.schema(_FIELDS + [(name, pa.float64()) for name in VALUES])
# 100 million cells are 4 GB of panel: ten years of 1-minute bars of 19 symbols. More is a wrong start instant.
MAX_PANEL_CELLS: Final = 100_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Int64Array = npt.NDArray[np.int64]


def micros(instant: datetime) -> int:
    """Return microseconds since 1970; exact, unlike datetime.timestamp."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_of(micros_: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=int(micros_))


def closed_micros(table: pa.Table) -> Int64Array:
    """Return each row's closed_at in microseconds since 1970."""
    return _micros_column(table, "closed_at")


def table_of(batches: Sequence[BarBatch]) -> pa.Table:
    """
    Return the batches' rows in the order given, with ROW_SCHEMA.

    Raises:
        ValueError: if a closed_at is no multiple of the interval, or revision 0 goes back in time.
    """
    _check_order(batches)
    counts = [len(batch.symbols) for batch in batches]
    columns: list[Any] = [
        pa.array([symbol for batch in batches for symbol in batch.symbols], pa.string()),
        _repeat([micros(batch.closed_at) for batch in batches], counts, pa.int64()).cast(_INSTANT),
        _repeat([micros(batch.known_at) for batch in batches], counts, pa.int64()).cast(_INSTANT),
        _repeat([batch.revision for batch in batches], counts, pa.int32()),
        pa.array(np.repeat([batch.origin.value for batch in batches], counts), pa.string()),
    ]
    columns += [pa.array(np.concatenate([getattr(batch, name) for batch in batches])) for name in VALUES]
    return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def record_of(batch: BarBatch) -> pa.RecordBatch:
    """Return one batch's rows, as table_of does: the bar that has just closed takes a seventh of the general way."""
    n = len(batch.symbols)
    columns: list[Any] = [
        pa.array(batch.symbols, pa.string()),
        pa.array(np.full(n, micros(batch.closed_at)).view("datetime64[us]"), _INSTANT),
        pa.array(np.full(n, micros(batch.known_at)).view("datetime64[us]"), _INSTANT),
        pa.array(np.full(n, batch.revision, dtype=np.int32)),
        pa.array([batch.origin.value] * n, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(
        [*columns, *(pa.array(getattr(batch, name)) for name in VALUES)], schema=ROW_SCHEMA
    )


def _check_order(batches: Sequence[BarBatch]) -> None:
    last: datetime | None = None
    for batch in batches:
        step = INTERVAL_SECONDS[batch.interval] * 1_000_000
        if micros(batch.closed_at) % step:
            raise ValueError(
                f"expected closed_at on the {batch.interval} grid, received {format_instant(batch.closed_at)}"
            )
        if batch.revision > 0:
            continue
        if last is not None and batch.closed_at < last:
            raise ValueError(
                f"expected batches by increasing closed_at, received {format_instant(batch.closed_at)} "
                f"after {format_instant(last)}"
            )
        last = batch.closed_at


def _repeat(values: Sequence[int], counts: Sequence[int], kind: pa.DataType) -> Any:
    return pa.array(np.repeat(np.asarray(values, dtype=np.int64), counts)).cast(kind)


def new_rows(candidates: pa.Table, stored: pa.Table | None) -> pa.Table:
    """
    Return the candidates that are not stored yet, in their order; equal repetitions are left out.

    Both tables hold rows of one day.

    Raises:
        ValueError: if a row comes again with other values under the same revision.
    """
    known = ROW_SCHEMA.empty_table() if stored is None else stored
    both = pa.concat_tables([known, candidates]).combine_chunks()
    key = _keys(both)
    order = np.argsort(key, kind="stable")
    is_first = np.ones(len(key), dtype=bool)
    is_first[1:] = key[order][1:] != key[order][:-1]
    first_of_group = order[np.maximum.accumulate(np.where(is_first, np.arange(len(key)), 0))]
    values = np.column_stack([_floats(both, name) for name in VALUES])
    same = _equal(values[order], values[first_of_group]).all(axis=1)
    if not same.all():
        _raise_changed(both, int(order[np.flatnonzero(~same)[0]]))
    keep = np.sort(order[is_first])
    return both.take(keep[keep >= known.num_rows])


def _raise_changed(table: pa.Table, row: int) -> None:
    symbol, closed_at, _known, revision, *_rest = (column[row].as_py() for column in table.columns)
    raise ValueError(
        f"expected the stored values again for {symbol} {format_instant(closed_at)} revision {revision}, received "
        f"others: a changed bar is a new revision; bars of another source belong in another QRAFT_HOME"
    )


def _keys(table: pa.Table) -> Int64Array:
    """Return one integer a row, equal for equal (symbol, closed_at, revision) within one day."""
    symbol = table["symbol"].combine_chunks().dictionary_encode()
    codes = np.asarray(symbol.indices).astype(np.int64)
    revision = np.asarray(table["revision"]).astype(np.int64)
    assert revision.size == 0 or 0 <= revision.min() <= revision.max() < 1 << 15, "revisions fit 15 bits"
    second_of_day = closed_micros(table) // 1_000_000 % 86_400
    return ((codes << 32) | (second_of_day << 15) | revision).astype(np.int64)


def _equal(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def panel_of(
    read: Callable[[Sequence[str]], Iterable[pa.Table]],
    *,
    market: str,
    interval: str,
    symbols: Sequence[str] | None,
    start: datetime,
    end: datetime,
    as_of: datetime,
) -> BarPanel | None:
    """
    Return rows of revision 0 known by `as_of` on the full grid of (start, end]; a row that stands twice counts once.

    read: gives the tables of the range one by one with the columns asked for; it is called once for the names, unless
    they are given, and once for the rows, so that the panel and one table are all that is in memory at a time.

    Raises:
        ValueError: if the grid would hold more than MAX_PANEL_CELLS.
    """
    step = INTERVAL_SECONDS[interval] * 1_000_000
    first = (micros(start) // step + 1) * step
    n_bars = max(0, micros(end) // step - first // step + 1)
    columns = tuple(symbols) if symbols else _names(read(_ROW_KEY), first, micros(end), micros(as_of))
    if n_bars * len(columns) > MAX_PANEL_CELLS:
        raise ValueError(f"expected at most {MAX_PANEL_CELLS} cells, asked for {n_bars} bars × {len(columns)}")
    if not columns:
        return None
    grids = {name: np.full((n_bars, len(columns)), np.nan) for name in VALUES}
    position = {name: i for i, name in enumerate(columns)}
    origins: set[str] = set()
    for table in read(ROW_SCHEMA.names):
        part = _wanted(table, first, micros(end), micros(as_of))
        if part.num_rows:
            _place(part, grids, position, first=first, step=step, origins=origins)
    if not origins:
        return None
    closed_at = (first + np.arange(n_bars, dtype=np.int64) * step).astype("datetime64[us]")
    origin = worst_origin(Origin(name) for name in origins)
    return BarPanel(market, interval, origin, columns, closed_at, **grids)


def _names(tables: Iterable[pa.Table], first: int, end: int, as_of: int) -> tuple[str, ...]:
    """Return the symbols that have a wanted row, sorted."""
    return tuple(
        sorted({name for table in tables for name in _texts(_wanted(table, first, end, as_of)["symbol"].unique())})
    )


def _wanted(table: pa.Table, first: int, end: int, as_of: int) -> pa.Table:
    closed_at = closed_micros(table)
    mask = (closed_at >= first) & (closed_at <= end) & (_micros_column(table, "known_at") <= as_of)
    mask &= np.asarray(table["revision"]) == 0
    return table if mask.all() else table.filter(pa.array(mask))


def _place(
    part: pa.Table,
    grids: dict[str, npt.NDArray[np.float64]],
    position: dict[str, int],
    *,
    first: int,
    step: int,
    origins: set[str],
) -> None:
    """Write one day's rows into the grids and add the origins of the rows that were used."""
    encoded = part["symbol"].combine_chunks().dictionary_encode()
    column_of = np.array([position.get(name, -1) for name in _texts(encoded.dictionary)])
    column = column_of[np.asarray(encoded.indices)]
    used = column >= 0
    row = ((closed_micros(part) - first) // step)[used]
    for name, grid in grids.items():
        grid[row, column[used]] = _floats(part, name)[used]
    origin = part["origin"] if used.all() else part["origin"].filter(pa.array(used))
    origins.update(_texts(origin.unique()))


def _texts(column: Any) -> list[str]:
    """Return a column's texts; the columns of the lake hold no null."""
    return [str(value) for value in column.to_pylist()]


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _micros_column(table: pa.Table, name: str) -> Int64Array:
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64)
