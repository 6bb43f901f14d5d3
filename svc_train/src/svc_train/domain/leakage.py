"""Proof on the real rows that nothing which trains or forecasts a row depends on bars from after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from qraft_quant.align import lag, micros
from qraft_quant.proof import Compute, Output, Proof, Table, Tables, prove_subject
from qraft_quant.proof.subjects import BARS, cut_rows
from svc_train.domain.findings import Finding
from svc_train.domain.folds import Plan
from svc_train.domain.panel import FeatureSet, TrainingData, first_grid_index, inputs_of
from svc_train.domain.targets import HorizonTargets, make_targets

# The newest bars are enough: 28 days hold the longest window (7 days) three times over.
_N_BARS_MAX: Final = 8_192
# Cut-offs 16, 23 and 31 of 40 rows, as in ml4t/diagnostic's causality test.
_CUT_FRACS: Final = (0.4, 0.575, 0.775)
_FAILURES_NAMED_MAX: Final = 20


def prove_no_leakage(
    data: TrainingData,
    features: FeatureSet,
    targets: Sequence[HorizonTargets],
    plan: Plan,
    *,
    first_bar: int,
    seed: int,
) -> Finding:
    """
    Corrupt everything after a cut-off, every way at three cut-offs, and look for changes at or before it.

    Features must not change at all; labels must not change where their horizon ended by the cut-off; a training label
    must end before its fold's first test bar. A column of which nothing known was compared counts as failed. The state
    is corrupted with the bars: a row of it was known at its bar's end.

    Args:
        first_bar: the first bar with complete features; cut-offs lie behind it.
    """
    bars, inputs = data.bars, inputs_of(data)
    skip = max(0, bars.closed_at.size - _N_BARS_MAX)
    known_at = micros(bars.closed_at, "closed_at")[skip:]
    tables = {BARS: Table(known_at, {name: values[skip:] for name, values in inputs.items()})}
    first_index = first_grid_index(bars) + skip
    n_bars = bars.closed_at.size - skip

    def prove(compute: Compute, *, warm_up: int) -> Proof:
        rows = cut_rows(n_bars, first_row=min(warm_up, n_bars // 2), first_index=first_index, fracs=_CUT_FRACS)
        return prove_subject(compute, tables, cut_offs=[int(tables[BARS].known_at[row]) for row in rows], seed=seed)

    proofs = [prove(_columns_of(features, tuple(inputs), first_index), warm_up=first_bar)] + [
        prove(_labels_when_known(target), warm_up=target.n_bars_ahead) for target in targets
    ]
    folds = [(target, k, fold) for target, own in zip(targets, plan, strict=True) for k, fold in enumerate(own)]
    failures = [failure for proof in proofs for failure in _failures(proof)] + [
        f"{target.horizon} fold {k}: training labels end in the test"
        for target, k, fold in folds
        if fold.train_end - 1 + target.n_bars_ahead >= fold.test_start
    ]
    return Finding(
        gate="leakage",
        n_checks=sum(proof.n_checks for proof in proofs) + len(folds),
        n_failed=len(failures),
        failures=tuple(failures[:_FAILURES_NAMED_MAX]),
        measures={
            "n_columns": float(sum(len(proof.columns) for proof in proofs)),
            "n_cut_offs": float(len(_CUT_FRACS)),
            "n_folds": float(len(folds)),
        },
    )


def _columns_of(features: FeatureSet, inputs: tuple[str, ...], first_index: int) -> Compute:
    def columns(tables: Tables) -> Output:
        bars = tables[BARS]
        matrix = features.compute({name: bars[name] for name in inputs}, first_index)
        return Output(bars.known_at, features.names, matrix)

    return columns


def _labels_when_known(target: HorizonTargets) -> Compute:
    """Return the labels of a horizon, each in the row in which it is complete: causal, if they are honest."""
    h = target.n_bars_ahead

    def columns(tables: Tables) -> Output:
        made = make_targets(
            tables[BARS]["close"],
            horizon=target.horizon,
            n_bars_ahead=h,
            cost=target.cost,
            known_frac_min=target.known_frac_min,
        )
        names = (f"label {target.horizon} net", f"label {target.horizon} log_volatility", f"trailing {target.horizon}")
        values = np.stack([lag(made.net, h), lag(made.log_volatility, h), made.trailing], axis=2)
        return Output(tables[BARS].known_at, names, values)

    return columns


def _failures(proof: Proof) -> list[str]:
    """Return what failed, column by column; a column that proved nothing failed too."""
    found = [f"{column.name}: {failure}" for column in proof.columns for failure in column.failures]
    return found + [f"{column.name}: nothing known was compared" for column in proof.columns if column.n_checks == 0]
