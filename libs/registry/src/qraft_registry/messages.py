"""A decision as the message that tells of it."""

from __future__ import annotations

import hashlib
from typing import Final

from qraft_bus.port import OutMessage
from qraft_contracts.codec import encode
from qraft_contracts.models import ModelDecision
from qraft_contracts.subjects import MODELS_ACTIVATED, MODELS_CANDIDATE, MODELS_REFUSED, MODELS_ROLLED_BACK
from qraft_contracts.times import format_instant
from qraft_registry.domain import Action, Decision
from qraft_registry.ports import Draft

_SUBJECTS: Final = {
    Action.CANDIDATE: MODELS_CANDIDATE,
    Action.ACTIVATED: MODELS_ACTIVATED,
    Action.ROLLED_BACK: MODELS_ROLLED_BACK,
    Action.REFUSED: MODELS_REFUSED,
}


def decide(draft: Draft, *, seq: int) -> Decision:
    """Return the draft as the decision with the given place in the history."""
    content = "|".join(
        (str(seq), draft.action, draft.model_id, draft.slot.symbol_group, draft.slot.horizon, draft.stage,
         draft.actor, draft.reason, draft.refusal or "", format_instant(draft.decided_at))
    )  # fmt: skip
    # The hash keeps ids of two databases apart (one wiped, the stream kept), so no message is taken for a duplicate.
    decision_id = f"d{seq:08d}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return Decision(
        seq=seq,
        decision_id=decision_id,
        action=draft.action,
        model_id=draft.model_id,
        slot=draft.slot,
        stage=draft.stage,
        actor=draft.actor,
        reason=draft.reason,
        decided_at=draft.decided_at,
        origin=draft.origin,
        evidence=draft.evidence,
        previous_model_id=draft.previous_model_id,
        refusal=draft.refusal,
    )


def to_message(decision: Decision) -> OutMessage:
    """Return the decision as its message on `models.*`. The reason of a refusal is the rule's, then the actor's."""
    asked = f" (asked for: {decision.reason})" if decision.refusal else ""
    payload = ModelDecision(
        decision_id=decision.decision_id,
        action=decision.action.value,
        model_id=decision.model_id,
        symbol_group=decision.slot.symbol_group,
        horizon=decision.slot.horizon,
        stage=decision.stage.value,
        actor=decision.actor,
        reason=(decision.refusal or decision.reason) + asked,
        decided_at=decision.decided_at,
        origin=decision.origin,
        evidence=dict(decision.evidence),
        previous_model_id=decision.previous_model_id,
    )
    return OutMessage(
        subject=_SUBJECTS[decision.action],
        data=encode(payload),
        message_id=f"models/{decision.decision_id}",
        schema=ModelDecision.SCHEMA,
        as_of=decision.decided_at,
        origin=decision.origin,
        lineage=decision.model_id,
    )
