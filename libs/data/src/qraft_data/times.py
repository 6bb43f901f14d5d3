"""Instants as int64 microseconds since 1970 UTC, the form in which this package computes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

UTC_MICROS: Final = pa.timestamp("us", tz="UTC")
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def micros(instant: datetime) -> int:
    """
    Return microseconds since 1970; exact, unlike datetime.timestamp.

    Raises:
        ValueError: if the instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError(f"expected an instant with a time zone, received the naive {instant.isoformat()}")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_of(micros_: int) -> datetime:
    """Return the UTC instant of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=int(micros_))


def micros_column(table: pa.Table, name: str) -> Int64Array:
    """Return a timestamp column without nulls as microseconds."""
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64)


def float_column(table: pa.Table, name: str) -> FloatArray:
    """Return a numeric or bool column as float64, NaN where it is null."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
