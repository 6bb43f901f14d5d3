"""
Splits in time that a label cannot leak across: purge, embargo, walk-forward, combinatorial folds.

All spans are half-open row ranges [start, end) of the time grid; every symbol of a bar falls on the same side. A label
with horizon h of row i spans rows i..i+h.

Source:
    López de Prado, Advances in Financial Machine Learning (2018), ch. 7 and 12.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# C(16, 8) = 12,870 is the largest combinatorial scheme in use; beyond it nobody waits for the fits.
N_COMBINATIONS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Fold:
    """One walk-forward step: train on rows [train_start, train_end), test on rows [test_start, test_end)."""

    train_start: int
    train_end: int
    test_start: int
    test_end: int


@dataclass(frozen=True, slots=True)
class CombinatorialSplit:
    """One combinatorial split: which folds are tested, and the rows of either side, increasing."""

    test_folds: tuple[int, ...]
    train: IntArray
    test: IntArray


def purged_rows(
    n_rows: int, test_spans: Iterable[tuple[int, int]], *, horizon_bars: int, embargo_bars: int
) -> IntArray:
    """
    Return the rows that may train against the given test spans.

    Purge: rows whose label span [i, i + horizon_bars] meets a test span are left out. Embargo: so are the
    embargo_bars rows after each test span.

    Raises:
        ValueError: if a span does not lie in the rows, or horizon_bars or embargo_bars is negative.
    """
    _check_gaps(horizon_bars, embargo_bars)
    may_train = np.ones(n_rows, dtype=np.bool_)
    for start, end in test_spans:
        if not 0 <= start < end <= n_rows:
            raise ValueError(f"expected a test span within [0, {n_rows}), received [{start}, {end})")
        may_train[max(0, start - horizon_bars) : end + embargo_bars] = False
    return np.flatnonzero(may_train)


def purged_walk_forward(
    n_rows: int,
    *,
    n_folds: int,
    horizon_bars: int,
    purge_bars: int,
    embargo_bars: int,
    first_test_frac: float = 0.4,
) -> tuple[Fold, ...]:
    """
    Return expanding walk-forward folds whose test spans tile the rows from first_test_frac on.

    Each training span starts at row 0 and ends purge_bars + embargo_bars rows before its test span: the purge so that
    no training label reaches into the test, the embargo against what features of neighboring rows share.

    Raises:
        ValueError: if purge_bars < horizon_bars, or a fold would have no training or no test row.
    """
    _check_gaps(horizon_bars, embargo_bars)
    if purge_bars < horizon_bars:
        raise ValueError(
            f"a horizon of {horizon_bars} bars needs a purge of at least as many, received purge_bars={purge_bars}: "
            "the last training labels would reach into the test"
        )
    if n_folds < 1 or not 0.0 < first_test_frac < 1.0:
        raise ValueError(f"expected n_folds >= 1 and 0 < first_test_frac < 1, received {n_folds}, {first_test_frac}")
    edges = [round(n_rows * (first_test_frac + (1.0 - first_test_frac) * k / n_folds)) for k in range(n_folds + 1)]
    gap = purge_bars + embargo_bars
    folds = tuple(Fold(0, edges[k] - gap, edges[k], edges[k + 1]) for k in range(n_folds))
    for fold in folds:
        if fold.train_end <= 0 or fold.test_end <= fold.test_start:
            raise ValueError(
                f"{n_rows} rows are too few for {n_folds} folds with a gap of {gap} rows before each test: need more "
                f"than {int(gap / first_test_frac) + 1} rows, or fewer folds, or a shorter horizon"
            )
    return folds


def combinatorial_purged(
    n_rows: int, *, n_folds: int, n_test_folds: int, purge_bars: int, embargo_bars: int
) -> list[CombinatorialSplit]:
    """
    Return every split that tests n_test_folds of n_folds contiguous folds, in lexicographic order of the test folds.

    The purge is taken on both sides of each test span (a test label reaches purge_bars rows past its span), the
    embargo after it in addition.

    Raises:
        ValueError: if the numbers do not fit, or there would be more than N_COMBINATIONS_MAX splits.
    """
    n_splits = n_combinatorial_splits(n_folds, n_test_folds)
    if n_splits > N_COMBINATIONS_MAX:
        raise ValueError(
            f"C({n_folds}, {n_test_folds}) = {n_splits} splits, more than {N_COMBINATIONS_MAX}: use fewer folds"
        )
    if n_rows < n_folds:
        raise ValueError(f"expected at least one row a fold ({n_folds}), received {n_rows} rows")
    _check_gaps(purge_bars, embargo_bars)
    edges = [n_rows * k // n_folds for k in range(n_folds + 1)]
    splits = []
    for test_folds in combinations(range(n_folds), n_test_folds):
        spans = [(edges[k], edges[k + 1]) for k in test_folds]
        train = purged_rows(n_rows, spans, horizon_bars=purge_bars, embargo_bars=purge_bars + embargo_bars)
        test = np.concatenate([np.arange(start, end, dtype=np.int64) for start, end in spans])
        splits.append(CombinatorialSplit(test_folds, train, test))
    return splits


def n_combinatorial_splits(n_folds: int, n_test_folds: int) -> int:
    """
    Return C(n_folds, n_test_folds).

    Raises:
        ValueError: unless 1 <= n_test_folds < n_folds.
    """
    if not 1 <= n_test_folds < n_folds:
        raise ValueError(f"expected 1 <= n_test_folds < n_folds, received {n_test_folds} of {n_folds}")
    return comb(n_folds, n_test_folds)


def n_combinatorial_paths(n_folds: int, n_test_folds: int) -> int:
    """
    Return the number of full out-of-sample paths, C(n_folds, n_test_folds) * n_test_folds / n_folds.

    Raises:
        ValueError: unless 1 <= n_test_folds < n_folds.
    """
    return n_combinatorial_splits(n_folds, n_test_folds) * n_test_folds // n_folds


def _check_gaps(horizon_bars: int, embargo_bars: int) -> None:
    if horizon_bars < 0 or embargo_bars < 0:
        raise ValueError(f"horizon, purge and embargo must be >= 0 rows, received {horizon_bars} and {embargo_bars}")
