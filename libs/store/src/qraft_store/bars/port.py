"""What the services need of a bar store. Adapters: `lake.py` (Parquet), `memory.py`; every adapter passes one suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch

FloatArray = npt.NDArray[np.float64]

# first: revision 0, what was known first. latest: of each bar the highest revision known by `as_of`.
BarRevisions = Literal["first", "latest"]


@dataclass(frozen=True, slots=True)
class BarPanel:
    """
    Bars of several symbols on the full time grid between two instants.

    closed_at: (n_bars,) datetime64[us], every grid step of the range, strictly increasing. Value arrays:
    (n_bars, n_symbols), C order, NaN where a symbol has no bar. origin: the worst of all rows that are in the panel.
    """

    market: str
    interval: str
    origin: Origin
    symbols: tuple[str, ...]
    closed_at: npt.NDArray[np.datetime64]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray


class BarStore(Protocol):
    """Append-only bars. A row is named by (market, interval, symbol, closed_at, revision)."""

    def append(self, batches: Sequence[BarBatch]) -> int:
        """
        Store batches and return how many rows were new. Rows stored before are skipped when equal.

        Batches need increasing closed_at within a call and, for revision 0, not before the stored end. A batch with
        a refused row is refused whole.

        Raises:
            ValueError: if a stored row comes again with other values under the same revision, a revision above 0
                names a bar after the stored end, or a batch was known before its bar ended.
        """
        ...

    def read(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """
        Return the bars with start < closed_at <= end and known_at <= as_of (None = end).

        symbols None = every symbol with such a bar, sorted; given ones are returned as asked for. None is returned
        when there is no such bar. A bar whose revision 0 was never stored (it came late) is read by "latest" only.

        Raises:
            ValueError: if a symbol is asked for twice, or the range is too large for one panel.
        """
        ...

    def last(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        n: int,
        as_of: datetime,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """
        Return the n grid steps that end with the newest bar of these symbols with known_at <= as_of, as `read` would.

        The steps are of the grid, so a session's closed hours count. None is returned when nothing was known.

        Raises:
            ValueError: if n is not positive, or as `read`.
        """
        ...

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        ...

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the markets that have rows of an interval, sorted."""
        ...

    def symbols(self, *, market: str, interval: str) -> tuple[str, ...]:
        """Return the symbols stored, in any revision, sorted."""
        ...

    def version(self, *, market: str, interval: str) -> str:
        """
        Return the SHA-256 that names the stored rows; it changes with every row stored and with nothing else.

        Equal rows give equal versions in every adapter, however and in what order they were stored.
        """
        ...

    def rows(
        self,
        *,
        market: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> Iterator[pa.Table]:
        """
        Give every stored revision as plain rows (bars.rows.ROW_SCHEMA).

        start < closed_at <= end and known_at <= as_of, None = without a limit. Oldest first, a day, month or year of
        closed_at at a time, each table sorted by closed_at, symbol and revision; no table is empty.
        """
        ...

    def append_rows(self, rows: pa.Table, *, market: str, interval: str) -> int:
        """
        Store plain rows as `rows` gave them, of one call or several, oldest first; return how many were new.

        What is stored must be equal in everything, known_at and origin too. Unlike in `append` a revision may come
        before, or without, the first row of its bar; revision 0 never goes back here either.

        Raises:
            ValueError: if a row is not what the store would give, comes with other values than the stored ones, or is
                a new row of revision 0 before the stored end.
            Transient: if another process writes the series, or the disk is full.
        """
        ...
