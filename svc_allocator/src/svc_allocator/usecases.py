"""Decide one bar's targets: signals and correlations in, one Targets message out. Pure."""

from __future__ import annotations

import numpy as np

from qraft_contracts.origin import worst_origin
from qraft_contracts.signals import Signals
from qraft_contracts.subjects import HORIZON_SECONDS
from qraft_contracts.targets import HorizonShare, Limits, RefusedTarget, ScoreSummary, Target, Targets
from qraft_quant.allocation import (
    Allocation,
    AllocationLimits,
    Correlations,
    HorizonRows,
    ScoreStatistics,
    TargetWeight,
    allocate,
)
from qraft_quant.costs import policy_of_horizon
from svc_allocator.domain.join import JoinedBar

INCOMPLETE_SIGNALS = "incomplete_signals"
NO_SIGNALS = "no_signals"
NO_USABLE_SIGNALS = "no_usable_signals"


def decide_targets(bar: JoinedBar, correlations: Correlations | None, limits: AllocationLimits) -> Targets:
    """
    Return the bar's targets; hold = True where nothing could be decided.

    Hold, with the reason: a horizon is missing; no horizon has a row (their common reason, such as no_active_model,
    or no_signals); rows came but every one has an unusable number.
    """
    if not bar.is_complete:
        return _message(bar, limits, hold_reason=INCOMPLETE_SIGNALS)
    allocation = allocate([_rows(signals) for signals in bar.signals], correlations, limits)
    return _message(bar, limits, allocation=allocation, hold_reason=_hold_reason(bar, allocation))


def _rows(signals: Signals) -> HorizonRows:
    columns = np.array(
        [(row.expected_return, row.confidence, row.volatility) for row in signals.rows], dtype=np.float64
    ).reshape(-1, 3)
    return HorizonRows(
        horizon=signals.horizon,
        horizon_s=float(HORIZON_SECONDS[signals.horizon]),
        bucket=signals.bucket,
        cost=signals.cost,
        symbols=tuple(row.symbol for row in signals.rows),
        expected_return=columns[:, 0],
        confidence=columns[:, 1],
        volatility=columns[:, 2],
    )


def _hold_reason(bar: JoinedBar, allocation: Allocation) -> str | None:
    if any(scores.score_max is not None for scores in allocation.scores):
        return None
    if any(signals.rows for signals in bar.signals):
        return NO_USABLE_SIGNALS
    reasons = {signals.reason for signals in bar.signals}
    return (reasons.pop() or NO_SIGNALS) if len(reasons) == 1 else NO_SIGNALS


def _message(
    bar: JoinedBar, limits: AllocationLimits, *, hold_reason: str | None, allocation: Allocation | None = None
) -> Targets:
    first = bar.signals[0]
    by_horizon = {signals.horizon: signals for signals in bar.signals}
    found = allocation or Allocation((), (), (), 0.0, 0.0)
    return Targets(
        market=first.market,
        interval=first.interval,
        as_of=bar.as_of,
        origin=worst_origin(signals.origin for signals in bar.signals),
        profile=limits.profile,
        targets=tuple(_target(target, by_horizon) for target in found.targets),
        limits=_limits(limits),
        scores=tuple(_summary(scores, by_horizon[scores.horizon].reason) for scores in found.scores),
        refused=tuple(RefusedTarget(refusal.reason, refusal.n, refusal.examples) for refusal in found.refused),
        hold=hold_reason is not None,
        reason=hold_reason,
    )


def _target(target: TargetWeight, by_horizon: dict[str, Signals]) -> Target:
    shares = tuple(
        HorizonShare(
            horizon=share.horizon,
            bucket=share.bucket,
            weight=share.weight,
            score=share.score,
            edge=share.edge,
            confidence=share.confidence,
            model_id=by_horizon[share.horizon].model_id or "",
        )
        for share in target.shares
    )
    return Target(target.symbol, target.weight, policy_of_horizon(target.dominant), shares)


def _summary(scores: ScoreStatistics, reason: str | None) -> ScoreSummary:
    return ScoreSummary(
        horizon=scores.horizon,
        n_rows=scores.n_rows,
        n_passed=scores.n_passed,
        score_min=scores.score_min,
        score_p50=scores.score_p50,
        score_p90=scores.score_p90,
        score_max=scores.score_max,
        threshold=scores.threshold,
        distance=scores.distance,
        reason=reason,
    )


def _limits(limits: AllocationLimits) -> Limits:
    return Limits(
        score_min=dict(limits.score_min),
        confidence_min=dict(limits.confidence_min),
        risk_budget=limits.risk_budget,
        gross_max=limits.gross_max,
        symbol_cap=limits.symbol_cap,
        bucket_caps=dict(limits.bucket_caps),
        correlation_max=limits.correlation_max,
    )
