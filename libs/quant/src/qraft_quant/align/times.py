"""Times as the aligner takes them: int64 microseconds since 1970, ascending."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

MicrosArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Until the year 2262 nanoseconds fit into 64 bits, so times in them pass for microseconds of the far future.
MICROS_MAX = 4_102_444_800_000_000  # 2100-01-01


def micros(times: npt.NDArray[Any], name: str) -> MicrosArray:
    """
    Return times as int64 microseconds; int64 and datetime64[us] in C order are not copied.

    Args:
        times: (n,), int64 microseconds since 1970 or datetime64 of any unit.
        name: said in errors.

    Raises:
        ValueError: if they are of another type or shape, hold NaT, or lie outside 1970..2100, as seconds, milliseconds
            or nanoseconds taken for microseconds mostly do.
    """
    if times.ndim != 1:
        raise ValueError(f"{name}: expected times of shape (n,), received {times.shape}")
    if np.issubdtype(times.dtype, np.datetime64):
        if np.isnat(times).any():
            raise ValueError(
                f"{name}: expected a time in every row, received NaT in row {int(np.isnat(times).argmax())}"
            )
        times = times.astype("datetime64[us]", copy=False).view(np.int64)
    if times.dtype != np.int64:
        raise ValueError(f"{name}: expected int64 microseconds or datetime64, received {times.dtype}")
    found: MicrosArray = np.ascontiguousarray(times)
    if found.size:
        low, high = int(found.min()), int(found.max())
        if low < 0 or high > MICROS_MAX:
            raise ValueError(
                f"{name}: expected microseconds between 1970 and 2100 (0..{MICROS_MAX}), received {low}..{high}: "
                "are they in another unit?"
            )
    return found


def ascending_micros(times: npt.NDArray[Any], name: str, *, strictly: bool = False) -> MicrosArray:
    """
    Return times as `micros` does, checked to be ascending.

    Raises:
        ValueError: as micros, and where a time is earlier than the one before it (strictly: or equal to it).
    """
    found = micros(times, name)
    require_ascending(found, name, strictly=strictly)
    return found


def require_ascending(times: MicrosArray, name: str, *, strictly: bool = False) -> None:
    """
    Check that times ascend.

    Raises:
        ValueError: with the first row that does not.
    """
    row = int(_first_descent(times, 1 if strictly else 0))
    if row >= 0:
        raise descent(times, name, row, strictly=strictly)


def descent(times: MicrosArray, name: str, row: int, *, strictly: bool = False) -> ValueError:
    """Return the error that says where times do not ascend."""
    order = "strictly ascending" if strictly else "ascending"
    return ValueError(
        f"{name}: expected {order} times, received {times[row]} in row {row} after {times[row - 1]}: sort the rows by "
        f"{name} first{' and keep one row a time' if strictly else ''}"
    )


@njit(nogil=True, cache=True)
def _first_descent(times: MicrosArray, step: int) -> int:
    """Return the first row earlier than the row before it plus step, -1 if there is none."""
    for i in range(1, times.size):
        if times[i] < times[i - 1] + step:
            return i
    return -1
