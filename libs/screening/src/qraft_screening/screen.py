"""The screening: filters, information, clusters, linear models; all of it inside one window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import numpy as np
from scipy.stats import false_discovery_control
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from qraft_screening.clusters import cluster, rank_correlations
from qraft_screening.drift import DRIFT_FORMAT, DriftReference, reference_bins
from qraft_screening.findings import Found, assemble, same_sign_parts
from qraft_screening.half_life import half_life
from qraft_screening.information import Information, Labels
from qraft_screening.linear import ModelFit, TooShort, fit_models, principal_components
from qraft_screening.panel import FeaturePanel
from qraft_screening.quality import Quality, QualityRules
from qraft_screening.report import SCREENING_FORMAT, Screening, Source
from qraft_screening.thresholds import Thresholds

# Features are copied out of the matrix so many at a time: a cache line of float32.
_BLOCK: Final = 16
_NAMED_VERSIONS: Final = ("numpy", "scipy", "scikit-learn")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be screened. horizon: name, such as 1h; seed: of the proof of automatic features."""

    feature_set: str
    feature_signature: str
    source: Source
    horizon: str
    horizon_bars: int
    seed: int


@dataclass(frozen=True, slots=True)
class Screened:
    """The report, and the bins of the window to measure drift against later."""

    screening: Screening
    reference: DriftReference


@dataclass(frozen=True, slots=True)
class _Measured:
    quality: Quality
    information: Information | None
    fault: tuple[str, str] | None


def screen(
    panel: FeaturePanel, asked: Asked, *, thresholds: Thresholds, n_threads: int, progress: Progress
) -> Screened:
    """
    Screen the features of a panel within the window of `asked.source`, and read nothing outside of it.

    The same panel gives the same bytes, whatever the number of threads.

    Args:
        panel: may reach beyond the window; what lies there is cut off first, labels that would reach there with it.
        progress: is told of each stage in a line.

    Raises:
        ValueError: if the window holds no bar.
    """
    window = panel.within(asked.source.after_us, asked.source.until_us)
    # Sums of a matrix product come in another order with another number of threads.
    with threadpool_limits(limits=1):
        labels, rules = Labels(window, asked.horizon_bars), QualityRules(window)
        measured = _measure_all(window, labels, rules, thresholds=thresholds, n_threads=n_threads, progress=progress)
        found = _decide(window, labels, measured, thresholds=thresholds, progress=progress)
        reference = _reference(window, asked)
    whole = Screening(
        format=SCREENING_FORMAT,
        feature_set=asked.feature_set,
        feature_signature=asked.feature_signature,
        source=asked.source,
        horizon=asked.horizon,
        horizon_bars=asked.horizon_bars,
        ranked="across the symbols of each bar" if labels.is_cross else "each symbol over time, pooled",
        lag_blocks=labels.lag_blocks,
        n_blocks=int(labels.block_ends.size),
        block_us=labels.block_us,
        seed=asked.seed,
        thresholds=thresholds,
        versions={name: version(name) for name in _NAMED_VERSIONS},
        months=rules.months,
        ages=labels.ages,
        **assemble(window, labels, rules, found, thresholds=thresholds),
    )
    return Screened(whole, reference)


def _measure_all(
    panel: FeaturePanel, labels: Labels, rules: QualityRules, *, thresholds: Thresholds, n_threads: int,
    progress: Progress,
) -> list[_Measured]:  # fmt: skip
    n_features = len(panel.features)

    def measure(first: int) -> list[_Measured]:
        columns = range(first, min(first + _BLOCK, n_features))
        block = np.ascontiguousarray(np.moveaxis(panel.values[:, :, columns.start : columns.stop], 2, 0))
        return [
            _measure(panel.names[f], values, labels, rules, thresholds)
            for f, values in zip(columns, block, strict=True)
        ]

    measured: list[_Measured] = []
    with ThreadPoolExecutor(n_threads) as pool:
        for part in pool.map(measure, range(0, n_features, _BLOCK)):
            measured += part
            progress(f"measured {len(measured)} of {n_features} features")
    return measured


def _measure(name: str, values: np.ndarray, labels: Labels, rules: QualityRules, thresholds: Thresholds) -> _Measured:
    quality = rules.judge(name, values)
    # What does not vary has no rank; everything else is measured, so that a page can show why it was left out.
    has_ranks = quality.known_frac > 0.0 and quality.commonest_frac < 1.0
    return _Measured(quality, labels.information(values) if has_ranks else None, quality.fault(thresholds))


def _decide(
    panel: FeaturePanel, labels: Labels, measured: Sequence[_Measured], *, thresholds: Thresholds, progress: Progress
) -> Found:
    passed = [f for f, it in enumerate(measured) if it.fault is None]
    q = _discoveries(measured, passed)
    carries = [f for f in passed if _fault_of_information(measured[f], q[f], labels, thresholds) is None]
    progress(f"{len(passed)} pass the filters, {len(carries)} of them carry information")
    correlations = rank_correlations(panel.values[:, :, passed], axis=labels.axis)
    groups = [
        [passed[i] for i in group]
        for group in cluster(correlations, correlation_min=thresholds.cluster_correlation_min)
    ]
    representatives = [_representative(group, carries, measured) for group in groups]
    chosen = sorted(f for f in representatives if f is not None)
    progress(f"{len(groups)} clusters, {len(chosen)} with a representative")
    models, note = _models(panel, chosen, labels, thresholds=thresholds)
    return Found(
        qualities=[it.quality for it in measured],
        informations=[it.information for it in measured],
        lives=[
            half_life(labels.ages, it.information.by_age, t=it.information.ic.t) if it.information else None
            for it in measured
        ],
        filter_faults=[it.fault for it in measured],
        information_faults={f: _fault_of_information(measured[f], q[f], labels, thresholds) for f in passed},
        q=q,
        groups=groups,
        representatives=representatives,
        correlations={(f, g): float(correlations[i, j]) for i, f in enumerate(passed) for j, g in enumerate(passed)},
        chosen=chosen,
        models=models,
        models_note=note,
        components=principal_components(panel, passed) if passed else None,
        passed=passed,
    )


def _discoveries(measured: Sequence[_Measured], passed: Sequence[int]) -> dict[int, float]:
    """Return the false discovery rate at which each feature would still be a discovery; NaN where p is unknown."""
    tested = [f for f in passed if _is_known(measured[f])]
    adjusted = false_discovery_control([measured[f].information.ic.p for f in tested]) if tested else []  # type: ignore[union-attr]
    return {f: float("nan") for f in passed} | {f: float(q) for f, q in zip(tested, adjusted, strict=True)}


def _is_known(it: _Measured) -> bool:
    return it.information is not None and it.information.ic.is_known


def _fault_of_information(it: _Measured, q: float, labels: Labels, thresholds: Thresholds) -> str | None:
    if it.information is None or not it.information.ic.is_known:
        return (
            f"{labels.n_apart} labels in a row and {labels.block_ends.size} days at a lag of {labels.lag_blocks} are "
            "too few: information is unknown"
        )
    if not q <= thresholds.false_discovery_max:
        return f"IC {it.information.ic.mean:+.4f} is no discovery: q {q:.3f} > {thresholds.false_discovery_max:g}"
    n_same = same_sign_parts(it.information, thresholds.n_parts)
    if n_same < thresholds.same_sign_parts_min:
        return (
            f"its IC keeps its sign in {n_same} of {thresholds.n_parts} parts of the window, at least "
            f"{thresholds.same_sign_parts_min}"
        )
    return None


def _representative(group: Sequence[int], carries: Sequence[int], measured: Sequence[_Measured]) -> int | None:
    """Return the member with the largest |t|, the first among equals; None where none carries information."""
    able = set(carries)
    found = [(abs(it.ic.t), -f) for f in group if f in able and (it := measured[f].information) is not None]
    return -max(found)[1] if found else None


def _models(
    panel: FeaturePanel, chosen: Sequence[int], labels: Labels, *, thresholds: Thresholds
) -> tuple[tuple[ModelFit, ...], str]:
    if not chosen:
        return (), "no feature carries information: there is nothing to fit"
    try:
        return fit_models(
            panel, chosen, labels.returns, horizon_bars=labels.horizon_bars, thresholds=thresholds
        ), ""  # fmt: skip
    except TooShort as error:
        return (), f"the window is too short for folds of this horizon: {error}"


def _reference(panel: FeaturePanel, asked: Asked) -> DriftReference:
    has_bar = panel.has_bar()
    bins = []
    for f, name in enumerate(panel.names):
        found = reference_bins(name, panel.values[:, :, f][has_bar])
        bins.append(found)
    return DriftReference(
        DRIFT_FORMAT, asked.feature_signature, asked.source.after_us, asked.source.until_us, tuple(bins)
    )
