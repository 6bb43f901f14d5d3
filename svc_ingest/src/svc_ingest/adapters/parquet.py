"""One Parquet file of bars: what it must hold, and its rows as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.quality import count_out_of_order
from svc_ingest.domain.raw import VALUES, Int64Array, RawRows

_COLUMNS = ("open_time", *VALUES)
# From so many rows on, a file without two bars in a row has longer bars rather than gaps.
_ENOUGH_ROWS = 20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file as scanned. Instants in microseconds since 1970; 0 where there is no row."""

    n_bytes: int
    n_rows: int
    n_out_of_order: int
    first_closed_at: int
    last_closed_at: int


def scan_file(path: Path, step: timedelta) -> FileFacts:
    """
    Check a file's columns and read its times.

    Raises:
        Malformed: if it is no whole Parquet file, lacks a column, has one of the wrong type, or has another interval.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow)
            opened = _micros(path, file.read(columns=["open_time"])["open_time"])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if opened.size == 0:
        return FileFacts(path.stat().st_size, 0, 0, 0, 0)
    closed_at = opened + _as_micros(step)
    _check_interval(path, closed_at, step)
    return FileFacts(
        path.stat().st_size, closed_at.size, count_out_of_order(closed_at), int(closed_at.min()), int(closed_at.max())
    )


def read_rows(path: Path, step: timedelta, window: tuple[int, int]) -> RawRows:
    """
    Return the rows with window[0] < closed_at <= window[1], microseconds; by time, equal times in the file's order.

    Raises:
        Malformed: if the file changed since it was scanned and cannot be read any more.
    """
    try:
        with pq.ParquetFile(path) as file:
            groups = [i for i in range(file.num_row_groups) if _overlaps(file, i, step, window)]
            table = file.read_row_groups(groups, columns=list(_COLUMNS))
            closed_at = _micros(path, table["open_time"]) + _as_micros(step)
            values = np.column_stack([np.asarray(table[name].cast(pa.float64()).to_numpy()) for name in VALUES])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    inside = np.flatnonzero((closed_at > window[0]) & (closed_at <= window[1]))
    order = inside[np.argsort(closed_at[inside], kind="stable")]
    return RawRows(closed_at[order], np.ascontiguousarray(values[order]))


def _overlaps(file: Any, group: int, step: timedelta, window: tuple[int, int]) -> bool:
    """Return whether a row group can hold rows of the window, by its statistics."""
    index = file.schema_arrow.get_field_index("open_time")
    statistics = file.metadata.row_group(group).column(index).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    first, last = (_scalar_micros(value) + _as_micros(step) for value in (statistics.min, statistics.max))
    return first <= window[1] and last > window[0]


def _scalar_micros(value: object) -> int:
    micros = pa.scalar(value, pa.timestamp("us", tz="UTC")).value
    assert micros is not None, "row group statistics hold no null"
    return int(micros)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in _COLUMNS if name not in schema.names]
    if missing:
        raise Malformed("missing_columns", f"expected the columns {list(_COLUMNS)} in {path.name}, it lacks {missing}")
    kind = schema.field("open_time").type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise Malformed(
            "wrong_dtype", f"expected open_time in {path.name} as a timestamp with a time zone, received {kind}"
        )
    for name in VALUES:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise Malformed("wrong_dtype", f"expected numbers in {path.name} column {name}, received {kind}")


def _check_interval(path: Path, closed_at: Int64Array, step: timedelta) -> None:
    """Refuse a file of another interval: its bars would end at another time than we say."""
    between = np.diff(np.unique(closed_at))
    if between.size == 0:
        return
    usual, shortest = int(np.median(between)), int(between.min())
    if usual < _as_micros(step) or (between.size >= _ENOUGH_ROWS and shortest > _as_micros(step)):
        raise Malformed(
            "wrong_interval",
            f"expected bars of {step}, {path.name} has one every {timedelta(microseconds=usual)}; set QRAFT_INTERVAL",
        )


def _micros(path: Path, column: Any) -> Int64Array:
    if column.null_count:
        raise Malformed(
            "wrong_dtype", f"expected an open_time in every row of {path.name}, {column.null_count} are empty"
        )
    return np.asarray(column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64()).to_numpy(), dtype=np.int64)


def _as_micros(step: timedelta) -> int:
    return step // timedelta(microseconds=1)


def _unreadable(path: Path, error: Exception) -> Malformed:
    return Malformed(
        "unreadable_file", f"expected a whole Parquet file in {path}: {error}; copy it again or leave its symbol out"
    )
