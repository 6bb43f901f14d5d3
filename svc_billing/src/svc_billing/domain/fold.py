"""A batch of commands in order: each is decided on what the ones before it left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.billing import BillingReply
from svc_billing.domain.apply import apply
from svc_billing.domain.decide import Checked, answer, decide
from svc_billing.domain.events import Event, StoredEvent, seal
from svc_billing.domain.state import State


@dataclass(frozen=True, slots=True)
class Folded:
    """The new events, and one answer a command."""

    events: list[StoredEvent]
    replies: list[BillingReply]


def fold(state: State, commands: Sequence[Checked], *, now: datetime) -> Folded:
    """Decide the commands in order and bring the state to after the last."""
    new: list[StoredEvent] = []
    replies: list[BillingReply] = []
    for checked in commands:
        outcome = decide(state, checked, now=now)
        if isinstance(outcome, Event):
            stored = seal(outcome, state.hash)
            apply(state, stored)
            new.append(stored)
            outcome = answer(outcome, is_replay=False)
        replies.append(outcome)
    return Folded(new, replies)
