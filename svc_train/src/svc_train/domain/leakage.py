"""Proof on the real rows that nothing which trains or forecasts a row depends on bars from after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from qraft_quant.proof import Columns, Compute, Inputs, Proof, prove_no_look_ahead
from qraft_store.bars.port import BarPanel
from svc_train.domain.findings import Finding
from svc_train.domain.folds import Plan
from svc_train.domain.panel import FeatureSet, first_grid_index
from svc_train.domain.samples import FloatArray
from svc_train.domain.targets import HorizonTargets, make_targets

# The newest bars are enough: 28 days hold the longest window (7 days) three times over.
_N_BARS_MAX: Final = 8_192
# Cut-offs 16, 23 and 31 of 40 rows, as in ml4t/diagnostic's causality test.
_CUT_FRACS: Final = (0.4, 0.575, 0.775)
# A value joined from the end of its quarter of an hour leaks in every row but the last of each; cut-offs at different
# residues cannot all fall on such rows. Three cut-offs on multiples of three hid exactly that leak.
_PERIOD: Final = 12
_RESIDUES: Final = (1, 6, 11)
_FAILURES_NAMED_MAX: Final = 20
_CLOSE: Final = 3


def prove_no_leakage(
    bars: BarPanel, features: FeatureSet, targets: Sequence[HorizonTargets], plan: Plan, *, first_bar: int, seed: int
) -> Finding:
    """
    Corrupt everything after a cut-off, three ways at three cut-offs, and look for changes at or before it.

    Features must not change at all; labels must not change where their horizon ended by the cut-off; a training label
    must end before its fold's first test bar. A column of which nothing known was compared counts as failed.

    Args:
        first_bar: the first bar with complete features; cut-offs lie behind it.
    """
    skip = max(0, bars.closed_at.size - _N_BARS_MAX)
    inputs = [np.asarray(values[skip:]) for values in (bars.open, bars.high, bars.low, bars.close, bars.volume)]
    first_index = first_grid_index(bars) + skip
    proofs = [_prove(_columns_of(features), inputs, first_index=first_index, warm_up=first_bar, seed=seed)] + [
        _prove(_labels_when_known(target), inputs, first_index=first_index, warm_up=target.n_bars_ahead, seed=seed)
        for target in targets
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


def _columns_of(features: FeatureSet) -> Compute:
    def columns(inputs: Inputs, first_index: int) -> Columns:
        open_, high, low, close, volume = inputs
        matrix = features.compute(open_, high, low, close, volume, first_index)
        return {name: matrix[:, :, f] for f, name in enumerate(features.names)}

    return columns


def _labels_when_known(target: HorizonTargets) -> Compute:
    """Return the labels of a horizon, each in the row in which it is complete: causal, if they are honest."""
    h = target.n_bars_ahead

    def columns(inputs: Inputs, _: int) -> Columns:
        made = make_targets(
            inputs[_CLOSE],
            horizon=target.horizon,
            n_bars_ahead=h,
            cost=target.cost,
            known_frac_min=target.known_frac_min,
        )
        return {
            f"label {target.horizon} net": _delayed(made.net, h),
            f"label {target.horizon} log_volatility": _delayed(made.log_volatility, h),
            f"trailing {target.horizon}": made.trailing,
        }

    return columns


def _delayed(label: FloatArray, n_bars: int) -> FloatArray:
    delayed = np.full(label.shape, np.nan)
    delayed[n_bars:] = label[:-n_bars]
    return delayed


def _prove(compute: Compute, inputs: Inputs, *, first_index: int, warm_up: int, seed: int) -> Proof:
    n_bars = len(inputs[0])
    start = min(warm_up, n_bars // 2)
    nominal = [start + int(frac * (n_bars - start)) for frac in _CUT_FRACS]
    cut_offs = [cut + (residue - cut) % _PERIOD for cut, residue in zip(nominal, _RESIDUES, strict=True)]
    return prove_no_look_ahead(compute, inputs, first_index=first_index, cut_offs=cut_offs, seed=seed)


def _failures(proof: Proof) -> list[str]:
    """Return what failed, column by column; a column that proved nothing failed too."""
    found = [f"{column.name}: {failure}" for column in proof.columns for failure in column.failures]
    return found + [f"{column.name}: nothing known was compared" for column in proof.columns if column.n_checks == 0]
