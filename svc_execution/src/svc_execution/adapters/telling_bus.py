"""The bus as the outbox relay sees it: it says when messages are on the stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qraft_bus.port import Bus, Delivery, OutMessage, PublishAck, Subscription


class TellingBus:
    """A Bus that calls `published` after each stored batch. Only publishing differs from the bus inside."""

    def __init__(self, inner: Bus, *, published: Callable[[Sequence[OutMessage]], None]) -> None:
        self._inner = inner
        self._published = published

    @property
    def is_connected(self) -> bool:
        """Return whether the bus can serve right now."""
        return self._inner.is_connected

    @property
    def why_not_connected(self) -> str | None:
        """Return what is missing to serve, or None."""
        return self._inner.why_not_connected

    async def publish(self, message: OutMessage) -> PublishAck:
        """Store one message."""
        return (await self.publish_many([message]))[0]

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Store messages in order."""
        receipts = await self._inner.publish_many(messages)
        self._published(messages)
        return receipts

    def subscribe(self, subscription: Subscription) -> None:
        """Register a subscription."""
        self._inner.subscribe(subscription)

    async def start(self) -> None:
        """Begin to consume."""
        await self._inner.start()

    async def drain(self) -> None:
        """Stop."""
        await self._inner.drain()

    async def last(self, subject: str) -> Delivery | None:
        """Return the newest stored message of a subject."""
        return await self._inner.last(subject)

    async def lag(self, stream: str, durable: str) -> int:
        """Return how many messages a durable has not finished."""
        return await self._inner.lag(stream, durable)

    async def slowest_lag(self, stream: str) -> int:
        """Return the largest lag of all durables of a stream."""
        return await self._inner.slowest_lag(stream)

    async def wait_fatal(self) -> str:
        """Wait until the bus can no longer serve and say why."""
        return await self._inner.wait_fatal()
