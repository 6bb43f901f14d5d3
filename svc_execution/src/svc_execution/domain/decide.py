"""The targets of one bar: trade the difference to the positions on the next bar, or say why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from qraft_contracts.orders import Order, order_id
from qraft_contracts.origin import worst_origin
from qraft_contracts.targets import ScoreSummary, Target, Targets
from qraft_contracts.times import format_instant
from qraft_quant.execution import ORDER_REASONS, Decisions, bar_volatility, decide_orders, is_order
from svc_execution.domain.closes import CloseWindow
from svc_execution.domain.refusals import N_EXAMPLES, VenueLimits, refuse_all
from svc_execution.domain.state import DecisionRecord, KillSwitch, OpenOrder, Refusal, State

# Answers of the kernel that turn a target away, rather than find nothing to do.
_REFUSED = frozenset({"nan_price", "nan_target", "no_equity"})
# Leaving a symbol that no target names any more is wanted now: it pays for the short policy.
_EXIT_POLICY = "short"


@dataclass(frozen=True, slots=True)
class OrderRules:
    """band: fraction of equity; min_notional: quote currency."""

    band: float
    min_notional: float
    venue: VenueLimits


class ActiveModel(msgspec.Struct, frozen=True):
    """The model behind one horizon's share of the targets."""

    horizon: str
    model_id: str


class TargetsSummary(msgspec.Struct, frozen=True):
    """What the desk shows of the newest targets."""

    weights: dict[str, float]
    scores: tuple[ScoreSummary, ...]
    models: tuple[ActiveModel, ...]


def decide_targets(
    state: State, window: CloseWindow, targets: Targets, *, kill_switch: KillSwitch, rules: OrderRules, sha256: str
) -> tuple[State, DecisionRecord]:
    """
    Return the state after the targets of its last bar, and what they add to the journal.

    Uses closes up to that bar only; a held symbol that is not named has the target 0.
    """
    assert state.last_bar_at == targets.as_of, f"expected targets of {state.last_bar_at}, received {targets.as_of}"
    assert state.origin is not None
    refusal = refuse_all(targets, bar_origin=state.origin, kill_switch=kill_switch, venue=rules.venue, sha256=sha256)
    orders: tuple[OpenOrder, ...] = ()
    refusals: tuple[Refusal, ...] = (refusal,) if refusal else ()
    if not targets.hold and refusal is None:
        orders, refusals = _decide(state, window, targets, rules, sha256)
    record = DecisionRecord(
        as_of=targets.as_of,
        origin=worst_origin([targets.origin, state.origin]),
        sha256=sha256,
        profile=targets.profile,
        hold=targets.hold,
        hold_reason=(targets.reason or "hold") if targets.hold else None,
        orders=orders,
        refusals=refusals,
        summary=msgspec.json.encode(_summary(targets), order="deterministic"),
    )
    return _after(state, record), record


def hold(state: State, *, reason: str) -> tuple[State, DecisionRecord]:
    """Return the state when the targets of its last bar do not come: positions stay, nothing is traded."""
    assert state.last_bar_at is not None
    assert state.origin is not None
    record = DecisionRecord(
        as_of=state.last_bar_at,
        origin=state.origin,
        sha256=None,
        profile=None,
        hold=True,
        hold_reason=reason,
        orders=(),
        refusals=(),
        summary=None,
    )
    return _after(state, record), record


def _after(state: State, record: DecisionRecord) -> State:
    return replace(
        state,
        open_orders=record.orders,
        last_targets_at=record.as_of,
        origin=record.origin,
        n_events=state.n_events + 1,
    )


def _decide(
    state: State, window: CloseWindow, targets: Targets, rules: OrderRules, sha256: str
) -> tuple[tuple[OpenOrder, ...], tuple[Refusal, ...]]:
    named = {target.symbol: target for target in targets.targets}
    positions = state.account.positions
    symbols = sorted(named.keys() | positions.keys())
    rows = window.rows(symbols)
    held = np.array([positions[s].quantity if s in positions else 0.0 for s in symbols], np.float64)
    decisions = decide_orders(
        target_weights=np.array([named[s].weight if s in named else 0.0 for s in symbols], np.float64),
        positions=held,
        close=rows[-1].copy(),
        valid=np.isfinite(rows[-1]),
        equity=state.account.equity,
        band=rules.band,
        min_notional=rules.min_notional,
    )
    places = [i for i, code in enumerate(decisions.codes.tolist()) if is_order(code)]
    sigmas: list[float] = bar_volatility(np.ascontiguousarray(rows[:, places])).tolist()
    draft = _Draft(state, targets, named, format_instant(targets.as_of))
    orders = tuple(
        OpenOrder(draft.order(symbols[i], decisions, i, close=float(rows[-1, i]), held=float(held[i])), sigma)
        for i, sigma in zip(places, sigmas, strict=True)
        if math.isfinite(sigma)
    )
    unknown = [symbols[i] for i, sigma in zip(places, sigmas, strict=True) if not math.isfinite(sigma)]
    never_seen = np.asarray(~np.isfinite(rows).any(axis=0), np.bool_)
    reasons = _refused_symbols(symbols, decisions.codes, never_seen) | ({"no_volatility": unknown} if unknown else {})
    return orders, tuple(
        Refusal(targets.as_of, reason, len(found), tuple(found[:N_EXAMPLES]), sha256)
        for reason, found in sorted(reasons.items())
    )


def _refused_symbols(
    symbols: Sequence[str], codes: np.typing.NDArray[np.int8], never_seen: np.typing.NDArray[np.bool_]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for i, symbol in enumerate(symbols):
        reason = ORDER_REASONS[codes[i]]
        if reason in _REFUSED:
            is_unknown = reason == "nan_price" and bool(never_seen[i])
            found.setdefault("unknown_symbol" if is_unknown else reason, []).append(symbol)
    return found


@dataclass(frozen=True, slots=True)
class _Draft:
    """What all orders of one decision share."""

    state: State
    targets: Targets
    named: dict[str, Target]
    as_of: str

    def order(self, symbol: str, decisions: Decisions, i: int, *, close: float, held: float) -> Order:
        """Return the order of the i-th symbol."""
        target = self.named.get(symbol)
        quantity = float(decisions.quantities[i])
        assert self.state.origin is not None
        return Order(
            order_id=order_id(self.state.market, self.as_of, symbol),
            market=self.state.market,
            symbol=symbol,
            side="buy" if quantity > 0.0 else "sell",
            quantity=abs(quantity),
            decided_at=self.targets.as_of,
            theoretical_price=close,
            target_weight=target.weight if target else 0.0,
            position_before=held,
            policy=target.policy if target else _EXIT_POLICY,
            reason=ORDER_REASONS[decisions.codes[i]],
            profile=self.targets.profile,
            origin=worst_origin([self.targets.origin, self.state.origin]),
        )


def _summary(targets: Targets) -> TargetsSummary:
    models = sorted({(share.horizon, share.model_id) for t in targets.targets for share in t.horizons})
    return TargetsSummary(
        weights={target.symbol: target.weight for target in targets.targets},
        scores=targets.scores,
        models=tuple(ActiveModel(horizon, model_id) for horizon, model_id in models),
    )
