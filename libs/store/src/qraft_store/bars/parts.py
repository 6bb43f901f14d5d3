"""What a partition gives to a read: its column file, its Parquet file, its tail. Each can say who is in it and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from qraft_store.bars.columns import ColumnsHeader, read_cells
from qraft_store.bars.days import damaged, release_decoded
from qraft_store.bars.hot import HotTail, newest_row
from qraft_store.bars.panel import PanelDraft
from qraft_store.bars.partitions import Partition
from qraft_store.bars.rows import ROW_SCHEMA, closed_micros, encode_texts, is_first_revision
from qraft_store.bars.series import Series
from qraft_store.bars.slab import CELL_BYTES, N_FIELDS, word_limit, words_of

_KEYS: Final = ["symbol", "closed_at", "known_at", "revision"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose bars are looked for and what may be known. symbols None = everyone's."""

    symbols: frozenset[str] | None
    as_of_us: int
    is_latest: bool


class Part(Protocol):
    """Rows of one partition."""

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all rows, whenever known."""
        ...

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last closed_at of revision 0."""
        ...

    def newest(self, wanted: Wanted) -> int | None:
        """Return the closed_at of the newest wanted bar."""
        ...

    def add_to(self, draft: PanelDraft) -> None:
        """Add the rows to a panel."""
        ...


@dataclass(frozen=True, slots=True)
class TailPart:
    """The hot window of the partition that grows."""

    tail: HotTail
    extent: tuple[int, int]  # of the tail when this read began

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all rows, whenever known."""
        return self.tail.symbols()

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last closed_at of revision 0."""
        return self.tail.bounds()

    def newest(self, wanted: Wanted) -> int | None:
        """Return the closed_at of the newest wanted bar."""
        return self.tail.newest(wanted.symbols, wanted.as_of_us, is_latest=wanted.is_latest)

    def add_to(self, draft: PanelDraft) -> None:
        """Add the rows to a panel."""
        self.tail.add_to(draft, self.extent)


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows that are decoded at every read: of a Parquet file, or `rows`, a tail that no window is kept of."""

    series: Series
    partition: Partition
    rows: pa.Table | None = None

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all rows, whenever known."""
        return tuple(encode_texts(self._read(["symbol"])["symbol"])[0])

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last closed_at of revision 0."""
        rows = self._read(["closed_at", "revision"])
        closed_at = closed_micros(rows)[is_first_revision(rows)]
        return (int(closed_at.min()), int(closed_at.max())) if closed_at.size else None

    def newest(self, wanted: Wanted) -> int | None:
        """Return the closed_at of the newest wanted bar."""
        rows = self._read(_KEYS)
        if not wanted.is_latest:
            rows = rows.filter(pa.array(is_first_revision(rows)))
        return newest_row(rows, wanted.symbols, wanted.as_of_us)

    def add_to(self, draft: PanelDraft) -> None:
        """Add the rows to a panel."""
        draft.add_rows(self._read(span_us=draft.span_us))
        release_decoded()

    def _read(self, columns: Sequence[str] = ROW_SCHEMA.names, *, span_us: tuple[int, int] | None = None) -> pa.Table:
        if self.rows is not None:
            return self.rows.select(columns)
        rows = self.series.read_closed(self.partition, columns, span_us=span_us)
        if rows is None:
            raise damaged(self.series.folder(self.partition), "it was removed while it was read")
        return rows


@dataclass(frozen=True, slots=True)
class ColumnsPart:
    """A column file that was found to be of the partition's Parquet file."""

    path: str
    header: ColumnsHeader
    otherwise: TablePart  # when it turns out to be damaged, or is replaced in the middle of a read

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all rows, whenever known."""
        return self.header.symbols

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last closed_at of revision 0."""
        first, last = self.header.first_row, int(self.header.last_rows.max(initial=-1))
        return None if last < 0 else (self._closed_us(first), self._closed_us(last))

    def newest(self, wanted: Wanted) -> int | None:
        """Return the closed_at of the newest wanted bar."""
        places = [i for i, name in enumerate(self.header.symbols) if wanted.symbols is None or name in wanted.symbols]
        if not places:
            return None
        if self.header.known_us_max <= wanted.as_of_us:
            last = int(self.header.last_rows[places].max())
        else:
            cells = np.empty((len(places), N_FIELDS, self.header.n_rows))
            if not read_cells(self.path, self.header, places, cells):
                return self.otherwise.newest(wanted)
            words = words_of(cells)
            is_known = ((words != 0) & (words <= word_limit(wanted.as_of_us))).any(axis=0)
            last = int(np.flatnonzero(is_known)[-1]) if is_known.any() else -1
        return None if last < 0 else self._closed_us(last)

    def add_to(self, draft: PanelDraft) -> None:
        """Add the rows to a panel."""
        add_run([self], draft)

    def _closed_us(self, row: int) -> int:
        return self.otherwise.partition.start_us + row * self.otherwise.series.division.step_us

    def n_bytes(self, draft: PanelDraft) -> int:
        """Return how many bytes of cells a panel takes from here, at most."""
        return min(len(self.header.symbols), len(draft.symbols)) * self.header.n_rows * CELL_BYTES


def add_run(parts: list[ColumnsPart], draft: PanelDraft) -> None:
    """
    Add partitions of the same symbols that follow one another, in one go.

    Several of them must lie in the panel with all of their rows.
    """
    header = parts[0].header
    if header.symbols == draft.symbols:
        places, symbols = None, list(header.symbols)
    else:
        places = [i for i, name in enumerate(header.symbols) if name in draft.place]
        symbols = [header.symbols[i] for i in places]
    if not symbols:
        return
    cells = np.empty((len(parts), len(symbols), N_FIELDS, header.n_rows))
    for part, of_part in zip(parts, cells, strict=True):
        if not read_cells(part.path, part.header, places, of_part):
            of_part.fill(np.nan)
            words_of(of_part)[...] = 0
            part.otherwise.add_to(draft)
    draft.add_cells(symbols, cells, first_us=parts[0].otherwise.partition.start_us)
