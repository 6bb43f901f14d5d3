"""
Buckets of time for what arrives whenever it likes: posts, news, trades. An item counts in the bucket in which it
became known, whatever it is about, and a bucket is known at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.align.times import FloatArray, IntArray, MicrosArray, ascending_micros, micros, require_ascending


@dataclass(frozen=True, slots=True)
class BucketSums:
    """
    ends: (n_buckets,), end of each bucket. n_items: (n_buckets, n_keys). sums: (n_buckets, n_keys, n_columns), of the
    values that are not NaN. n_known: the same shape, how many those are; means are sums / n_known.
    """

    ends: MicrosArray
    n_items: IntArray
    sums: FloatArray
    n_known: IntArray


def bucket_ends(known_at: npt.NDArray[Any], bucket_us: int) -> MicrosArray:
    """
    Return the end of the bucket of each item: the first multiple of bucket_us at or after known_at.

    A bucket is (end - bucket_us, end]: what is known exactly at its end is in it.

    Raises:
        ValueError: if the times are no microseconds or bucket_us is below 1.
    """
    times = micros(known_at, "known_at")
    if bucket_us < 1:
        raise ValueError(f"bucket_us: expected >= 1, received {bucket_us}")
    return -(-times // bucket_us) * bucket_us


def bucket_sums(
    known_at: npt.NDArray[Any],
    values: FloatArray,
    *,
    ends: npt.NDArray[Any],
    bucket_us: int,
    key: npt.NDArray[Any] | None = None,
    n_keys: int = 1,
) -> BucketSums:
    """
    Return how many items each bucket of each key holds, and the sums of their values.

    Items outside the given buckets are left out. Sums are taken in the order of the rows, so they are the same bits
    for every choice of buckets around them.

    Args:
        known_at: (n,), ascending.
        values: (n, n_columns), NaN = not known of this item.
        ends: (n_buckets,), strictly ascending multiples of bucket_us.
        key: (n,), integers in [0, n_keys), such as symbol numbers; None = one key.

    Raises:
        ValueError: if times are out of order, ends are off the grid, shapes differ or a key is out of range.
    """
    times = ascending_micros(known_at, "known_at")
    own = micros(ends, "ends")
    require_ascending(own, "ends", strictly=True)
    if bucket_us < 1 or (own % bucket_us).any():
        raise ValueError(f"ends: expected multiples of bucket_us = {bucket_us} >= 1, received others")
    if values.ndim != 2 or len(values) != times.size:
        raise ValueError(f"values: expected ({times.size}, n_columns), received {values.shape}")
    keys = np.zeros(times.size, np.int64) if key is None else np.ascontiguousarray(key, dtype=np.int64)
    if keys.shape != times.shape or (keys.size and not 0 <= keys.min() <= keys.max() < n_keys):
        raise ValueError(f"key: expected {times.size} integers in [0, {n_keys}), received others")
    n_items = np.zeros((own.size, n_keys), np.int64)
    sums = np.zeros((own.size, n_keys, values.shape[1]))
    n_known = np.zeros(sums.shape, np.int64)
    table = np.ascontiguousarray(values, dtype=np.float64)
    _add(bucket_ends(times, bucket_us), own, keys, table, n_items, sums, n_known)
    return BucketSums(own, n_items, sums, n_known)


@njit(cache=True)
def _add(
    end_of: MicrosArray, ends: MicrosArray, keys: IntArray, values: FloatArray,
    n_items: IntArray, sums: FloatArray, n_known: IntArray,
) -> None:  # fmt: skip
    b = 0
    for i in range(end_of.size):
        while b < ends.size and ends[b] < end_of[i]:
            b += 1
        if b == ends.size:
            return
        if ends[b] != end_of[i]:
            continue
        n_items[b, keys[i]] += 1
        for c in range(values.shape[1]):
            if not np.isnan(values[i, c]):
                sums[b, keys[i], c] += values[i, c]
                n_known[b, keys[i], c] += 1
