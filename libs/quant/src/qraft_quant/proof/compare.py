"""Compare two outputs bit for bit, all columns in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qraft_quant.proof.perturb import Output
from qraft_quant.proof.verdicts import ColumnProof, Proof

BoolArray = npt.NDArray[np.bool_]


class Tally:
    """Comparisons made, failed and moved, by column."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._n_checks = np.zeros(len(names), np.int64)
        self._n_moved = np.zeros(len(names), np.int64)
        self._failures: list[list[str]] = [[] for _ in names]

    def compare(self, expected: Output, received: Output, *, until: int, what: str) -> None:
        """
        Compare what both say of times up to `until`, and note which columns say another thing of later times.

        Rows that vanish, appear or move in time count as differences in every column, as does a number that becomes
        NaN; NaN equals NaN, whatever its payload.

        Raises:
            ValueError: if the outputs have other columns or types: these are no two runs of one computation.
        """
        if expected.names != received.names or expected.values.dtype != received.values.dtype:
            raise ValueError(f"expected the columns {expected.names}, received {received.names}: runs of one function?")
        n_left, n_right = (int(np.searchsorted(out.at, until, side="right")) for out in (expected, received))
        left, right = expected.values[:n_left], received.values[:n_right]
        if left.shape != right.shape or not np.array_equal(expected.at[:n_left], received.at[:n_right]):
            self.note_all(Output(expected.at[:n_left], expected.names, left), f"{what}: rows vanished or appeared")
            return
        self._note(*differences(left, right), what)
        later, changed = expected.values[n_left:], received.values[n_right:]
        if later.shape == changed.shape:
            self._n_moved += differences(later, changed)[1]
        else:
            self._n_moved += differences(later, np.full_like(later, np.nan))[0]

    def note_all(self, output: Output, what: str) -> None:
        """Note a difference in every column of an output."""
        is_known = differences(output.values, np.full_like(output.values, np.nan))[0]
        self._note(is_known, np.ones(len(self._names), np.bool_), what)

    def result(self) -> Proof:
        """Return the proof."""
        return Proof(
            tuple(
                ColumnProof(name, int(self._n_checks[c]), tuple(self._failures[c]), int(self._n_moved[c]))
                for c, name in enumerate(self._names)
            )
        )

    def _note(self, is_known: BoolArray, differs: BoolArray, what: str) -> None:
        self._n_checks += is_known
        for c in np.flatnonzero(differs):
            self._failures[c].append(what)


def differences(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> tuple[BoolArray, BoolArray]:
    """Return for each column (last axis) whether any number was compared, and whether any bit differs."""
    assert left.shape == right.shape and left.dtype == right.dtype, (left.shape, right.shape)
    n_columns = left.shape[-1]
    known, differs = np.zeros(n_columns, np.bool_), np.zeros(n_columns, np.bool_)
    if left.size:
        bits = f"u{left.dtype.itemsize}"
        rows = [np.ascontiguousarray(values).reshape(-1, n_columns) for values in (left, right)]
        _scan(*rows, *(values.view(bits) for values in rows), known, differs)
    return known, differs


@njit(nogil=True)
def _scan(
    left: npt.NDArray[Any], right: npt.NDArray[Any], left_bits: npt.NDArray[Any], right_bits: npt.NDArray[Any],
    known: BoolArray, differs: BoolArray,
) -> None:  # fmt: skip
    for i in range(left.shape[0]):
        for c in range(left.shape[1]):
            if np.isnan(left[i, c]) and np.isnan(right[i, c]):
                continue
            known[c] = True
            if left_bits[i, c] != right_bits[i, c]:
                differs[c] = True
