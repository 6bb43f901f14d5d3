"""Put together what the stages found: one finding a feature, each with the stage where it ended and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from qraft_screening.drift import Drift
from qraft_screening.half_life import Decay, HalfLife
from qraft_screening.information import Information, Labels, months_of
from qraft_screening.linear import N_COMPONENTS_NAMED, T_MIN, Components, ModelFit
from qraft_screening.panel import FeaturePanel
from qraft_screening.quality import Quality, QualityRules
from qraft_screening.report import (
    ClusterFinding,
    ComponentFinding,
    FeatureFinding,
    ModelFinding,
    MonthDrift,
    MonthInformation,
    tidy,
)
from qraft_screening.thresholds import Thresholds

SELECTED: Final = "selected"
# In the order of the pipeline; each count is of what is left after it.
STAGES: Final = ("missing", "variance", "stability", "information", "cluster", "model")
_VARIANCE: Final = 0.9
_LOADINGS_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class Found:
    """What the stages found, by number of the feature. representatives: by group, None = no member is informative."""

    qualities: Sequence[Quality]
    informations: Sequence[Information | None]
    lives: Sequence[HalfLife | None]
    filter_faults: Sequence[tuple[str, str] | None]
    information_faults: dict[int, str | None]
    q: dict[int, float]
    groups: Sequence[Sequence[int]]
    representatives: Sequence[int | None]
    correlations: dict[tuple[int, int], float]
    chosen: Sequence[int]
    models: Sequence[ModelFit]
    models_note: str
    components: Components | None
    passed: Sequence[int]


def assemble(
    panel: FeaturePanel, labels: Labels, rules: QualityRules, found: Found, *, thresholds: Thresholds
) -> dict[str, Any]:
    """Return the fields of the report that the stages found."""
    features = tuple(_feature(f, panel, labels, rules, found, thresholds) for f in range(len(panel.features)))
    left, counts = len(features), {"screened": len(features)}
    for stage in STAGES:
        left -= sum(it.stage == stage for it in features)
        counts[stage] = left
    return {
        "counts": counts,
        "features": features,
        "clusters": tuple(
            ClusterFinding(k, "" if best is None else panel.names[best], tuple(panel.names[f] for f in group))
            for k, (group, best) in enumerate(zip(found.groups, found.representatives, strict=True))
        ),
        "components": _components(found, panel.names),
        "n_for_90": 0 if found.components is None else _n_for(found.components.shares),
        "models": tuple(
            ModelFinding(
                it.name, it.penalty_frac, float(f"{it.r2:.6g}"), tuple(float(f"{r2:.6g}") for r2 in it.r2_of_folds),
                int((it.coefficients != 0.0).sum()), tidy(it.gain.t),
            )
            for it in found.models
        ),
        "models_note": found.models_note,
    }  # fmt: skip


def _feature(
    f: int, panel: FeaturePanel, labels: Labels, rules: QualityRules, found: Found, thresholds: Thresholds
) -> FeatureFinding:
    about, quality, information, life = panel.features[f], found.qualities[f], found.informations[f], found.lives[f]
    group = next((k for k, members in enumerate(found.groups) if f in members), None)
    best = None if group is None else found.representatives[group]
    stage, reason = _verdict(f, best, panel, found, thresholds)
    ic = None if information is None else information.ic
    place = found.chosen.index(f) if f in found.chosen else None
    return FeatureFinding(
        name=about.name,
        family=about.family,
        formula=about.formula,
        window=about.window,
        signature=about.signature,
        stage=stage,
        reason=reason,
        known_frac=round(quality.known_frac, 6),
        commonest_frac=round(quality.commonest_frac, 6),
        coverage=tuple(tuple(round(float(it), 4) for it in row) for row in quality.coverage),
        drift=tuple(month_drift(month, drift) for month, drift in quality.drift),
        median_psi=tidy(quality.median_psi),
        ic=None if ic is None else tidy(ic.mean),
        error=None if ic is None else tidy(ic.error),
        t=None if ic is None else tidy(ic.t),
        p=None if ic is None else tidy(ic.p),
        q=tidy(found.q.get(f, float("nan"))),
        ir=None if information is None else tidy(information.ir),
        same_sign_parts=None if information is None else same_sign_parts(information, thresholds.n_parts),
        months=() if information is None else monthly_information(information, labels, rules.months),
        by_age=() if information is None else tuple(tidy(it) for it in information.by_age),
        decay=(Decay.NO_INFORMATION if life is None else life.verdict).value,
        half_life_bars=None if life is None else tidy(life.bars),
        cluster=group,
        representative="" if best is None else panel.names[best],
        correlation=None if best is None else tidy(found.correlations[f, best]),
        coefficients={} if place is None else {it.name: float(f"{it.coefficients[place]:.6g}") for it in found.models},
        fold_share={} if place is None else {it.name: round(float(it.fold_share[place]), 4) for it in found.models},
    )


def _verdict(f: int, best: int | None, panel: FeaturePanel, found: Found, thresholds: Thresholds) -> tuple[str, str]:
    """Return where a feature ended and why; `selected` if it came through."""
    fault = found.filter_faults[f]
    if fault is not None:
        return fault
    said = found.information_faults[f]
    if said is not None:
        return "information", said
    assert best is not None  # a feature that carries information gives its cluster a representative
    if best != f:
        return "cluster", f"{panel.names[best]} says the same: rank correlation {found.correlations[f, best]:+.2f}"
    able = [it for it in found.models if it.beats_the_mean]
    if not able:
        return "model", found.models_note or _why_none(found.models)
    place = found.chosen.index(f)
    keepers = [
        it.name for it in able if it.coefficients[place] != 0.0 and it.fold_share[place] >= thresholds.fold_share_min
    ]
    if not keepers:
        return "model", f"{', '.join(it.name for it in able)} set its weight to zero, or in most folds"
    return SELECTED, f"carries information, stands for its cluster, kept by {' and '.join(keepers)}"


def _why_none(models: Sequence[ModelFit]) -> str:
    if any(it.r2 > 0.0 and not it.gain.is_known for it in models):
        return "too few days of unseen rows: whether a linear model beats the training mean is unknown"
    best = max(models, key=lambda it: it.r2)
    t = f"t {best.gain.t:.2f}" if best.gain.is_known else "no t"
    return f"no linear model beat the training mean on unseen rows (R² > 0, t > {T_MIN:g}): best {best.r2:+.5f}, {t}"


def same_sign_parts(information: Information, n_parts: int) -> int:
    """Return in how many of n_parts equal parts of the window the IC has the sign of the whole."""
    n = information.daily.counts.size
    part = np.arange(n) * n_parts // n
    return sum(information.daily.part(part == k) * information.ic.mean > 0.0 for k in range(n_parts))


def monthly_information(
    information: Information, labels: Labels, months: Sequence[str]
) -> tuple[MonthInformation, ...]:
    """Return the IC of each month."""
    of_block = months_of(labels.block_ends)
    return tuple(
        MonthInformation(
            month,
            int(information.daily.counts[of_block == month].sum()),
            tidy(information.daily.part(of_block == month)),
        )
        for month in months
    )


def month_drift(month: str, drift: Drift) -> MonthDrift:
    """Return the drift of a month as it is reported."""
    return MonthDrift(month, drift.n, tidy(drift.psi), tidy(drift.ks), drift.verdict.value)


def _n_for(shares: Any) -> int:
    total, n = 0.0, 0
    for share in shares:
        if total >= _VARIANCE:
            break
        total, n = total + float(share), n + 1
    return n


def _components(found: Found, names: Sequence[str]) -> tuple[ComponentFinding, ...]:
    if found.components is None:
        return ()
    named = []
    for share, loadings in list(zip(found.components.shares, found.components.loadings, strict=True))[
        :N_COMPONENTS_NAMED
    ]:
        order = np.argsort(-np.abs(loadings), kind="stable")[:_LOADINGS_NAMED]
        sign = np.sign(loadings[order[0]])  # a component has no sign of its own
        named.append(
            ComponentFinding(
                round(float(share), 6),
                tuple((names[found.passed[i]], round(float(sign * loadings[i]), 4)) for i in order),
            )
        )
    return tuple(named)
