"""
The state beside living bars, without opening a table whose rows are in memory already.

The store stays the one truth: what is kept are the rows of its pieces, by the pieces' names, and which rows count at a
bar, and how they are joined, is decided by qraft_data.state each time. So an answer is the one of `read_state`, bit
for bit, with every row that is stored by then.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.kinds import KINDS, STATE_INPUTS
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Outcome
from qraft_data.reading import KnownColumns, earliest_event, known_columns
from qraft_data.state import StatePanel, StateRows, StateTable, joined, read_state, state_tables, stored_rows
from qraft_data.times import SECOND_US, BoolArray, FloatArray, Int64Array, instant_of, micros
from qraft_store.tables.port import PiecedTables, TableStore

# Rows that are kept of all tables together, 75 to 190 bytes each: 500 symbols at five minutes take 170,000 of them.
ROWS_MAX: Final = 500_000
# Corrections of bars this old are still answered from memory; older ones are read from the store.
_BEHIND_US: Final = 3_600 * SECOND_US
# A table that goes on after the bar, as in a replay, is kept so far ahead of it. A living one has no such rows.
_AHEAD_US: Final = 3_600 * SECOND_US
_ORIGINS: Final = tuple(Origin)
_NAMES: Final = ("symbol", "event_at", "known_at", "revision", "origin")


class LivingState:
    """
    The state of one market at one bar after the other.

    A bar costs a look at each table's mark and a join of its newest rows; a table with new rows, the pieces that hold
    them, unless `refresh` has read them meanwhile. What cannot be kept is read from the store: bars before those of the
    last hour, several bars at once, tables with row ids, windows beyond ROWS_MAX, and stores without pieces.
    """

    def __init__(self, tables: TableStore, market: str) -> None:
        self._tables, self._market = tables, market
        self._pieced = tables if isinstance(tables, PiecedTables) else None
        self._kept: dict[tuple[str, int | None], _Kept] = {}
        self._lock = threading.Lock()  # of a table's rows: a bar waits for one table that is being read, not for all

    @property
    def n_rows(self) -> int:
        """Return how many rows are kept."""
        return sum(kept.n_rows for kept in self._kept.values())

    def read(
        self, *, symbols: Sequence[str], at_us: Int64Array, as_of: datetime, skips_faults: bool = False
    ) -> StatePanel:
        """Return what read_state returns for the same times; with its errors."""
        store = self._pieced
        if at_us.size != 1 or not symbols or store is None:
            return read_state(
                self._tables, market=self._market, symbols=symbols, at_us=at_us, as_of=as_of,
                skips_faults=skips_faults,
            )  # fmt: skip
        tables = state_tables(self._market, STATE_INPUTS)
        panel = joined(
            tables,
            lambda table: self._rows(store, table, symbols, at_us, as_of),
            symbols=symbols,
            at_us=at_us,
            skips_faults=skips_faults,
        )
        return replace(panel, sources={table.source: "" for table in tables})

    def refresh(self) -> None:
        """
        Read what is new in the tables that are kept, between two bars. Blocks; may run beside `read`.

        A table that cannot be read is no longer kept: the next bar tells what is wrong with it.
        """
        store = self._pieced
        if store is None:
            return
        for table in state_tables(self._market, STATE_INPUTS):
            with self._lock, suppress(Outcome):
                kept = self._kept.get((table.source, table.age_s))
                mark = store.mark(table.kind, market=table.market)
                if kept is not None and kept.is_whole and kept.mark != mark:
                    self._keep(store, table, tuple(kept.codes), mark, kept.at_us)

    def _rows(
        self, store: PiecedTables, table: StateTable, symbols: Sequence[str], at_us: Int64Array, as_of: datetime
    ) -> StateRows:
        at, wanted = int(at_us[0]), table.symbols_of(symbols)
        start_us = micros(earliest_event(at, table.age_s))
        with self._lock:
            kept = self._kept_at(store, table, wanted, at, start_us)
            if kept is not None:
                return kept.known(wanted, start_us=start_us, end_us=at, as_of_us=micros(as_of))
        return stored_rows(store, table, symbols, at_us, as_of=as_of)

    def _kept_at(
        self, store: PiecedTables, table: StateTable, wanted: tuple[str, ...], at: int, start_us: int
    ) -> _Kept | None:
        """Return the rows of a table for a bar, None where the store is to be asked."""
        kept = self._kept.get((table.source, table.age_s))
        is_older = kept is not None and start_us < kept.start_us
        is_passed = kept is not None and not kept.is_whole and at <= kept.end_us
        if is_older or is_passed or KINDS[table.kind].has_row_id:
            return None
        mark = store.mark(table.kind, market=table.market)
        if kept is None or not kept.serves(mark, wanted, at):
            kept = self._keep(store, table, wanted, mark, at)
        return kept if kept.is_whole else None

    def _keep(self, store: PiecedTables, table: StateTable, wanted: tuple[str, ...], mark: str, at: int) -> _Kept:
        name = (table.source, table.age_s)
        # Taken out first: its rows are not counted twice, and a table that cannot be read is read anew once it can be.
        kept = _refreshed(store, table, self._kept.pop(name, None), wanted, mark, at)
        if self.n_rows + kept.n_rows > ROWS_MAX:
            kept = _Kept(mark, at, kept.start_us, kept.end_us, {}, is_whole=False)
        self._kept[name] = kept
        return kept


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a table, (n_rows,) each. code: of the symbol, as _Kept numbers it; origin: place in _ORIGINS."""

    known_us: Int64Array
    event_us: Int64Array
    code: Int64Array
    revision: npt.NDArray[np.int32]
    origin: npt.NDArray[np.int8]
    values: dict[str, FloatArray]

    def take(self, which: BoolArray | Int64Array) -> _Rows:
        """Return some of the rows, in memory of their own."""
        values = {name: column[which] for name, column in self.values.items()}
        return _Rows(
            self.known_us[which], self.event_us[which], self.code[which], self.revision[which], self.origin[which],
            values,
        )  # fmt: skip


class _Kept:
    """
    What is kept of one table: all rows with start_us < event_at <= end_us of some symbols, as the mark found them.

    at_us: the bar for which they were read. is_whole: False = too many to keep; there are none, and the store is asked
    until end_us.
    """

    def __init__(
        self, mark: str, at_us: int, start_us: int, end_us: int, codes: dict[str, int], *,
        pieces: Mapping[str, _Rows] | None = None, cut: frozenset[str] = frozenset(), is_whole: bool = True,
    ) -> None:  # fmt: skip
        self.mark, self.at_us, self.start_us, self.end_us, self.is_whole = mark, at_us, start_us, end_us, is_whole
        self.codes, self.pieces, self.cut = codes, pieces or {}, cut
        self.n_rows = sum(piece.known_us.size for piece in self.pieces.values())
        self._rows = _in_order(list(self.pieces.values())) if self.pieces else None
        self._numbers: tuple[tuple[str, ...], Int64Array] = ((), np.empty(0, np.int64))

    def serves(self, mark: str, wanted: tuple[str, ...], at_us: int) -> bool:
        """Return whether nothing has to be read for a bar; if so it is the one to keep rows for from now on."""
        is_known = wanted == self._numbers[0] or self.codes.keys() >= set(wanted)
        if not (self.is_whole and mark == self.mark and is_known and (at_us <= self.end_us or not self.cut)):
            return False
        self.at_us = max(self.at_us, at_us)
        if at_us > self.end_us:
            self.end_us = at_us + _AHEAD_US  # nothing is stored after the old end
        return True

    def known(self, wanted: tuple[str, ...], *, start_us: int, end_us: int, as_of_us: int) -> StateRows:
        """Return the rows of symbols with start < event_at <= end that are known by as_of, as stored_rows does."""
        rows = self._rows
        if rows is None:
            return StateRows(known_columns(_NO_ROWS, (), wanted), frozenset())
        number = self._number_of(wanted)[rows.code]
        is_in = (number >= 0) & (rows.event_us > start_us) & (rows.event_us <= end_us) & (rows.known_us <= as_of_us)
        if not is_in.all():
            rows, number = rows.take(is_in), number[is_in]
        origins = np.flatnonzero(np.bincount(rows.origin, minlength=len(_ORIGINS)))
        found = KnownColumns(rows.known_us, rows.event_us, number, rows.values)
        return StateRows(found, frozenset(_ORIGINS[i] for i in origins))

    def _number_of(self, wanted: tuple[str, ...]) -> Int64Array:
        """Return of each code the symbol's place among those wanted, -1 = not wanted."""
        if self._numbers[0] != wanted:
            number_of = np.full(len(self.codes), -1, np.int64)
            number_of[[self.codes[name] for name in wanted]] = np.arange(len(wanted))
            self._numbers = wanted, number_of
        return self._numbers[1]


_NO_ROWS: Final = pa.table(
    {"symbol": pa.array([], pa.string()), "event_at": pa.array([], pa.int64()), "known_at": pa.array([], pa.int64())}
)


def _refreshed(
    store: PiecedTables, table: StateTable, kept: _Kept | None, wanted: tuple[str, ...], mark: str, at_us: int
) -> _Kept:
    """Return what is to be kept for a bar, of which the rows that are kept already are not read again."""
    start_us = micros(earliest_event(at_us - _BEHIND_US, table.age_s))
    end_us, known = at_us + _AHEAD_US, dict[str, _Rows]()
    codes = {name: i for i, name in enumerate(wanted)}
    if kept is not None and kept.is_whole:
        start_us = max(start_us, kept.start_us)
        is_ahead = at_us + _AHEAD_US // 2 <= kept.end_us  # the rows of the next bar are not to lie beyond
        end_us = kept.end_us if is_ahead else end_us
        if kept.codes.keys() >= codes.keys():
            codes = kept.codes
            known = {name: rows for name, rows in kept.pieces.items() if is_ahead or name not in kept.cut}
        else:
            codes = {name: i for i, name in enumerate(dict.fromkeys((*kept.codes, *wanted)))}
    found = store.pieces(
        table.kind, market=table.market, symbols=tuple(codes), start=instant_of(start_us), end=instant_of(end_us),
        columns=(*_NAMES, *table.columns), known=known.keys(),
    )  # fmt: skip
    pieces = {name: _from(known[name], start_us) for name in found.names if name in known}
    pieces |= {name: _rows_of(rows, table.columns, codes) for name, rows in found.rows.items()}
    return _Kept(mark, at_us, start_us, end_us, codes, pieces=pieces, cut=found.cut)


def _from(rows: _Rows, start_us: int) -> _Rows:
    """Return a piece without rows that are too old, once they are half of it."""
    is_new = rows.event_us > start_us
    return rows if 2 * int(is_new.sum()) > is_new.size else rows.take(is_new)


def _rows_of(rows: pa.Table, columns: Sequence[str], codes: dict[str, int]) -> _Rows:
    """Return the rows of a piece as arrays of their own: those of Arrow would keep the whole file's in memory."""
    found = known_columns(rows, columns, tuple(codes))
    origin = rows["origin"].combine_chunks().dictionary_encode()
    origin_of = np.array([_ORIGINS.index(Origin(str(name))) for name in origin.dictionary.to_pylist()], np.int8)
    return _Rows(
        found.known_us.copy(),
        found.event_us.copy(),
        found.number,
        np.array(rows["revision"].to_numpy(), dtype=np.int32),
        origin_of[np.asarray(origin.indices)],
        {name: column.copy() for name, column in found.values.items()},
    )


def _in_order(pieces: Sequence[_Rows]) -> _Rows:
    """
    Return the rows of all pieces as they became known.

    Of rows that were known at one instant the later event counts, of one event the higher revision: where the store's
    order by symbol comes between, it is of rows that are never joined with each other.
    """
    ordered = sorted((it for it in pieces if it.known_us.size), key=lambda it: int(it.event_us[0])) or pieces[:1]
    whole = _Rows(
        np.concatenate([it.known_us for it in ordered]),
        np.concatenate([it.event_us for it in ordered]),
        np.concatenate([it.code for it in ordered]),
        np.concatenate([it.revision for it in ordered]),
        np.concatenate([it.origin for it in ordered]),
        {name: np.concatenate([it.values[name] for it in ordered]) for name in ordered[0].values},
    )
    # Pieces that follow each other are in the order of their events and revisions already, as each of them is.
    is_in_line = all(left.event_us[-1] < right.event_us[0] for left, right in pairwise(ordered) if right.event_us.size)
    if is_in_line:
        order = np.argsort(whole.known_us, kind="stable")
    else:
        order = np.lexsort((whole.revision, whole.event_us, whole.known_us))
    return whole if np.array_equal(order, np.arange(order.size)) else whole.take(order)
