"""The bus as the outbox relay sees it: it says when messages are on the stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qraft_bus.outbox import PublishesMany
from qraft_bus.port import OutMessage, PublishAck


class TellingBus:
    """Publishes to the bus inside and calls `published` after each stored batch."""

    def __init__(self, inner: PublishesMany, *, published: Callable[[Sequence[OutMessage]], None]) -> None:
        self._inner = inner
        self._published = published

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Store messages in order."""
        receipts = await self._inner.publish_many(messages)
        self._published(messages)
        return receipts
