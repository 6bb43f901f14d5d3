"""Proof on the real rows that nothing which trains or forecasts a row depends on bars from after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from svc_train.domain.findings import Finding
from svc_train.domain.folds import Plan
from svc_train.domain.panel import Bars, FeatureSet, first_grid_index
from svc_train.domain.samples import FloatArray
from svc_train.domain.targets import HorizonTargets, make_targets

# The newest bars are enough: 28 days hold the longest window (7 days) three times over.
_N_BARS_MAX: Final = 8_192
# Cut-offs 16, 23 and 31 of 40 rows, as in ml4t/diagnostic's causality test.
_CUT_FRACS: Final = (0.4, 0.575, 0.775)
_FAILURES_NAMED_MAX: Final = 20

# (open, high, low, close, volume, first_index) -> columns by name, (n_bars, n_symbols) each; row t may use rows 0..t.
Values = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
Columns = Mapping[str, npt.NDArray[np.floating[Any]]]
Causal = Callable[[Values, int], Columns]


def prove_no_leakage(
    bars: Bars, features: FeatureSet, targets: Sequence[HorizonTargets], plan: Plan, *, first_bar: int, seed: int
) -> Finding:
    """
    Corrupt everything after a cut-off, three ways at three cut-offs, and look for changes at or before it.

    Features must not change at all; labels must not change where their horizon ended by the cut-off; a training label
    must end before its fold's first test bar. A check in which nothing known was compared counts as failed.

    Args:
        first_bar: the first bar with complete features; cut-offs lie behind it.
    """
    failures: list[str] = []
    n_checks = 0
    for name, passed in _checks(bars, features, targets, plan, first_bar=first_bar, seed=seed):
        n_checks += 1
        if not passed:
            failures.append(name)
    measures = {"n_features": float(len(features.names)), "n_cutoffs": float(len(_CUT_FRACS))}
    return Finding("leakage", n_checks, len(failures), tuple(failures[:_FAILURES_NAMED_MAX]), measures)


def _checks(
    bars: Bars, features: FeatureSet, targets: Sequence[HorizonTargets], plan: Plan, *, first_bar: int, seed: int
) -> Iterator[tuple[str, bool]]:
    skip = max(0, bars.closed_at.size - _N_BARS_MAX)
    values: Values = tuple(  # type: ignore[assignment]
        np.asarray(column[skip:]) for column in (bars.open, bars.high, bars.low, bars.close, bars.volume)
    )
    first_index = first_grid_index(bars) + skip

    def feature_columns(panel: Values, index: int) -> Columns:
        matrix = features.compute(*panel, index)
        return {name: matrix[:, :, f] for f, name in enumerate(features.names)}

    yield from _unchanged(feature_columns, values, first_index, warm_up=first_bar, seed=seed)
    for target in targets:
        yield from _unchanged(_labels_when_known(target), values, first_index, warm_up=target.n_bars_ahead, seed=seed)
    for target, folds in zip(targets, plan, strict=True):
        for k, fold in enumerate(folds):
            yield f"{target.horizon} fold {k}: labels end", fold.train_end - 1 + target.n_bars_ahead < fold.test_start


def _labels_when_known(target: HorizonTargets) -> Causal:
    """Return the labels of a horizon, each in the row in which it is complete: causal, if they are honest."""
    h = target.n_bars_ahead

    def columns(panel: Values, _: int) -> Columns:
        made = make_targets(
            panel[3],
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


def _unchanged(
    compute: Causal, values: Values, first_index: int, *, warm_up: int, seed: int
) -> Iterator[tuple[str, bool]]:
    """Yield for each column, corruption and cut-off whether rows up to the cut-off stay the same, bit for bit."""
    n_bars = values[0].shape[0]
    clean = compute(values, first_index)
    start = min(warm_up, n_bars // 2)
    cuts = [start + int(frac * (n_bars - start)) for frac in _CUT_FRACS]
    for corruption, corrupt in _CORRUPTIONS.items():
        for cut in cuts:
            rng = np.random.default_rng([seed, cut])
            dirty = compute(corrupt(values, cut + 1, rng), first_index)
            for name, column in clean.items():
                before, after = column[: cut + 1], dirty[name][: cut + 1]
                same = np.array_equal(before, after, equal_nan=True)
                yield f"{name}: {corruption} after bar {cut}", same and bool(np.isfinite(before).any())


def _to_nan(values: Values, start: int, _: np.random.Generator) -> Values:
    return _rewritten(values, start, lambda rows: np.full(rows.shape, np.nan))


def _shuffled(values: Values, start: int, rng: np.random.Generator) -> Values:
    order = rng.permutation(values[0].shape[0] - start)
    return _rewritten(values, start, lambda rows: rows[order])


def _noisy(values: Values, start: int, rng: np.random.Generator) -> Values:
    # One factor a bar for all columns: the bars stay possible, so no feature can hide behind a refusal.
    factor = np.exp(rng.normal(0.0, 0.1, (values[0].shape[0] - start, values[0].shape[1])))
    return _rewritten(values, start, lambda rows: rows * factor)


def _rewritten(values: Values, start: int, change: Callable[[FloatArray], FloatArray]) -> Values:
    return tuple(  # type: ignore[return-value]
        np.concatenate([column[:start], change(column[start:])]) for column in values
    )


_CORRUPTIONS: Final = {"nan": _to_nan, "shuffle": _shuffled, "noise": _noisy}
