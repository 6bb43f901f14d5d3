"""What ClickHouse takes at once, and the instants that it can name: the same for bars and for tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_store.bars.rows import micros

# Beyond this a DateTime64 is no longer valid.
EARLIEST_US: Final = micros(datetime.fromisoformat("1900-01-01T00:00:00Z"))
LATEST_US: Final = micros(datetime.fromisoformat("2290-01-01T00:00:00Z"))
# An insert may make at most 100 partitions (max_partitions_per_insert_block); a partition is a month.
_MONTHS_PER_INSERT: Final = 90
# ClickHouse takes an insert of up to about this many rows as one block, whole or not at all.
_ROWS_PER_INSERT: Final = 1_000_000


def within_reach(instant_us: int) -> int:
    """Return the nearest instant that a DateTime64 can name."""
    return min(max(instant_us, EARLIEST_US), LATEST_US)


def blocks(rows: pa.Table, times_us: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Return rows, sorted by the months of their times, in parts that ClickHouse takes as one block each."""
    months = months_of(times_us)
    start = 0
    while start < rows.num_rows:
        stop = int(np.searchsorted(months, months[start] + _MONTHS_PER_INSERT, side="left"))
        stop = min(stop, start + _ROWS_PER_INSERT)
        yield rows.slice(start, stop - start)
        start = stop


def months_of(times_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the month of each instant, counted from 1970."""
    return times_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
