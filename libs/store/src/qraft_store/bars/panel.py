"""Make a panel out of what the partitions of a range hold: dense cells, or rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.rows import VALUES, Int64Array, closed_micros, encode_texts, floats_of
from qraft_store.bars.slab import ORIGINS, FloatArray, table_words, word_limit, words_of

# 100 million cells are 4 GB of panel: ten years of 1-minute bars of 19 symbols. More is a wrong start instant.
MAX_PANEL_CELLS: Final = 100_000_000


class PanelDraft:
    """
    A panel that fills up. Parts may come in any order, and a row may stand in several of them.

    first_us: closed_at of row 0. symbols: the columns; place: where each stands. as_of_us: later rows do not exist.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        first_us: int,
        n_bars: int,
        step_us: int,
        as_of_us: int,
        revisions: BarRevisions,
    ) -> None:
        if n_bars * len(symbols) > MAX_PANEL_CELLS:
            raise ValueError(f"expected at most {MAX_PANEL_CELLS} cells, asked for {n_bars} bars × {len(symbols)}")
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"expected each symbol once, received {list(symbols)}")
        self.symbols = tuple(symbols)
        self.revisions = revisions
        self._first_us, self._step_us, self._limit = first_us, step_us, word_limit(as_of_us)
        self.place = {name: i for i, name in enumerate(symbols)}
        shape = (n_bars, len(symbols))
        self._grids = [np.full(shape, np.nan) for _ in VALUES]
        self._is_seen = np.zeros(len(symbols), dtype=bool)
        self._rank = 0
        # Of each cell the revision that it shows and its origin; the first revisions need neither.
        self._shown = np.full(shape, -1, dtype=np.int32) if revisions == "latest" else None
        self._ranks = np.zeros(shape, dtype=np.int8) if revisions == "latest" else None

    @property
    def span_us(self) -> tuple[int, int]:
        """Return the first and the last closed_at of the panel."""
        return self._first_us, self._first_us + (len(self._grids[0]) - 1) * self._step_us

    def add_cells(self, symbols: Sequence[str], cells: FloatArray, *, first_us: int) -> None:
        """
        Add bars of revision 0.

        cells: (n_partitions, n_symbols, N_FIELDS, n_rows), the partitions one after another in time; all of their rows
        lie in the panel unless there is one partition only. first_us: closed_at of the first row.
        """
        at = (first_us - self._first_us) // self._step_us
        n_rows = cells.shape[3]
        low, high = max(0, -at), min(n_rows, len(self._grids[0]) - at)
        if cells.shape[0] == 1:
            if low >= high:
                return
            cells, at, n_rows = cells[..., low:high], at + low, high - low
        words = words_of(cells)
        is_wanted = (words != 0) & (words <= self._limit)
        columns = [self.place[name] for name in symbols]
        stop = at + cells.shape[0] * n_rows
        if self._shown is not None and self._ranks is not None:
            self._add_below(cells, words, is_wanted, columns, at)
            return
        self._is_seen[columns] |= is_wanted.any(axis=(0, 2))
        is_all = bool(is_wanted.all())
        self._rank = max(self._rank, int(np.max(words & 3, where=is_wanted, initial=0)))
        is_straight = columns == list(range(len(self.symbols)))
        for field, grid in enumerate(self._grids):
            rows = grid[at:stop].reshape(cells.shape[0], n_rows, -1)
            if not is_straight:
                rows = rows[:, :, columns]
            values = cells[:, :, field, :].transpose(0, 2, 1)
            if is_all:
                rows[...] = values
            else:
                np.copyto(rows, values, where=is_wanted.transpose(0, 2, 1))
            if not is_straight:
                grid[at:stop, columns] = rows.reshape(stop - at, -1)

    def _add_below(
        self, cells: FloatArray, words: Int64Array, is_wanted: npt.NDArray[np.bool_], columns: list[int], at: int
    ) -> None:
        """Add bars of revision 0 where no higher one is shown."""
        partition, symbol, row = np.nonzero(is_wanted)
        self._show(
            at + partition * cells.shape[3] + row,
            np.array(columns, dtype=np.int64)[symbol],
            np.zeros(len(row), dtype=np.int32),
            words[partition, symbol, row],
            [cells[partition, symbol, field, row] for field in range(len(VALUES))],
        )

    def add_rows(self, table: pa.Table) -> None:
        """Add a table's rows; those of other symbols and outside the panel are passed over."""
        names, codes = encode_texts(table["symbol"])
        column = np.array([self.place.get(name, -1) for name in names], dtype=np.int64)[codes]
        row = (closed_micros(table) - self._first_us) // self._step_us
        words, revision = table_words(table), np.asarray(table["revision"])
        is_wanted = (column >= 0) & (row >= 0) & (row < len(self._grids[0])) & (words <= self._limit)
        if self.revisions == "first":
            is_wanted &= revision == 0
        chosen = np.flatnonzero(is_wanted)
        chosen = chosen[np.argsort(revision[chosen], kind="stable")]
        values = [floats_of(table, name)[chosen] for name in VALUES]
        self._show(row[chosen], column[chosen], revision[chosen], words[chosen], values)

    def _show(
        self,
        row: Int64Array,
        column: Int64Array,
        revision: npt.NDArray[np.int32],
        words: Int64Array,
        values: list[FloatArray],
    ) -> None:
        """Write rows into the grids, lowest revision first: numpy keeps the last of what goes to one cell."""
        if self._shown is not None and self._ranks is not None:
            is_newer = revision >= self._shown[row, column]
            row, column, revision, words = row[is_newer], column[is_newer], revision[is_newer], words[is_newer]
            values = [of_field[is_newer] for of_field in values]
            self._shown[row, column] = revision
            self._ranks[row, column] = words & 3
        self._is_seen[column] = True
        self._rank = max(self._rank, int((words & 3).max(initial=0)))
        for grid, of_field in zip(self._grids, values, strict=True):
            grid[row, column] = of_field

    def panel(self, *, market: str, interval: str, keeps_empty: bool) -> BarPanel | None:
        """Return the panel, or None without a bar. keeps_empty: whether symbols without one keep their column."""
        if not self._is_seen.any():
            return None
        symbols = self.symbols
        if not keeps_empty and not self._is_seen.all():
            symbols = tuple(name for name, is_seen in zip(symbols, self._is_seen, strict=True) if is_seen)
            for i in range(len(self._grids)):  # one by one: two copies of one value, never of all
                self._grids[i] = np.ascontiguousarray(self._grids[i][:, self._is_seen])
        rank = self._rank if self._ranks is None else int(self._ranks.max())
        n_bars = len(self._grids[0])
        closed_at = (self._first_us + np.arange(n_bars, dtype=np.int64) * self._step_us).astype("datetime64[us]")
        return BarPanel(market, interval, ORIGINS[rank - 1], symbols, closed_at, *self._grids)
