"""The answer of get_data: values on rows × symbols with their times, flags, rolls and the policy that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_data.calendars import ALWAYS_OPEN
from qraft_data.continuous.rolls import RollPoint
from qraft_data.query import BAR_INPUTS, Query, engine_inputs
from qraft_data.times import UTC_MICROS, BoolArray, FloatArray, Int64Array
from qraft_data.zones import LocalTimes
from qraft_store.bars.port import BarPanel

FLAG_SUFFIX = "__missing"


@dataclass(frozen=True, slots=True)
class Counts:
    """
    What was left out, so that nothing goes silently. n_outside_calendar: bars that lie in no session. n_dropped: cells
    (row × symbol) dropped for a missing value. n_filled: values put in by the policy `previous`. n_missing: by field,
    cells without a value before the policy.
    """

    n_outside_calendar: int
    n_dropped: int
    n_filled: int
    n_missing: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DataPanel:
    """
    Values of several fields of several symbols, as known at `query.as_of`.

    query: complete, with every choice that made these values. event_us: (n_rows,) the rows' times, UTC, microseconds,
    strictly increasing; bars end there (exclusive). local: the same times on the clock of query.time_zone.
    values: by field name, (n_rows, n_symbols), NaN = none. missing: by field name, where there was no value before the
    policy. is_kept: (n_rows, n_symbols), false where the policy
    `drop` dropped a cell. contracts: of continuous futures, (n_rows, n_symbols) index into contract_names, -1 = none.
    origin: the worst of all rows used. sources: what was read, such as `bars/5m/binance.perp`,
    `tables/funding/binance.perp` and `calendars/XNYS`, each with its version ("" where versions were not wanted).
    """

    query: Query
    origin: Origin
    event_us: Int64Array
    local: LocalTimes
    values: Mapping[str, FloatArray]
    missing: Mapping[str, BoolArray]
    is_kept: BoolArray
    counts: Counts
    sources: Mapping[str, str]
    roll_points: tuple[RollPoint, ...] = ()
    contracts: Int64Array | None = None
    contract_names: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the columns of every value array."""
        return self.query.symbols

    def is_missing(self, field: str) -> BoolArray:
        """Return where a field had no value, (n_rows, n_symbols): a model's input beside the value."""
        return self.missing[field]

    def table(self) -> pa.Table:
        """
        Return the kept cells as rows, by time, then symbol in the query's order; equal panels give equal tables.

        Columns: event_at (UTC), local_at (wall clock, no zone), utc_offset_s, symbol, contract (continuous futures
        only), the fields (null = none) and, with the policies `flag` and `previous`, `<field>__missing`.
        """
        row, column = np.nonzero(self.is_kept)
        names: Any = pa.array(self.symbols, pa.string())
        columns: dict[str, Any] = {
            "event_at": pa.array(self.event_us[row], pa.int64()).cast(UTC_MICROS),
            "local_at": pa.array(self.local.local_us[row], pa.int64()).cast(pa.timestamp("us")),
            "utc_offset_s": pa.array(self.local.offset_s[row].astype(np.int32)),
            "symbol": names.take(pa.array(column)),
        }
        if self.contracts is not None:
            chosen = self.contracts[row, column]
            contracts: Any = pa.array(self.contract_names, pa.string())
            columns["contract"] = contracts.take(pa.array(chosen, mask=chosen < 0))
        for field, values in self.values.items():
            cells = values[row, column]
            columns[field] = pa.array(cells, pa.float64(), mask=np.isnan(cells))
        if self.query.missing in ("flag", "previous"):
            for field, is_missing in self.missing.items():
                columns[field + FLAG_SUFFIX] = pa.array(is_missing[row, column])
        return pa.table(columns)

    def inputs(self) -> dict[str, FloatArray]:
        """
        Return what the feature engine takes, (n_rows, n_symbols) by its names; what was not asked for is absent.

        Raises:
            ValueError: as engine_inputs.
        """
        return {name: self.values[field] for name, field in engine_inputs(self.query).items()}

    def bars(self) -> BarPanel:
        """
        Return the five bar fields as the panel that svc_train and svc_backtest take.

        Raises:
            ValueError: if one of them is not in the query, or a calendar or `drop` left rows out of the grid.
        """
        found = {name: self.values.get(f"bars.{name}") for name in BAR_INPUTS}
        absent = [name for name, values in found.items() if values is None]
        if absent or self.query.calendar not in (None, ALWAYS_OPEN) or not self.is_kept.all():
            raise ValueError(
                f"expected the fields bars.open to bars.volume on the full grid, without calendar and drop; missing: "
                f"{absent}, calendar {self.query.calendar}, missing policy {self.query.missing}"
            )
        arrays = [values for values in found.values() if values is not None]
        return BarPanel(
            self.query.market,
            self.query.interval,
            self.origin,
            self.symbols,
            self.event_us.astype("datetime64[us]"),
            *arrays,
        )
