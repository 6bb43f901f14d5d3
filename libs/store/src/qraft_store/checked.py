"""What a check of every file of a lake found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Finding:
    """A file, and what is wrong with it."""

    path: Path
    what: str


@dataclass(slots=True)
class Checked:
    """
    damages: files whose rows cannot be trusted or read. notes: what a killed process left and the next writer mends;
    no row is missing for it.
    """

    n_files: int = 0
    n_rows: int = 0
    n_bytes: int = 0
    damages: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def add(self, other: Checked) -> None:
        """Take another check's findings in."""
        self.n_files += other.n_files
        self.n_rows += other.n_rows
        self.n_bytes += other.n_bytes
        self.damages += other.damages
        self.notes += other.notes


def bounds_fault(path: Path, column: str, times_us: npt.NDArray[np.int64]) -> str:
    """
    Return where a Parquet file bounds a row group's times too narrowly, so that reads would pass over it.

    "" = nowhere. times_us: of all of its rows, in order.
    """
    metadata = pq.read_metadata(path)
    first = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        times = times_us[first : first + group.num_rows]
        first += group.num_rows
        place = next(j for j in range(group.num_columns) if group.column(j).path_in_schema == column)
        said: Any = group.column(place).statistics
        if said is None or said.min is None or not times.size:
            continue
        low, high = (int(pa.scalar(value).cast(pa.int64()).as_py()) for value in (said.min, said.max))
        if low > times.min() or high < times.max():
            return f"its row group {i} says that its times are others"
    return ""
