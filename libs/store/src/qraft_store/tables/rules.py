"""
Which rows a kind forbids, and why; a whole table at a time.

A reason is a short code and the columns it is about, such as `out_of_bounds: price`, so that it can be counted. The
first rule broken names the row; the order is that of the columns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import Field, Kind
from qraft_contracts.origin import Origin
from qraft_store.tables.schema import BoolArray, micros, micros_of

# No schedule of a venue or a statistics office reaches beyond; nanoseconds read as microseconds do.
LAST_MICROS: Final = micros(datetime(2200, 1, 1, tzinfo=UTC))
ORIGINS: Final = tuple(origin.value for origin in Origin)
Reasons = npt.NDArray[np.object_]


def first_micros(kind: Kind) -> int:
    """Return the earliest instant that a row of the kind may name."""
    return micros(datetime(kind.first_year, 1, 1, tzinfo=UTC))


def reasons_of(kind: Kind, rows: pa.Table) -> Reasons:
    """Return of each row why the kind forbids it, None where it does not. rows: as schema.conform returns them."""
    reasons: Reasons = np.full(rows.num_rows, None, dtype=object)
    if rows.num_rows == 0:
        return reasons
    _judge_base(kind, rows, reasons)
    for field in kind.fields:
        _judge_field(field, rows[field.name].combine_chunks(), reasons)
    for left, right in kind.same_length:
        lengths = [_filled(pc.list_value_length(rows[name].combine_chunks()), 0) for name in (left, right)]
        _mark(reasons, lengths[0] != lengths[1], f"unequal_lengths: {left} {right}")
    for low, high in kind.at_most:
        below = [_filled(rows[name].combine_chunks(), np.nan) for name in (low, high)]
        _mark(reasons, below[0] > below[1], f"not_at_most: {low} {high}")
    return reasons


def is_refused(reasons: Reasons) -> BoolArray:
    """Return where there is a reason."""
    return np.asarray(reasons != np.array(None, dtype=object), dtype=bool)


def _mark(reasons: Reasons, is_bad: BoolArray, reason: str) -> None:
    if is_bad.any():
        reasons[is_bad & ~is_refused(reasons)] = reason


def _judge_base(kind: Kind, rows: pa.Table, reasons: Reasons) -> None:
    _mark(reasons, _is_empty(rows["symbol"]), "missing: symbol")
    earliest = first_micros(kind)
    for name in ("event_at", "known_at"):
        values = micros_of(rows, name)
        _mark(reasons, _is_null(rows[name]), f"missing: {name}")
        _mark(reasons, (values < earliest) | (values >= LAST_MICROS), f"impossible_time: {name}")
    _mark(reasons, micros_of(rows, "known_at") < micros_of(rows, "event_at"), "known_before_event")
    if kind.has_row_id:
        _mark(reasons, _is_empty(rows["row_id"]), "missing: row_id")
    else:
        _mark(reasons, _is_null(rows["row_id"]), "missing: row_id")
        _mark(reasons, ~_is_empty(rows["row_id"]), "unexpected: row_id")
    _mark(reasons, _is_null(rows["revision"]), "missing: revision")
    _mark(reasons, _filled(rows["revision"].combine_chunks(), 0) < 0, "out_of_bounds: revision")
    _mark(reasons, ~_filled(pc.is_in(rows["origin"], value_set=pa.array(ORIGINS)), False), "unknown: origin")
    _mark(reasons, _is_empty(rows["source"]), "missing: source")


def _judge_field(field: Field, column: Any, reasons: Reasons) -> None:
    if field.type == "list<float64>":
        _judge_list(field, column, reasons)
        return
    missing = _is_empty(column) if field.type == "utf8" else _is_null(column)
    if field.type == "float64":
        values = _filled(column, np.nan)
        missing = np.isnan(values)
        _mark(reasons, np.isinf(values), f"not_finite: {field.name}")
    if field.is_required:
        _mark(reasons, missing, f"missing: {field.name}")
    if field.type in ("float64", "int64"):
        values = values if field.type == "float64" else _filled(column, 0)
        _mark(reasons, ~missing & ((values < field.low) | (values > field.high)), f"out_of_bounds: {field.name}")


def _judge_list(field: Field, column: Any, reasons: Reasons) -> None:
    """A list is present, possibly empty; each of its elements is a number within the bounds."""
    if field.is_required:
        _mark(reasons, _is_null(column), f"missing: {field.name}")
    values = _filled(column.flatten(), np.nan)
    owner = np.asarray(pc.list_parent_indices(column), dtype=np.int64)
    for is_bad, code in (
        (~np.isfinite(values), "not_finite"),
        ((values < field.low) | (values > field.high), "out_of_bounds"),
    ):
        of_row = np.zeros(len(column), dtype=bool)
        of_row[owner[is_bad]] = True
        _mark(reasons, of_row, f"{code}: {field.name}")


def _is_null(column: Any) -> BoolArray:
    return np.asarray(pc.is_null(column), dtype=bool)


def _is_empty(column: Any) -> BoolArray:
    """Return where a text is absent or has no character."""
    lengths: npt.NDArray[np.int32] = _filled(pc.binary_length(column), 0)
    return np.asarray(lengths == 0, dtype=bool)


def _filled(column: Any, value: Any) -> Any:
    return np.asarray(pc.fill_null(column, value))
