"""What the services need of a bus. Two adapters, one behaviour suite: `nats.py` and its twin `memory.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from qraft_contracts.origin import Origin


@dataclass(frozen=True, slots=True)
class OutMessage:
    """One message to publish. `message_id` is made from what the message is, never from when it is sent."""

    subject: str
    data: bytes
    message_id: str
    schema: str
    as_of: datetime
    origin: Origin
    lineage: str
    # Headers of the message that caused this one: traceparent and hops are carried on from them.
    cause: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as received. n_delivered counts from 1."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    stream: str
    stream_seq: int
    n_delivered: int
    published_at: datetime


@dataclass(frozen=True, slots=True)
class PublishAck:
    """The stream's receipt. is_duplicate: the id was stored before, nothing was added; that is a success."""

    stream: str
    stream_seq: int
    is_duplicate: bool


Handler = Callable[[Delivery], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    A durable, ordered, explicitly acknowledged consumer and its handler.

    The handler returns = the effect and its publishes are stored, the message is acknowledged. It may raise the
    outcomes of qraft_contracts.outcomes; see qraft_bus.consume for what follows. Messages of one subscription are
    handled one at a time, in stream order. durable: also the name of the consumer on the server.
    """

    subject: str  # may hold wildcards, such as signals.*
    durable: str
    handler: Handler
    schemas: tuple[str, ...]  # accepted Qraft-Schema values; anything else is Malformed


class Bus(Protocol):
    """Publish with ids, consume in order, stop without losing anything."""

    @property
    def is_connected(self) -> bool:
        """Return whether the bus can serve right now; turns false within 10 s of losing what it needs."""
        ...

    @property
    def why_not_connected(self) -> str | None:
        """Return what is missing to serve, for the readiness page, or None."""
        ...

    async def publish(self, message: OutMessage) -> PublishAck:
        """
        Store one message on the stream of its subject and wait for the receipt.

        Raises:
            Transient: if the stream did not confirm in time (it may still store the message; the id guards).
        """
        ...

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Publish in order without waiting between them; return when all are stored. Raises Transient as above."""
        ...

    def subscribe(self, subscription: Subscription) -> None:
        """Register a subscription; before `start`."""
        ...

    async def start(self) -> None:
        """Connect, apply the streams and durables, begin to consume."""
        ...

    async def drain(self) -> None:
        """Stop fetching, let the handlers in progress finish, flush, disconnect."""
        ...

    async def last(self, subject: str) -> Delivery | None:
        """Return the newest stored message of a subject (wildcards allowed), or None."""
        ...

    async def lag(self, stream: str, durable: str) -> int:
        """Return how many stored messages a durable has not finished. Raises Transient if it cannot be known."""
        ...

    async def slowest_lag(self, stream: str) -> int:
        """Return the largest lag of all durables of a stream, 0 without any. Raises Transient as above."""
        ...

    async def wait_fatal(self) -> str:
        """Wait until the bus can no longer serve (bug in a handler, connection or durable lost) and say why."""
        ...
