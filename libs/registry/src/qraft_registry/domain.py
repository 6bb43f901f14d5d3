"""
Slots, stages and decisions of the registry, and the state that follows from them.

Nothing here is ever changed in place: what is active is the fold of all decisions up to an instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZON_SECONDS, HORIZONS

ALL_SYMBOLS: Final = "all"
# The artefact key of a model is made from its id, so an id that could leave its folder is no id.
_MODEL_ID = re.compile(r"m[0-9a-f]{16}")
_GROUP = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Stage(StrEnum):
    """How far a model has come in a slot."""

    CANDIDATE = "candidate"
    PAPER = "paper"
    QUALIFIED = "qualified"


class Action(StrEnum):
    """What a decision did. REFUSED changed nothing and is kept all the same."""

    CANDIDATE = "candidate"
    ACTIVATED = "activated"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One place that a model can hold: a symbol group and a horizon."""

    symbol_group: str
    horizon: str

    def __post_init__(self) -> None:
        if not _GROUP.fullmatch(self.symbol_group):
            raise ValueError(f"expected a symbol group such as {ALL_SYMBOLS!r}, received {self.symbol_group!r}")
        if self.horizon not in HORIZON_SECONDS:
            raise ValueError(f"expected a horizon out of {list(HORIZONS)}, received {self.horizon!r}")


@dataclass(frozen=True, slots=True)
class Decision:
    """
    One line of the history.

    seq: gapless from 1, the order in which decisions count. stage: the one the model is in, or was refused for.
    reason: the actor's words. refusal: why a rule said no, None unless action is REFUSED. evidence: artefact name
    to SHA-256. model_id of a rollback is the model that returned, previous_model_id the one it replaced.
    """

    seq: int
    decision_id: str
    action: Action
    model_id: str
    slot: Slot
    stage: Stage
    actor: str
    reason: str
    decided_at: datetime
    origin: Origin
    evidence: Mapping[str, str] = field(default_factory=dict)
    previous_model_id: str | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class SlotState:
    """
    What follows from a slot's decisions. active: every activation that still stands, the newest last; the one
    before it is where a rollback returns to. stages: the highest stage of each model known in the slot.
    """

    active: tuple[Decision, ...] = ()
    candidates: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def current(self) -> Decision | None:
        """Return the activation in force: who activated which model, when, on what evidence."""
        return self.active[-1] if self.active else None

    @property
    def before(self) -> Decision | None:
        """Return the activation that a rollback would bring back."""
        return self.active[-2] if len(self.active) > 1 else None


def fold(decisions: Iterable[Decision], *, at: datetime | None = None) -> dict[Slot, SlotState]:
    """
    Return the state of every slot after the decisions made at or before an instant (None = all of them).

    Args:
        decisions: in the order of seq.
    """
    slots: dict[Slot, SlotState] = {}
    for decision in decisions:
        if at is not None and decision.decided_at > at:
            break
        slots[decision.slot] = _apply(slots.get(decision.slot, SlotState()), decision)
    return slots


def _apply(state: SlotState, decision: Decision) -> SlotState:
    match decision.action:
        case Action.CANDIDATE:
            return SlotState(state.active, {**state.candidates, decision.model_id: decision})
        case Action.ACTIVATED:
            return SlotState((*state.active, decision), state.candidates)
        case Action.ROLLED_BACK:
            return SlotState(state.active[:-1], state.candidates)
        case Action.REFUSED:
            return state


def is_model_id(text: str) -> bool:
    """Return whether a text has the form of a model id: `m` and the first 16 hex digits of a SHA-256."""
    return _MODEL_ID.fullmatch(text) is not None
