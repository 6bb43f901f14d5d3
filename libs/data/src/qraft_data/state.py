"""
The state of a market beside its bars: funding, open interest, basis and the rest of STATE_INPUTS, as known at each bar.

One function for the live message, the warm-up, training and backtests, so that they agree bit for bit. What makes them
agree over time is the store's rule that a row which came too late carries a later `known_at`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np

from qraft_contracts.kinds import STATE_INPUTS, StateInput, stale_after_s
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_data.reading import KnownColumns, as_of_values, earliest_event, known_columns, known_rows, origins_of
from qraft_data.times import FloatArray, Int64Array, instant_of
from qraft_store.bars.port import BarPanel
from qraft_store.tables.port import TableStore

# Cells (rows x symbols) that are joined at once: 24 bytes each while they are.
_CELLS_MAX: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class StatePanel:
    """
    State of several symbols at several times.

    values: (n_rows, n_symbols) by name of STATE_INPUTS, NaN = nothing known; a name without a single known value is
    absent. origins: of the rows that were read. sources: `tables/<kind>/<market>` → its version, "" where none was
    asked for. faults: sources that could not be read → why; always empty unless the caller asked to go on without.
    """

    values: dict[str, FloatArray] = field(default_factory=dict)
    origins: frozenset[Origin] = frozenset()
    sources: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateTable:
    """
    The inputs of one age that one table gives, of each symbol its own rows or of one series for all symbols.

    age_s: after so many seconds a value is stale; monthly series of a table stand longer than its daily ones.
    """

    kind: str
    market: str
    has_series: bool
    age_s: int | None
    inputs: dict[str, StateInput] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Return how the table is named beside the others that are read."""
        return f"tables/{self.kind}/{self.market}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the fields that the inputs are."""
        return tuple(dict.fromkeys(it.field for it in self.inputs.values()))

    def symbols_of(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return whose rows are read for some symbols."""
        series = tuple(dict.fromkeys(it.symbol for it in self.inputs.values() if it.symbol is not None))
        return series if self.has_series else tuple(symbols)


@dataclass(frozen=True, slots=True)
class StateRows:
    """Rows of a table as they became known, numbered as StateTable.symbols_of names them; origins: theirs."""

    columns: KnownColumns
    origins: frozenset[Origin]


def read_state(
    tables: TableStore,
    *,
    market: str,
    symbols: Sequence[str],
    at_us: Int64Array,
    as_of: datetime,
    has_versions: bool = False,
    names: Collection[str] | None = None,
    skips_faults: bool = False,
) -> StatePanel:
    """
    Return the state known at each time: the newest event with known_at <= the time, not staler than its kind allows.

    The value of a row uses rows known at its own time only, whatever else stands in the store. For the inputs of the
    feature engine take `state_of_bars`: it also leaves out what the live line leaves out.

    Args:
        market: whose tables; inputs that name a market of their own come from there. "" = no state at all.
        at_us: (n_rows,) microseconds since 1970, strictly increasing.
        as_of: nothing known later is seen.
        has_versions: note the version of each source, taken before it is read, for a manifest.
        names: of STATE_INPUTS; None = all.
        skips_faults: a table that is damaged or of another origin class is named in `faults` and its inputs are absent.

    Raises:
        Malformed: if a table is damaged, or holds simulated rows; state is of a market. Not with skips_faults.
    """
    sources: dict[str, str] = {}

    def read(table: StateTable) -> StateRows:
        if table.source not in sources:
            sources[table.source] = tables.version(table.kind, market=table.market) if has_versions else ""
        return stored_rows(tables, table, symbols, at_us, as_of=as_of)

    wanted = state_tables(market, STATE_INPUTS if names is None else names)
    panel = joined(wanted, read, symbols=symbols, at_us=at_us, skips_faults=skips_faults)
    return replace(panel, sources=sources)


def joined(
    tables: Iterable[StateTable],
    read: Callable[[StateTable], StateRows],
    *,
    symbols: Sequence[str],
    at_us: Int64Array,
    skips_faults: bool,
) -> StatePanel:
    """Return the state of some tables, as read_state does. read: gives all rows that may count at these times."""
    values: dict[str, FloatArray] = {}
    origins: set[Origin] = set()
    faults: dict[str, str] = {}
    for table in tables if at_us.size and symbols else ():
        try:
            rows = read(table)
            values |= state_values(table, rows, symbols, at_us)
        except Malformed as error:
            if not skips_faults:
                raise
            faults[table.source] = error.detail or error.reason
            continue
        origins |= rows.origins
    ordered = {name: values[name] for name in STATE_INPUTS if name in values}
    return StatePanel(ordered, frozenset(origins), faults=faults)


def state_of_bars(
    tables: TableStore,
    bars: BarPanel,
    *,
    market: str,
    as_of: datetime | None = None,
    has_versions: bool = False,
    names: Collection[str] | None = None,
    skips_faults: bool = False,
) -> StatePanel:
    """
    Return the state of a panel's rows as the live line gives it to the feature engine.

    A symbol without a bar in a row has no state in it, since no message told of it. Simulated bars have none at all:
    the state of a real market is never mixed with them.

    Args:
        as_of: None = the end of the last bar; names, has_versions, skips_faults: as in read_state, with its errors.
    """
    if bars.origin is Origin.SIMULATED or not bars.closed_at.size:
        return StatePanel()
    at_us = bars.closed_at.astype("datetime64[us]").astype(np.int64)
    limit = instant_of(int(at_us[-1])) if as_of is None else as_of
    panel = read_state(
        tables, market=market, symbols=bars.symbols, at_us=at_us, as_of=limit, has_versions=has_versions, names=names,
        skips_faults=skips_faults,
    )  # fmt: skip
    has_bar = ~np.isnan(bars.close)
    values = {name: np.where(has_bar, column, np.nan) for name, column in panel.values.items()}
    return StatePanel(values, panel.origins, panel.sources, panel.faults)


def state_tables(market: str, names: Collection[str]) -> list[StateTable]:
    """Return the tables that give some inputs; those of one table and age are read and joined together."""
    found: dict[tuple[str, str, bool, int | None], StateTable] = {}
    for name in names if market else ():
        given = STATE_INPUTS[name]
        age_s = stale_after_s(given.kind, given.symbol or "")
        table = StateTable(given.kind, given.market or market, given.symbol is not None, age_s)
        found.setdefault((table.kind, table.market, table.has_series, age_s), table).inputs[name] = given
    return list(found.values())


def stored_rows(
    tables: TableStore, table: StateTable, symbols: Sequence[str], at_us: Int64Array, *, as_of: datetime
) -> StateRows:
    """Return the rows that may be the state of a table at some times, out of the store."""
    wanted, columns = table.symbols_of(symbols), table.columns
    rows = known_rows(
        tables, table.kind, table.market, wanted, start=earliest_event(int(at_us[0]), table.age_s),
        end=instant_of(int(at_us[-1])), as_of=as_of, columns=columns,
    )  # fmt: skip
    return StateRows(known_columns(rows, columns, wanted), frozenset(origins_of(rows)))


def state_values(
    table: StateTable, rows: StateRows, symbols: Sequence[str], at_us: Int64Array
) -> dict[str, FloatArray]:
    """
    Return the inputs of a table at some times, (n_rows, n_symbols) each; one without a known value is absent.

    Raises:
        Malformed: if some rows are simulated; state is of a market.
    """
    if Origin.SIMULATED in rows.origins:
        raise Malformed("origin_conflict", f"expected rows of a market in {table.source}, found simulated ones")
    if not rows.columns.known_us.size:
        return {}
    wanted = table.symbols_of(symbols)
    step = max(1, _CELLS_MAX // len(wanted))
    parts = [
        as_of_values(rows.columns, len(wanted), at_us[first : first + step], max_age_s=table.age_s)
        for first in range(0, at_us.size, step)
    ]
    found = {}
    for name, given in table.inputs.items():
        values = parts[0][given.field] if len(parts) == 1 else np.concatenate([part[given.field] for part in parts])
        if given.symbol is not None:
            one = values[:, wanted.index(given.symbol)]
            values = np.repeat(one[:, None], len(symbols), axis=1)
        if np.isfinite(values).any():
            found[name] = values
    return found
