"""Statistics that sums do not give, of the rows of each (bucket, symbol): largest, median, who is trimmed, how many
different. The aligner says which bucket a row is in; here rows of one group are put in order, and no group sees
another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qraft_text.posts import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Groups:
    """
    Rows by group. order: (n,), rows so that those of a group stand together, in their own order. starts: of each group
    in it; sizes, ids: of each group, ids ascending.
    """

    order: IntArray
    starts: IntArray
    sizes: IntArray
    ids: IntArray
    n_ids: int

    def spread(self, values: npt.NDArray[np.floating]) -> FloatArray:
        """Return values of the groups, (n_groups, ...), on all ids, (n_ids, ...); NaN where there is no row."""
        whole = np.full((self.n_ids, *values.shape[1:]), np.nan)
        whole[self.ids] = values
        return whole

    def largest(self, values: npt.NDArray[np.floating]) -> FloatArray:
        """Return the largest of each group, (n_ids, n_columns); values: (n, n_columns) without NaN."""
        if self.ids.size == 0:
            return self.spread(values[:0])
        return self.spread(np.maximum.reduceat(values[self.order], self.starts, axis=0))

    def medians(self, values: FloatArray) -> FloatArray:
        """Return the median of each group, (n_ids,); values: (n,) without NaN."""
        ordered, lower = values[self.ranked(values)], self.starts + (self.sizes - 1) // 2
        upper = self.starts + self.sizes // 2
        return self.spread(0.5 * (ordered[lower] + ordered[upper]))

    def is_trimmed(self, values: FloatArray, frac: float) -> npt.NDArray[np.bool_]:
        """Return which rows, (n,), are among the highest or lowest int(frac x size) of their group."""
        ranked = self.ranked(values)
        place = np.arange(ranked.size) - np.repeat(self.starts, self.sizes)
        n_cut = np.repeat((frac * self.sizes).astype(np.int64), self.sizes)
        cut = np.empty(ranked.size, np.bool_)
        cut[ranked] = (place < n_cut) | (place >= np.repeat(self.sizes, self.sizes) - n_cut)
        return cut

    def n_different(self, values: IntArray, *, but: int) -> FloatArray:
        """Return how many different values beside `but` each group has, (n_ids,); NaN where there is no row."""
        group = np.repeat(np.arange(self.ids.size), self.sizes)
        pairs = np.unique(np.stack([group, values[self.order]]), axis=1)
        counted = pairs[0][pairs[1] != but]
        return self.spread(np.bincount(counted, minlength=self.ids.size).astype(np.float64))

    def ranked(self, values: FloatArray) -> IntArray:
        """Return the rows of each group from its lowest value to its highest, in the places of `order`."""
        own = np.repeat(np.arange(self.ids.size), self.sizes)
        return self.order[np.lexsort((values[self.order], own))]


def group(ids: IntArray, n_ids: int) -> Groups:
    """Return the groups of rows with equal ids, integers in [0, n_ids)."""
    order = np.argsort(ids, kind="stable")
    found, starts, sizes = np.unique(ids[order], return_index=True, return_counts=True)
    return Groups(order, starts.astype(np.int64), sizes.astype(np.int64), found.astype(np.int64), n_ids)
