"""What a table of a kind looks like in Arrow: BASE_COLUMNS, then the kind's fields; names, types, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import BASE_COLUMNS, KINDS, Kind

INSTANT: Final = pa.timestamp("us", tz="UTC")
TYPES: Final[dict[str, pa.DataType]] = {
    "utf8": pa.string(),
    "timestamp[us, UTC]": INSTANT,
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
}
NAME_COLUMNS: Final = ("symbol", "event_at", "row_id", "revision")
# The same texts and lists in another layout (polars writes large ones) are the same type to a caller.
_SAME: Final[dict[str, pa.DataType]] = {
    "large_string": pa.string(),
    "string_view": pa.string(),
    "large_list<item: double>": pa.list_(pa.float64()),
}
_MARKET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# 10 million trades are about 3 GB while they are sorted and checked; a caller has them in parts anyway.
MAX_ROWS_PER_APPEND: Final = 10_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def kind_of(name: str) -> Kind:
    """
    Return the kind of a table.

    Raises:
        ValueError: if there is no such kind, or it is `bars`, which live in a BarStore.
    """
    if name == "bars" or name not in KINDS:
        raise ValueError(f"expected a kind out of {sorted(set(KINDS) - {'bars'})}, received {name!r}")
    return KINDS[name]


def check_market(market: str) -> str:
    """
    Return the market.

    Raises:
        ValueError: if its name could leave the lake.
    """
    if not is_market(market):
        raise ValueError(f"expected a market such as binance.perp, received {market!r}")
    return market


def is_market(name: str) -> bool:
    """Return whether a folder may be one of a market."""
    return _MARKET_NAME.fullmatch(name) is not None


def table_schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a kind's table, base columns first."""
    fields = [(column, TYPES[type_]) for column, type_ in BASE_COLUMNS]
    return pa.schema(fields + [(field.name, TYPES[field.type]) for field in kind_of(name).fields])


def conform(name: str, rows: pa.Table) -> pa.Table:
    """
    Return the rows with the kind's columns in its order; texts and lists in one layout, one chunk a column.

    Raises:
        ValueError: if a column is missing, unknown or of another type, or there are more than MAX_ROWS_PER_APPEND rows.
    """
    schema = table_schema(name)
    if rows.num_rows > MAX_ROWS_PER_APPEND:
        raise ValueError(f"expected at most {MAX_ROWS_PER_APPEND} rows a call, received {rows.num_rows}: send parts")
    missing = [column for column in schema.names if column not in rows.column_names]
    unknown = [column for column in rows.column_names if column not in schema.names]
    if missing or unknown or len(rows.column_names) != len(schema.names):
        raise ValueError(
            f"expected the columns {schema.names} of {name}; missing: {missing}, unknown: {unknown}, "
            f"received {rows.column_names}"
        )
    columns = [_conform_column(name, field, rows[field.name]) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _conform_column(kind: str, field: Any, column: Any) -> Any:
    plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    same = _SAME.get(str(plain), plain)
    is_list = pa.types.is_list(plain) and plain.value_type == pa.float64()
    if same != field.type and not (is_list and pa.types.is_list(field.type)):
        raise ValueError(f"expected {field.name} of {kind} as {field.type}, received {column.type}")
    whole = column.combine_chunks()
    return whole if whole.type == field.type else whole.cast(field.type)


def micros(instant: datetime) -> int:
    """Return microseconds since 1970; exact, unlike datetime.timestamp."""
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with a time zone, received the naive {instant.isoformat()}")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_of(micros_: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=int(micros_))


def micros_of(table: pa.Table, column: str) -> Int64Array:
    """Return an instant column as microseconds since 1970; an empty cell is the smallest integer."""
    values: Any = table[column].combine_chunks()
    values = values.cast(pa.int64())
    if values.null_count:
        values = pc.fill_null(values, np.iinfo(np.int64).min)
    return np.asarray(values, dtype=np.int64)


def wanted_columns(name: str, columns: Any) -> list[str]:
    """
    Return the columns a read asks for; None = all.

    Raises:
        ValueError: if the kind has no such column.
    """
    names = table_schema(name).names
    if columns is None:
        return list(names)
    unknown = [column for column in columns if column not in names]
    if unknown or len(set(columns)) != len(columns):
        raise ValueError(f"expected columns of {name} out of {names}, each once; received {list(columns)}")
    return list(columns)


def distinct(column: Any) -> list[str]:
    """Return the distinct texts of a column without empty cells."""
    return [str(value) for value in column.unique().to_pylist()]
