"""The same proofs for functions of arrays with bars along the first axis, where row t is known at row t."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qraft_quant.proof.compare import Tally
from qraft_quant.proof.perturb import Output, Table, Tables
from qraft_quant.proof.prove import prove_subject
from qraft_quant.proof.verdicts import Proof

FloatArray = npt.NDArray[np.float64]
Inputs = Sequence[FloatArray]
Columns = Mapping[str, npt.NDArray[np.floating[Any]]]
# (inputs of shape (n_bars, n_symbols), grid index of row 0) -> columns by name, first axis n_bars.
RowCompute = Callable[[Inputs, int], Columns]


def prove_no_look_ahead(
    compute: RowCompute, inputs: Inputs, *, first_index: int, cut_offs: Sequence[int], seed: int
) -> Proof:
    """
    Corrupt all rows after each cut-off in every way of CORRUPTIONS; rows up to it must keep every bit.

    Args:
        compute: called with arrays that it must not change.
        inputs: arrays with bars along the first axis, positive numbers (noise multiplies them).
        first_index: grid index of row 0, handed to compute.
        cut_offs: last row that stays as it is; 0 <= cut-off < n_bars - 1.
        seed: of the shuffle and the noise.

    Raises:
        ValueError: if a cut-off leaves nothing to corrupt, or there is a single row.
    """
    names = [f"{i:03d}" for i in range(len(inputs))]
    table = Table(np.arange(len(inputs[0]), dtype=np.int64), dict(zip(names, inputs, strict=True)))

    def run(tables: Tables) -> Output:
        rows = tables["rows"]
        return _stacked(compute([rows[name] for name in names], first_index))

    return prove_subject(run, {"rows": table}, cut_offs=cut_offs, seed=seed)


def prove_start_independence(
    compute: RowCompute, inputs: Inputs, *, first_index: int, starts: Sequence[int], warm_up_bars: int
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
    clean = _stacked(compute(inputs, first_index))
    tally = Tally(clean.names)
    for start in starts:
        later = _stacked(compute([values[start:] for values in inputs], first_index + start))
        n_left = start + warm_up_bars
        left = Output(clean.at[n_left:], clean.names, clean.values[n_left:])
        right = Output(later.at[warm_up_bars:] + start, later.names, later.values[warm_up_bars:])
        tally.compare(left, right, until=n_bars, what=f"start at row {start}")
    return tally.result()


def _stacked(columns: Columns) -> Output:
    """Return columns of one shape as one output, row numbers as times."""
    values = np.stack(list(columns.values()), axis=-1)
    return Output(np.arange(len(values), dtype=np.int64), tuple(columns), values)
