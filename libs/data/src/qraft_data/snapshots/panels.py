"""A snapshot's rows as arrays again: what training computes on, from the bytes that its manifest names."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from qraft_data.calendars import ALWAYS_OPEN
from qraft_data.query import BAR_INPUTS, Query, engine_inputs
from qraft_data.snapshots.meta import SnapshotMeta
from qraft_data.times import FloatArray, float_column, micros_column
from qraft_store.bars.port import BarPanel


def query_of(meta: SnapshotMeta) -> Query:
    """
    Return the question that a snapshot of get_data answers.

    Raises:
        ValueError: if it is a snapshot of another kind of table.
    """
    try:
        return msgspec.convert(meta.query, Query, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected a snapshot of get_data, received {sorted(meta.query)}: {error}") from error


def grid_of(meta: SnapshotMeta, table: pa.Table, field: str) -> FloatArray:
    """
    Return a field as (n_rows, n_symbols), symbols in the query's order, NaN = missing.

    Raises:
        ValueError: if the field is not in the snapshot, or the policy `drop` left cells out.
    """
    symbols = query_of(meta).symbols
    if field not in table.column_names or table.num_rows % len(symbols) or meta.counts.get("n_dropped", 0):
        raise ValueError(
            f"expected {field} of every row and symbol, found columns {table.column_names}, "
            f"{meta.counts.get('n_dropped', 0)} dropped cells"
        )
    return float_column(table, field).reshape(-1, len(symbols))


def inputs_of(meta: SnapshotMeta, table: pa.Table) -> dict[str, FloatArray]:
    """
    Return what the feature engine takes, (n_rows, n_symbols) by its names; what is not in the snapshot is absent.

    Raises:
        ValueError: as grid_of and engine_inputs.
    """
    return {name: grid_of(meta, table, field) for name, field in engine_inputs(query_of(meta)).items()}


def bar_panel_of(meta: SnapshotMeta, table: pa.Table) -> BarPanel:
    """
    Return the bars of a snapshot as svc_train and svc_backtest take them.

    Raises:
        ValueError: if a bar field is missing, or a calendar or `drop` left rows out of the grid.
    """
    query = query_of(meta)
    if query.calendar not in (None, ALWAYS_OPEN):
        raise ValueError(f"expected every step of the grid, received the sessions of {query.calendar} only")
    values = [grid_of(meta, table, f"bars.{name}") for name in BAR_INPUTS]
    closed_at = micros_column(table, "event_at").reshape(-1, len(query.symbols))[:, 0].astype("datetime64[us]")
    return BarPanel(query.market, query.interval, meta.origin, query.symbols, np.ascontiguousarray(closed_at), *values)
