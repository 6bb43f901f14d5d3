"""Stored bar rows as Arrow tables: from batches, their columns and keys, and what is new in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch

VALUES: Final = ("open", "high", "low", "close", "volume")
_INSTANT = pa.timestamp("us", tz="UTC")
_FIELDS: Final[list[tuple[str, pa.DataType]]] = [
    ("symbol", pa.string()),
    ("closed_at", _INSTANT),
    ("known_at", _INSTANT),
    ("revision", pa.int32()),
    ("origin", pa.string()),
]
ROW_SCHEMA: Final = pa.schema(_FIELDS + [(name, pa.float64()) for name in VALUES])
REVISION_MAX: Final = 32_767  # 15 bits of the row key; svc_ingest stops at 16

_NO_INSTANT: Final = np.iinfo(np.int64).max
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


def known_micros(table: pa.Table) -> Int64Array:
    """Return each row's known_at in microseconds since 1970."""
    return _micros_column(table, "known_at")


def is_first_revision(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which rows are of revision 0."""
    return np.asarray(np.asarray(table["revision"]) == 0)


def floats_of(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Return one value column."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def encode_texts(column: Any) -> tuple[list[str], Int64Array]:
    """Return a text column's distinct texts and each row's place among them; the columns of the lake hold no null."""
    encoded = column.combine_chunks().dictionary_encode()
    return [str(name) for name in encoded.dictionary.to_pylist()], np.asarray(encoded.indices).astype(np.int64)


def table_of(batches: Sequence[BarBatch]) -> pa.Table:
    """
    Return the batches' rows in the order given, with ROW_SCHEMA.

    Raises:
        ValueError: if a closed_at is no multiple of the interval or after its known_at, revision 0 goes back in time,
            or a revision is none.
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
        if batch.known_at < batch.closed_at:
            raise ValueError(
                f"expected known_at from the end of the bar on, {format_instant(batch.closed_at)}, received "
                f"{format_instant(batch.known_at)}: nobody knows a bar before it has ended"
            )
        if not 0 <= batch.revision <= REVISION_MAX:
            raise ValueError(f"expected a revision from 0 to {REVISION_MAX}, received {batch.revision}")
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


def new_rows(candidates: pa.Table, stored: pa.Table | None, *, is_exact: bool = False) -> pa.Table:
    """
    Return the candidates that are not stored yet, in their order; equal repetitions are left out.

    Both tables hold rows of one partition. is_exact: equal in known_at and origin too, not only in the values.

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
    values = np.column_stack([floats_of(both, name) for name in VALUES])
    same = _equal(values[order], values[first_of_group]).all(axis=1)
    if is_exact:
        for column in (known_micros(both), encode_texts(both["origin"])[1]):
            same &= column[order] == column[first_of_group]
    if not same.all():
        _raise_changed(both, int(order[np.flatnonzero(~same)[0]]))
    keep = np.sort(order[is_first])
    return both.take(keep[keep >= known.num_rows])


def checked_end(new: pa.Table, end: int, *, is_restored: bool = False) -> int:
    """
    Return the end of a series after these new rows of one partition, microseconds.

    is_restored: rows of another store, where a revision may stand without, and so beyond, a first row.

    Raises:
        ValueError: if a row of revision 0 is before the end, or a later revision beyond it.
    """
    closed_at, is_first = closed_micros(new), is_first_revision(new)
    oldest = int(closed_at[is_first].min(initial=end))
    if oldest < end:
        raise ValueError(
            f"expected closed_at from {format_instant(instant_of(end))} on, received "
            f"{format_instant(instant_of(oldest))}: a late row is stored as a revision"
        )
    newest, end = int(closed_at[~is_first].max(initial=0)), int(closed_at[is_first].max(initial=end))
    if newest > end and not is_restored:
        raise ValueError(
            f"expected a revision of a bar up to {format_instant(instant_of(end))}, received one of "
            f"{format_instant(instant_of(newest))}: the first row of a bar is revision 0"
        )
    return end


def _raise_changed(table: pa.Table, row: int) -> None:
    symbol, closed_at, _known, revision, *_rest = (column[row].as_py() for column in table.columns)
    raise ValueError(
        f"expected the stored values again for {symbol} {format_instant(closed_at)} revision {revision}, received "
        f"others: a changed bar is a new revision; bars of another source belong in another QRAFT_HOME"
    )


def _keys(table: pa.Table) -> Int64Array:
    """Return one integer a row, equal for equal (symbol, closed_at, revision) within one partition."""
    _, codes = encode_texts(table["symbol"])
    revision = np.asarray(table["revision"]).astype(np.int64)
    assert revision.size == 0 or 0 <= revision.min() <= revision.max() <= REVISION_MAX, "revisions fit 15 bits"
    closed_at = closed_micros(table)
    second = (closed_at - closed_at.min(initial=_NO_INSTANT)) // 1_000_000  # a year has 25 bits of them
    return np.asarray((codes << 40) | (second << 15) | revision, dtype=np.int64)


def _equal(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _micros_column(table: pa.Table, name: str) -> Int64Array:
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64)
