"""The decisions in memory: the twin of `postgres.py`, for tests and for one process."""

from __future__ import annotations

from collections.abc import Sequence

from qraft_bus.port import Bus
from qraft_registry.domain import Decision
from qraft_registry.messages import decide, to_message
from qraft_registry.ports import Conflict, Draft


class MemoryRegistryStore:
    """A RegistryStore that forgets with its process."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._n_published = 0

    async def decisions(self) -> list[Decision]:
        """See RegistryStore."""
        return list(self._decisions)

    async def append(self, drafts: Sequence[Draft], *, expected_seq: int) -> list[Decision]:
        """See RegistryStore."""
        if expected_seq != len(self._decisions):
            raise Conflict(f"expected the history to end at {expected_seq}, it ends at {len(self._decisions)}")
        added = [decide(draft, seq=expected_seq + i) for i, draft in enumerate(drafts, start=1)]
        self._decisions.extend(added)
        return added

    async def publish_pending(self, bus: Bus) -> int:
        """See RegistryStore."""
        pending = self._decisions[self._n_published :]
        if pending:
            await bus.publish_many([to_message(decision) for decision in pending])
        self._n_published += len(pending)
        return len(pending)
