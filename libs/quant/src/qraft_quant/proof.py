"""
Proofs by perturbation that a computation does not look ahead, and that it does not depend on where history began.

Nothing here knows features: any function from bars to named columns can be put to the proof, labels too once they
are moved to the row in which they are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Inputs = Sequence[FloatArray]
Columns = Mapping[str, npt.NDArray[np.floating[Any]]]
# (inputs of shape (n_bars, n_symbols), grid index of row 0) -> columns by name, first axis n_bars.
Compute = Callable[[Inputs, int], Columns]
Corrupt = Callable[[Inputs, int, np.random.Generator], list[FloatArray]]


@dataclass(frozen=True, slots=True)
class ColumnProof:
    """What was found for one column. n_checks counts comparisons in which at least one number was compared."""

    name: str
    n_checks: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether something was compared and nothing differed: no evidence is no pass."""
        return self.n_checks > 0 and not self.failures


@dataclass(frozen=True, slots=True)
class Proof:
    """The columns of one proof, in the order of the computation."""

    columns: tuple[ColumnProof, ...]

    @property
    def n_checks(self) -> int:
        """Return how many comparisons were made."""
        return sum(column.n_checks for column in self.columns)

    @property
    def passed(self) -> bool:
        """Return whether there are columns and all of them passed."""
        return bool(self.columns) and all(column.passed for column in self.columns)

    @property
    def failed_columns(self) -> tuple[str, ...]:
        """Return the names of the columns that did not pass."""
        return tuple(column.name for column in self.columns if not column.passed)


def prove_no_look_ahead(
    compute: Compute, inputs: Inputs, *, first_index: int, cut_offs: Sequence[int], seed: int
) -> Proof:
    """
    Corrupt all rows after each cut-off as NaN, shuffled and with noise; rows up to it must keep every bit.

    Args:
        compute: called with arrays that it must not change.
        inputs: arrays with bars along the first axis, positive numbers (noise multiplies them).
        first_index: grid index of row 0, handed to compute.
        cut_offs: last row that stays as it is; 0 <= cut-off < n_bars - 1.
        seed: of the shuffle and the noise.

    Raises:
        ValueError: if a cut-off leaves nothing to corrupt.
    """
    n_bars = len(inputs[0])
    if not all(0 <= cut < n_bars - 1 for cut in cut_offs):
        raise ValueError(f"expected cut-offs in [0, {n_bars - 1}), received {list(cut_offs)}")
    clean = compute(inputs, first_index)
    tally = _Tally(clean)
    for cut in cut_offs:
        for how, corrupt in _CORRUPTIONS.items():
            rng = np.random.default_rng([seed, cut])
            dirty = compute(corrupt(inputs, cut + 1, rng), first_index)
            for name, column in clean.items():
                tally.compare(name, column[: cut + 1], dirty[name][: cut + 1], f"{how} after row {cut}")
    return tally.result()


def prove_start_independence(
    compute: Compute, inputs: Inputs, *, first_index: int, starts: Sequence[int], warm_up_bars: int
) -> Proof:
    """
    Compute again from later first rows; from warm_up_bars rows after each start on every bit must be the same.

    Args:
        starts: first rows, > 0; rows before them are not handed to compute.
        warm_up_bars: rows after a start that may differ.

    Raises:
        ValueError: if a start leaves no row to compare.
    """
    n_bars = len(inputs[0])
    if not all(0 < start < n_bars - warm_up_bars for start in starts):
        raise ValueError(f"expected starts in (0, {n_bars - warm_up_bars}), received {list(starts)}")
    clean = compute(inputs, first_index)
    tally = _Tally(clean)
    for start in starts:
        later = compute([values[start:] for values in inputs], first_index + start)
        for name, column in clean.items():
            tally.compare(name, column[start + warm_up_bars :], later[name][warm_up_bars:], f"start at row {start}")
    return tally.result()


class _Tally:
    """Comparisons made and failed, by column."""

    def __init__(self, columns: Columns) -> None:
        self._n_checks = dict.fromkeys(columns, 0)
        self._failures: dict[str, list[str]] = {name: [] for name in columns}

    def compare(self, name: str, expected: npt.NDArray[Any], received: npt.NDArray[Any], what: str) -> None:
        """Compare bit for bit; NaN equals NaN, whatever its payload."""
        if expected.dtype != received.dtype or expected.shape != received.shape:
            raise ValueError(f"{name}: expected {expected.dtype} {expected.shape}, received {received.shape}")
        is_known = ~(np.isnan(expected) & np.isnan(received))
        self._n_checks[name] += bool(is_known.any())
        bits = f"u{expected.dtype.itemsize}"
        left, right = (np.ascontiguousarray(values).view(bits)[is_known] for values in (expected, received))
        if not np.array_equal(left, right):
            self._failures[name].append(what)

    def result(self) -> Proof:
        """Return the proof."""
        return Proof(tuple(ColumnProof(name, n, tuple(self._failures[name])) for name, n in self._n_checks.items()))


def _changed(inputs: Inputs, start: int, change: Callable[[FloatArray], FloatArray]) -> Iterator[FloatArray]:
    for values in inputs:
        yield np.concatenate([values[:start], change(values[start:])])


def _to_nan(inputs: Inputs, start: int, _: np.random.Generator) -> list[FloatArray]:
    return list(_changed(inputs, start, lambda rows: np.full(rows.shape, np.nan)))


def _shuffled(inputs: Inputs, start: int, rng: np.random.Generator) -> list[FloatArray]:
    # One order for all inputs: whole bars change places and stay possible.
    order = rng.permutation(len(inputs[0]) - start)
    return list(_changed(inputs, start, lambda rows: rows[order]))


def _noisy(inputs: Inputs, start: int, rng: np.random.Generator) -> list[FloatArray]:
    # One factor a bar and symbol for all inputs, for the same reason: a refused bar would hide a leak.
    factor = np.exp(rng.normal(0.0, 0.1, inputs[0][start:].shape))
    return list(_changed(inputs, start, lambda rows: rows * factor))


_CORRUPTIONS: Final[dict[str, Corrupt]] = {"nan": _to_nan, "shuffle": _shuffled, "noise": _noisy}
