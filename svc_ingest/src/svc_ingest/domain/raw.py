"""Bars as a source gives them: unchecked, in the source's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# Columns of RawRows.values.
VALUES: Final = ("open", "high", "low", "close", "volume")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# After everything that will be known: the end of the instants that a store takes.
EVER: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RawRows:
    """
    One symbol's rows in the order of the source, with whatever faults they have.

    closed_at: (n,), end of the bar in microseconds since 1970. values: (n, 5), columns VALUES, C order.
    """

    closed_at: Int64Array
    values: FloatArray


@dataclass(frozen=True, slots=True)
class RawChunk:
    """
    The rows of all symbols that a source read at once.

    Later chunks hold later bars, but for late rows and corrections. until: no bar up to here is still to come in
    order. known_at: when the rows were read from a living source, which may give rows that it gave before; None = a
    recorded source, which gives each row once, known when its bar closed.
    """

    rows: Mapping[str, RawRows]
    until: datetime
    known_at: datetime | None = None


def micros_of(instant: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_of(micros: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=int(micros))
