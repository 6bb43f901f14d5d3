"""What the services need of a bar store. Adapters: `lake.py` (Parquet), `memory.py`; ClickHouse comes with the data
issue and passes the same suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BarPanel:
    """
    Bars of several symbols on the full time grid between two instants.

    closed_at: (n_bars,) datetime64[us], every grid step of the range, strictly increasing. Value arrays:
    (n_bars, n_symbols), NaN where a symbol has no bar. origin: the worst of all rows.
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

        Batches need increasing closed_at within a call and, for revision 0, not before the stored end.

        Raises:
            ValueError: if a stored row comes again with other values under the same revision, or a revision above 0
                names a bar after the stored end.
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
    ) -> BarPanel | None:
        """
        Return the bars with start < closed_at <= end, first revisions only, known by `as_of` (None = end).

        symbols None = every symbol seen in the range, sorted. None is returned when the range holds no row.
        """
        ...

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at, or None when empty."""
        ...
