"""
Dense cells of bars, symbol by symbol: what the column files hold, what the hot window keeps, what panels are made of.

A cell has six fields of eight bytes: the five values, then one word that says when the bar's revision 0 was known and
where it came from. Word 0 = there is no bar; the values of such a cell are NaN.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_store.bars.rows import (
    VALUES,
    Int64Array,
    closed_micros,
    encode_texts,
    floats_of,
    is_first_revision,
    known_micros,
)

FloatArray = npt.NDArray[np.float64]

N_FIELDS: Final = len(VALUES) + 1
WORD: Final = len(VALUES)
CELL_BYTES: Final = 8 * N_FIELDS
ORIGINS: Final = (Origin.REAL, Origin.REPLAY, Origin.SIMULATED)  # best first; a word holds the place + 1


def words_of(cells: FloatArray) -> Int64Array:
    """Return the words of cells (..., n_fields, n_rows) as a view (..., n_rows)."""
    return cells[..., WORD, :].view(np.int64)


def word_limit(as_of_us: int) -> int:
    """Return the largest word of a bar known by an instant."""
    return as_of_us << 2 | 3


def known_us_of(word: int) -> int:
    """Return the known_at in a word."""
    return word >> 2


def empty_cells(n_symbols: int, n_rows: int) -> FloatArray:
    """Return cells (n_symbols, N_FIELDS, n_rows) without a bar."""
    cells = np.full((n_symbols, N_FIELDS, n_rows), np.nan)
    words_of(cells)[...] = 0
    return cells


def fill_cells(cells: FloatArray, table: pa.Table, places: Int64Array, *, first_us: int, step_us: int) -> None:
    """
    Write a table's rows of revision 0 into cells (n_symbols, N_FIELDS, n_rows) whose row 0 ends at first_us.

    places: of each row of the table, its symbol's place.
    """
    is_first = is_first_revision(table)
    rows, at = (closed_micros(table)[is_first] - first_us) // step_us, places[is_first]
    for field, name in enumerate(VALUES):
        cells[at, field, rows] = floats_of(table, name)[is_first]
    words_of(cells)[at, rows] = table_words(table)[is_first]


def table_words(table: pa.Table) -> Int64Array:
    """Return each row's word."""
    names, codes = encode_texts(table["origin"])
    ranks = np.array([ORIGINS.index(Origin(name)) + 1 for name in names], dtype=np.int64)
    return known_micros(table) << 2 | ranks[codes]


def cells_of(table: pa.Table, symbols: tuple[str, ...], *, first_us: int, n_rows: int, step_us: int) -> FloatArray:
    """Return a table's rows of revision 0 as cells (n_symbols, N_FIELDS, n_rows)."""
    names, codes = encode_texts(table["symbol"])
    place = {name: i for i, name in enumerate(symbols)}
    cells = empty_cells(len(symbols), n_rows)
    places = np.array([place[name] for name in names], dtype=np.int64)[codes]
    fill_cells(cells, table, places, first_us=first_us, step_us=step_us)
    return cells
