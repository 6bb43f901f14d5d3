"""
As-of join: for each row on the left the newest event that was known by its time.

The rule, for each key by itself. A row on the right may be used at time t if known_at <= t. Among those the one with
the latest event_at wins, among several of one event_at the latest known: a correction replaces what it corrects, but
an old event that arrives (or is corrected) late never displaces a newer one. Staleness is the age of the event,
t - event_at: beyond the tolerance there is no value, however recently it arrived.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.align.times import (
    MICROS_MAX,
    FloatArray,
    IntArray,
    MicrosArray,
    ascending_micros,
    descent,
    micros,
)

Keys = npt.NDArray[np.integer[Any]]

# Shorter parts are done before a second thread has begun.
PART_ROWS_MIN = 200_000
# Keys are columns of a table of the newest event of each; a symbol universe has thousands, not billions.
N_KEYS_MAX = 10_000_000


def as_of_index(
    at: npt.NDArray[Any],
    known_at: npt.NDArray[Any],
    *,
    event_at: npt.NDArray[Any] | None = None,
    key: npt.NDArray[Any] | None = None,
    known_key: npt.NDArray[Any] | None = None,
    tolerance_us: int | None = None,
    n_threads: int = 1,
) -> IntArray:
    """
    Return for each time the row of the newest event known by then, -1 where there is none.

    Args:
        at: (n,), ascending; when the value is to be used.
        known_at: (m,), ascending; when each row on the right became known.
        event_at: (m,), what each row is about, <= known_at; None = known_at, so that the newest row wins.
        key, known_key: (n,) and (m,), integers >= 0 such as symbol numbers; None = one series. Rows join within a key.
        tolerance_us: greatest t - event_at; None = any.
        n_threads: the result is the same for any number.

    Raises:
        ValueError: if times are out of order or no microseconds, shapes differ, a key is negative or only one side
            has keys, an event is later than known, or the tolerance is negative.
    """
    join = _Join(at, known_at, event_at=event_at, key=key, known_key=known_key, tolerance_us=tolerance_us)
    return join.rows(n_threads=n_threads)


def as_of_join(
    at: npt.NDArray[Any],
    known_at: npt.NDArray[Any],
    values: npt.NDArray[np.floating[Any]],
    *,
    event_at: npt.NDArray[Any] | None = None,
    key: npt.NDArray[Any] | None = None,
    known_key: npt.NDArray[Any] | None = None,
    tolerance_us: int | None = None,
    n_threads: int = 1,
) -> FloatArray:
    """
    Return for each time the values of the newest event known by then, NaN where there is none.

    Args:
        values: (m,) or (m, n_columns), floats; NaN in a row is data: it says that the newest value is not known.
        at, known_at, event_at, key, known_key, tolerance_us, n_threads: as in as_of_index, with its errors.

    Returns:
        (n,) or (n, n_columns), float64.
    """
    join = _Join(at, known_at, event_at=event_at, key=key, known_key=known_key, tolerance_us=tolerance_us)
    table = np.ascontiguousarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.shape[0] != join.known_at.size:
        raise ValueError(f"values: expected ({join.known_at.size},) or 2 axes, received {values.shape}")
    if table.ndim == 1:
        return join.column(table, n_threads=n_threads)
    rows = join.rows(n_threads=n_threads)
    return np.where((rows >= 0)[:, None], table[np.maximum(rows, 0)], np.nan) if len(table) else _unknown(rows, table)


class _Join:
    """The checked tables of one join, as compiled code takes them."""

    def __init__(
        self,
        at: npt.NDArray[Any],
        known_at: npt.NDArray[Any],
        *,
        event_at: npt.NDArray[Any] | None,
        key: npt.NDArray[Any] | None,
        known_key: npt.NDArray[Any] | None,
        tolerance_us: int | None,
    ) -> None:
        self.at = micros(at, "at")  # whether it ascends is seen in the merge itself
        self.known_at = ascending_micros(known_at, "known_at")
        self.event_at = self.known_at if event_at is None else micros(event_at, "event_at")
        if self.event_at.size != self.known_at.size:
            raise ValueError(f"event_at: expected {self.known_at.size} times, received {self.event_at.size}")
        if event_at is not None and (self.event_at > self.known_at).any():
            row = int((self.event_at > self.known_at).argmax())
            raise ValueError(
                f"event_at: expected event_at <= known_at, received {self.event_at[row]} > {self.known_at[row]} in "
                f"row {row}: an event cannot be known before it is over"
            )
        if tolerance_us is not None and tolerance_us < 0:
            raise ValueError(f"tolerance_us: expected >= 0, received {tolerance_us}")
        self.tolerance_us = MICROS_MAX if tolerance_us is None else tolerance_us
        if (key is None) != (known_key is None):
            raise ValueError("expected keys on both sides or on neither: rows without a key join every key's")
        self.key, n_left = _keys(key, "key", n_rows=self.at.size)
        self.known_key, n_right = _keys(known_key, "known_key", n_rows=self.known_at.size)
        self.n_keys = max(n_left, n_right, 1)

    def rows(self, *, n_threads: int) -> IntArray:
        """Return the row on the right for each row on the left, -1 where there is none."""
        out = np.empty(self.at.size, np.int64)
        self._run(_merge_rows, out, np.empty(0), n_threads=n_threads)
        return out

    def column(self, column: FloatArray, *, n_threads: int) -> FloatArray:
        """Return the value on the right for each row on the left, NaN where there is none."""
        out = np.empty(self.at.size)
        self._run(_merge_column, out, column, n_threads=n_threads)
        return out

    def _run(self, merge: Any, out: npt.NDArray[Any], column: FloatArray, *, n_threads: int) -> None:
        """Fill `out`, in parts of the left side: each part first replays what was known before it began."""
        n_parts = min(max(1, n_threads), max(1, self.at.size // PART_ROWS_MIN))
        edges = np.linspace(0, self.at.size, n_parts + 1).astype(int).tolist()

        def part(span: tuple[int, int]) -> int:
            row: int = merge(
                self.at, self.known_at, self.event_at, self.key, self.known_key, self.n_keys, self.tolerance_us,
                column, *span, out,
            )  # fmt: skip
            return row

        if n_parts == 1:
            found = [part((0, self.at.size))]
        else:
            with ThreadPoolExecutor(n_parts) as pool:
                found = list(pool.map(part, pairwise(edges)))
        offences = [row for row in found if row >= 0]
        if offences:
            raise descent(self.at, "at", min(offences))


def _unknown(rows: IntArray, table: FloatArray) -> FloatArray:
    return np.full((rows.size, table.shape[1]), np.nan)


def _keys(key: npt.NDArray[Any] | None, name: str, *, n_rows: int) -> tuple[Keys, int]:
    """Return keys as the kernel takes them, empty for none, and one more than the largest."""
    if key is None:
        return np.empty(0, np.int64), 0  # the type of most keys: one compilation serves both
    if key.shape != (n_rows,) or not np.issubdtype(key.dtype, np.integer):
        raise ValueError(f"{name}: expected {n_rows} integers, received {key.dtype} {key.shape}")
    if n_rows == 0:
        return np.empty(0, key.dtype), 0
    low, high = int(key.min()), int(key.max())
    if low < 0 or high >= N_KEYS_MAX:
        raise ValueError(f"{name}: expected keys in [0, {N_KEYS_MAX}), received {low}..{high}: number the symbols")
    return np.ascontiguousarray(key), high + 1


# Without bounds checks: _Join has checked every key, and rows come from the loop itself.
_COMPILED: dict[str, Any] = {"nogil": True, "boundscheck": False, "cache": True}


@njit(**_COMPILED)
def _merge_rows(
    at: MicrosArray, known_at: MicrosArray, event_at: MicrosArray, key: Keys, known_key: Keys, n_keys: int,
    tolerance: int, column: FloatArray, start: int, end: int, out: IntArray,  # noqa: ARG001  one form for both
) -> int:  # fmt: skip
    """Fill out[start:end] with rows; return the first row of `at` that is out of order, -1 if none is."""
    newest = np.full(n_keys, -1, np.int64)
    j, n_known = 0, known_at.size
    for i in range(start, end):
        t = at[i]
        if i > 0 and t < at[i - 1]:
            return i
        while j < n_known and known_at[j] <= t:
            k = known_key[j] if known_key.size else 0
            if newest[k] < 0 or event_at[j] >= event_at[newest[k]]:
                newest[k] = j
            j += 1
        row = newest[key[i]] if key.size else newest[0]
        out[i] = row if row >= 0 and t - event_at[row] <= tolerance else -1
    return -1


@njit(**_COMPILED)
def _merge_column(
    at: MicrosArray, known_at: MicrosArray, event_at: MicrosArray, key: Keys, known_key: Keys, n_keys: int,
    tolerance: int, column: FloatArray, start: int, end: int, out: FloatArray,
) -> int:  # fmt: skip
    """Fill out[start:end] with values: the newest stands ready for each key, so a row costs no second look-up."""
    value, event = np.full(n_keys, np.nan), np.full(n_keys, -1, np.int64)
    j, n_known = 0, known_at.size
    for i in range(start, end):
        t = at[i]
        if i > 0 and t < at[i - 1]:
            return i
        while j < n_known and known_at[j] <= t:
            k = known_key[j] if known_key.size else 0
            if event_at[j] >= event[k]:
                value[k], event[k] = column[j], event_at[j]
            j += 1
        k = key[i] if key.size else 0
        out[i] = value[k] if t - event[k] <= tolerance else np.nan
    return -1
