"""
How a series is divided into partitions, each one folder: a UTC day of bars shorter than an hour, a month from one hour
on, a year of daily bars. So a partition holds hundreds of bars whatever their length, and a file is worth opening.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS

Int64Array = npt.NDArray[np.int64]
Unit = Literal["D", "M", "Y"]

_PREFIX: Final[dict[Unit, str]] = {"D": "date=", "M": "month=", "Y": "year="}


@dataclass(frozen=True, slots=True)
class Partition:
    """
    The bars with start_us <= closed_at < end_us, in microseconds since 1970: midnight belongs to the new day.

    ordinal: counts partitions since 1970, so that neighbors differ by one. n_rows: grid steps; row 0 ends at start_us.
    """

    name: str
    ordinal: int
    start_us: int
    end_us: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class Division:
    """The partitions of one interval."""

    interval: str

    @property
    def step_us(self) -> int:
        """Return the length of a bar in microseconds."""
        return INTERVAL_SECONDS[self.interval] * 1_000_000

    @property
    def unit(self) -> Unit:
        """Return what a partition is: D, M or Y, as numpy writes it."""
        seconds = INTERVAL_SECONDS[self.interval]
        return "D" if seconds < 3_600 else "M" if seconds < 86_400 else "Y"

    def ordinals(self, closed_us: Int64Array) -> Int64Array:
        """Return each instant's partition by its ordinal."""
        return closed_us.astype("datetime64[us]").astype(f"datetime64[{self.unit}]").astype(np.int64)

    def partition(self, ordinal: int) -> Partition:
        """Return a partition by its ordinal."""
        return _partition(self.unit, self.step_us, ordinal)

    def of(self, closed_us: int) -> Partition:
        """Return the partition of one instant."""
        return self.partition(int(self.ordinals(np.array([closed_us], dtype=np.int64))[0]))

    def named(self, names: Iterable[str]) -> list[Partition]:
        """
        Return the partitions of these folder names, oldest first; names of other things are passed over.

        Raises:
            Malformed: if a folder is a partition of another kind or no date: an older writer's, or a stranger's.
        """
        found = []
        for name in names:
            if not name.startswith(tuple(_PREFIX.values())):
                continue
            try:
                ordinal = int(np.datetime64(name.removeprefix(_PREFIX[self.unit]), self.unit).astype(np.int64))
            except ValueError as error:
                raise _strange(name, self) from error
            if self.partition(ordinal).name != name:
                raise _strange(name, self)
            found.append(self.partition(ordinal))
        return sorted(found, key=lambda partition: partition.ordinal)


def _strange(name: str, division: Division) -> Malformed:
    expected = _partition(division.unit, division.step_us, 20_000 if division.unit == "D" else 600).name
    bars = f"bars of {division.interval}"
    return Malformed(
        "bad_partition", f"expected folders such as {expected} for {bars}, found {name}: move it away and load again"
    )


@lru_cache(maxsize=4_096)  # ten years of days
def _partition(unit: Unit, step_us: int, ordinal: int) -> Partition:
    start = np.datetime64(ordinal, unit)
    start_us, end_us = (int(at.astype("datetime64[us]").astype(np.int64)) for at in (start, start + 1))
    return Partition(f"{_PREFIX[unit]}{start}", ordinal, start_us, end_us, (end_us - start_us) // step_us)
