"""What the registry needs of a store of decisions. Adapters: `postgres.py` and its twin `memory.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from qraft_bus.port import Bus
from qraft_contracts.origin import Origin
from qraft_registry.domain import Action, Decision, Slot, Stage


@dataclass(frozen=True, slots=True)
class Draft:
    """A decision before it has its place in the history; the fields are those of Decision."""

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


class Conflict(Exception):
    """The history grew since it was read. Read again and decide anew."""


class RegistryStore(Protocol):
    """An append-only history of decisions, each published once it is stored."""

    async def decisions(self) -> list[Decision]:
        """
        Return all decisions by seq.

        Raises:
            Transient: if the store is away.
        """
        ...

    async def append(self, drafts: Sequence[Draft], *, expected_seq: int) -> list[Decision]:
        """
        Store decisions after the one with expected_seq (0 = none yet), all or none, together with their messages.

        Raises:
            Conflict: if the newest stored decision is another one.
            Transient: if the store is away (it may have stored them; read before trying again).
        """
        ...

    async def publish_pending(self, bus: Bus) -> int:
        """
        Publish what is stored and not yet published, in order, and return how many messages that were.

        Raises:
            Transient: if the store or the bus is away; nothing is lost, the next call goes on from there.
        """
        ...
