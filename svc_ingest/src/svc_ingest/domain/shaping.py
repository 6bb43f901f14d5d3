"""
From the rows of a file to rows of the metric dictionary: a whole table at a time, by the rules of the catalogue.

A row that cannot be read is refused with its reason and kept as it was received; nothing is filled. What the kind
itself forbids is judged by the store, which keeps those rows with their reasons.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import KINDS, Field
from qraft_contracts.outcomes import Malformed
from svc_ingest.domain.categories import category_of
from svc_ingest.domain.clock_times import US, Column, event_times, known_times
from svc_ingest.domain.datasets import TEMPLATE, Cell, TableRule
from svc_ingest.domain.raw import Int64Array

AHEAD_OF_CLOCK: Final = "ahead_of_clock"
# A venue's clock may run a little before ours.
AHEAD_MAX_US: Final = 5_000_000
# One reason on so large a part of so many rows is the file's fault: its columns are swapped, its unit is another.
FILE_FAULT_FRAC: Final = 0.2
FILE_FAULT_ROWS: Final = 20
ARROW_TYPES: Final[dict[str, pa.DataType]] = {
    "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_(), "utf8": pa.string(),
    "list<float64>": pa.list_(pa.float64()),
}  # fmt: skip
Reasons = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was not taken: where it stood, why, and what it said, as JSON."""

    kind: str
    market: str
    row: int
    reason: str
    received: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """
    What a rule made of a table. rows: by market, BASE_COLUMNS and the fields of the kind, in the file's order.

    n_empty: rows that are no observations.
    """

    rows: dict[str, pa.Table]
    refused: list[Refused]
    n_empty: int


def check_columns(table: pa.Table, wanted: frozenset[str], ignored: tuple[str, ...], *, where: str) -> None:
    """
    Refuse a file whose columns are not those of the catalogue.

    Raises:
        Malformed: naming the missing and the new columns; a renamed one is both.
    """
    missing, new = sorted(wanted - set(table.column_names)), sorted(set(table.column_names) - wanted - set(ignored))
    if missing or new:
        raise Malformed(
            "schema_drift",
            f"expected the columns {sorted(wanted)} in {where}; missing: {missing}, new: {new}; a renamed column is "
            "both. Change its data set in the catalogue, or list a new column under `ignored`",
        )


def shape(
    table: pa.Table, rule: TableRule, *, source: str, stem: str, first_row: int, now_us: int, origin: str
) -> Shaped:
    """
    Return a table's rows as a rule of the catalogue wants them.

    first_row: number of the table's first row in its file. now_us: no row may be known later.

    Raises:
        Malformed: if a column has the wrong type.
    """
    mask = matches(table, rule.where)
    table, numbers = table.filter(pa.array(mask)), first_row + np.flatnonzero(mask).astype(np.int64)
    table, numbers, n_empty = _without_empty(table, rule, numbers)
    event, reasons = event_times(table[rule.time.column], rule.time)
    known = known_times(event, table[rule.known.column] if rule.known.column else None, rule.known)
    _mark(reasons, known > now_us + AHEAD_MAX_US, AHEAD_OF_CLOCK)
    columns: dict[str, Any] = {
        "symbol": pc.replace_substring(_text(table, rule.symbol, stem), "/", ""),
        "event_at": pa.array(event).cast(US),
        "known_at": pa.array(known).cast(US),
        "row_id": _row_id(table, rule, stem),
        "revision": pa.array(np.zeros(table.num_rows, dtype=np.int32)),
        "origin": _constant(origin, table.num_rows),
        "source": _constant(source + _derived_fields(rule.cells), table.num_rows),
    }
    cells = rule.cells
    for field in KINDS[rule.kind].fields:
        columns[field.name] = _field(table, field, cells.get(field.name), reasons)
    markets: Reasons = np.array([text or "" for text in _text(table, rule.market, stem).to_pylist()], dtype=object)
    is_good = reasons == ""
    rows = pa.table(columns)
    by_market = {
        str(market): rows.filter(pa.array(is_good & (markets == market))) for market in np.unique(markets[is_good])
    }
    return Shaped(by_market, _refused(table, rule, markets, numbers, reasons), n_empty)


def _derived_fields(cells: Mapping[str, Cell]) -> str:
    """Return what a row's source says of the fields that rules made, such as `;category=news/1`."""
    return "".join(f";{name}={cell.rules}" for name, cell in sorted(cells.items()) if cell.rules is not None)


def matches(table: pa.Table, where: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Return which rows have one of the given texts in every given column; without columns all."""
    found = np.ones(table.num_rows, dtype=bool)
    for column, values in where.items():
        texts = table[column].cast(pa.string()).to_pylist()
        found &= np.array([text in values for text in texts], dtype=bool)
    return found


def without_a_rule(
    table: pa.Table, rules: Sequence[TableRule], elsewhere: Mapping[str, Sequence[str]], *, first_row: int
) -> list[Refused]:
    """Return the rows that no rule takes and that are not left to other data sets: a new venue, a new contract."""
    taken = matches(table, elsewhere) if elsewhere else np.zeros(table.num_rows, dtype=bool)
    for rule in rules:
        taken |= matches(table, rule.where)
    found = np.flatnonzero(~taken).astype(np.int64)
    return [
        Refused("none", "none", first_row + int(i), "no_rule", as_received(row))
        for i, row in zip(found, table.take(found).to_pylist(), strict=True)
    ]


def _without_empty(table: pa.Table, rule: TableRule, numbers: Int64Array) -> tuple[pa.Table, Int64Array, int]:
    if not rule.no_value:
        return table, numbers, 0
    empty = np.logical_and.reduce([np.asarray(table[name].is_null(nan_is_null=True)) for name in rule.no_value])
    return table.filter(pa.array(~empty)), numbers[~empty], int(empty.sum())


def _mark(reasons: Reasons, found: npt.NDArray[np.bool_], reason: str) -> None:
    reasons[found & (reasons == "")] = reason


def _constant(text: str, n: int) -> Column:
    return pa.chunked_array([pa.repeat(pa.scalar(text, pa.string()), n)])


def _text(table: pa.Table, template: str, stem: str) -> Column:
    """Return each row's text of a template such as {coin}USDT; null where a column of it is empty."""
    parts: list[Any] = []
    for i, piece in enumerate(TEMPLATE.split(template)):
        if i % 2 == 0:
            parts.append(pa.scalar(piece, pa.string()))
        elif piece in ("stem", "head"):
            parts.append(pa.scalar(stem if piece == "stem" else stem.partition("_")[0], pa.string()))
        else:
            parts.append(table[piece].cast(pa.string()))
    if all(isinstance(part, pa.Scalar) for part in parts):
        return _constant("".join(part.as_py() for part in parts), table.num_rows)
    joined: Column = pc.binary_join_element_wise(*parts, "")
    return joined


def _row_id(table: pa.Table, rule: TableRule, stem: str) -> Column:
    """Return each row's own id; for sources without one a hash of the columns that tell rows apart."""
    if not rule.row_id.startswith("sha256:"):
        return _text(table, rule.row_id, stem)
    names = rule.row_id.removeprefix("sha256:").split(",")
    texts = [table[name].cast(pa.string()).to_pylist() for name in names]
    ids = [hashlib.sha256("\x1f".join(map(str, row)).encode()).hexdigest()[:16] for row in zip(*texts, strict=True)]
    return pa.chunked_array([pa.array(ids, pa.string())])


def _field(table: pa.Table, field: Field, cell: Cell | None, reasons: Reasons) -> Any:
    wanted = ARROW_TYPES[field.type]
    if cell is None:
        return pa.array([None] * table.num_rows, wanted)
    if cell.column is None:
        return pa.array([cell.value] * table.num_rows, wanted)
    column = table[cell.column]
    if cell.empty:
        is_none = pc.is_in(column, value_set=pa.array(cell.empty, column.type))
        column = pc.if_else(is_none, pa.scalar(None, column.type), column)
    was_there = ~np.asarray(column.is_null())
    result = _convert(table, field, cell, column)
    _mark(reasons, was_there & np.asarray(result.is_null()), f"unreadable: {field.name}")
    if field.type == "float64" and (cell.low is not None or cell.high is not None):
        values = np.asarray(result.fill_null(np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
        low = -np.inf if cell.low is None else cell.low
        high = np.inf if cell.high is None else cell.high
        _mark(reasons, (values < low) | (values > high), f"other_unit: {field.name} outside {low:g} to {high:g}")
    return result


def _convert(table: pa.Table, field: Field, cell: Cell, column: Any) -> Any:
    wanted = ARROW_TYPES[field.type]
    if cell.rules is not None:
        texts = column.cast(pa.string()).to_pylist()
        return pa.chunked_array([pa.array([category_of(text, rules=cell.rules) for text in texts], wanted)])
    if cell.map:
        texts = column.cast(pa.string()).to_pylist()
        return pa.chunked_array([pa.array([cell.map.get(text) for text in texts], wanted)])
    if field.type == "utf8":
        return column.cast(pa.string())
    if field.type in ("bool", "list<float64>"):
        return _cast(field, column, wanted)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pa.chunked_array([pa.array([_number(text) for text in column.to_pylist()], pa.float64())])
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    if field.type == "int64" and cell.times == 1.0 and cell.plus == 0.0:
        return _cast(field, column, wanted)
    number = _cast(field, column, pa.float64())
    if cell.over is not None:
        number = pc.divide(number, _cast(field, table[cell.over], pa.float64()))
    if cell.times != 1.0:
        number = pc.multiply(number, cell.times)
    if cell.plus != 0.0:
        number = pc.add(number, cell.plus)
    return number.cast(wanted)


def _cast(field: Field, column: Any, wanted: pa.DataType) -> Any:
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Malformed(
            "wrong_dtype", f"expected {field.name} as {field.type}, received {column.type}: {error}"
        ) from error


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _refused(
    table: pa.Table, rule: TableRule, markets: npt.NDArray[np.object_], numbers: Int64Array, reasons: Reasons
) -> list[Refused]:
    found = np.flatnonzero(reasons != "").astype(np.int64)
    rows = table.take(found).to_pylist()
    return [
        Refused(rule.kind, str(markets[i]), int(numbers[i]), str(reasons[i]), as_received(row))
        for i, row in zip(found, rows, strict=True)
    ]


def as_received(row: object) -> str:
    """Return a row as JSON text, for people: what JSON has no word for as its own text."""
    return msgspec.json.encode(row, enc_hook=str).decode()
