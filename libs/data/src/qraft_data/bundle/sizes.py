"""How large rows are in memory, by their values alone: equal rows have equal sizes, whatever store they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qraft_data.times import Int64Array

# What a cell takes beside the bytes of a text or the numbers of a list: a value or an offset.
_CELL_BYTES = 8


def row_bytes(rows: pa.Table) -> Int64Array:
    """Return the bytes of each row, decoded; texts in a dictionary count as long as they are."""
    sizes: Int64Array = np.full(rows.num_rows, _CELL_BYTES * rows.num_columns, dtype=np.int64)
    at = 0
    for batch in rows.to_batches():
        for column in batch.columns:
            sizes[at : at + batch.num_rows] += _lengths(column)
        at += batch.num_rows
    return sizes


def _lengths(column: Any) -> Int64Array | int:
    if pa.types.is_dictionary(column.type):
        lengths = _lengths(column.dictionary)
        places = np.asarray(pc.fill_null(column.indices, 0), dtype=np.int64)
        return lengths[places] if isinstance(lengths, np.ndarray) and lengths.size else 0
    if pa.types.is_string(column.type):
        return _filled(pc.binary_length(column))
    if pa.types.is_list(column.type):
        return _CELL_BYTES * _filled(pc.list_value_length(column))
    return 0


def _filled(lengths: Any) -> Int64Array:
    return np.asarray(pc.fill_null(lengths, 0), dtype=np.int64)
