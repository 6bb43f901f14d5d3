"""What the services need of a bus. Two adapters, one behaviour suite: `nats.py` and its twin `memory.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from qraft_contracts.origin import Origin

RETRY_LATER_S_MAX: Final = 3_600.0  # longer pauses belong into a store with a clock, not into a queue
N_CONCURRENT_MAX: Final = 1_000  # of one work queue; each is a task and a message in memory


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


class RetryLater(Exception):
    """
    Raised by a work handler: nothing is wrong, the message shall come again after `delay_s`.

    The handler's own slot is free at once. On the server the message goes on counting to the cap until it comes
    again, so a provider that says "wait" gets fewer calls meanwhile, not the next waiting job.
    """

    def __init__(self, delay_s: float, reason: str = "") -> None:
        if not 0 <= delay_s <= RETRY_LATER_S_MAX:
            raise ValueError(f"expected a delay of 0 to {RETRY_LATER_S_MAX:.0f} s, received {delay_s}")
        super().__init__(f"again in {delay_s:g} s: {reason}" if reason else f"again in {delay_s:g} s")
        self.delay_s = delay_s
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WorkSubscription:
    """
    A durable work queue and its handler: many at once, in no order, each message until it is done.

    Of all processes on one durable together, at most n_concurrent messages are with a handler or wait for their retry.
    The handler returns = done, the message is acknowledged. Malformed → dead letter. Refused → counted, done.
    Transient → it comes again after a growing pause. RetryLater → it comes again after that pause. Any other exception
    → the bus is fatal. A message comes again without end: its owner's own store bounds the attempts. It also comes
    again when its process dies, ack_wait_s later at most; a handler may take as long as it wants. After a crash of the
    server a message may come again, counted from 1, while its first handler is at work: the owner's store decides.
    """

    subject: str  # may hold wildcards
    durable: str
    handler: Handler
    schemas: tuple[str, ...]  # accepted Qraft-Schema values; anything else is Malformed
    n_concurrent: int
    ack_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_concurrent <= N_CONCURRENT_MAX or self.ack_wait_s <= 0:
            raise ValueError(
                f"expected n_concurrent of 1 to {N_CONCURRENT_MAX} and an ack_wait_s above 0, received "
                f"{self.n_concurrent} and {self.ack_wait_s}"
            )


AnswerHandler = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Answerer:
    """
    Answers the requests on one subject; each request goes to one member of the queue group.

    Handlers run at once, up to n_concurrent_max; beyond it, `overloaded` gives the answer, at once. The handler gets
    the bytes and the headers and returns the answer; one that returns a future (such as a place in a queue) costs no
    task. Malformed, Refused and Transient are raised again at the caller; any other exception is fatal to the bus, and
    the caller hears nothing (a time-out, which is Transient).
    """

    subject: str
    queue: str
    handler: AnswerHandler
    overloaded: Callable[[], bytes]
    n_concurrent_max: int = 4096

    def __post_init__(self) -> None:
        if self.n_concurrent_max < 1:
            raise ValueError(f"expected n_concurrent_max of at least 1, received {self.n_concurrent_max}")


class Bus(Protocol):
    """Publish with ids, consume in order, work, ask and answer, stop without losing anything."""

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

    def work(self, work: WorkSubscription) -> None:
        """Register a work queue; before `start`."""
        ...

    def answer(self, answerer: Answerer) -> None:
        """Register an answerer; before `start`."""
        ...

    async def request(
        self, subject: str, data: bytes, *, schema: str, timeout_s: float, cause: Mapping[str, str] | None = None
    ) -> bytes:
        """
        Ask whoever answers a subject and return the answer.

        Args:
            subject: without wildcards.
            data: the question, in `schema`.
            schema: stands in the header.
            timeout_s: how long to wait for the answer.
            cause: headers of the message that caused the question; its trace is carried on.

        Raises:
            Transient: if nobody answers the subject, not in time, or the connection is away or was lost meanwhile. The
                question may have been, or may still be, acted on: it needs an id of its own to be asked again.
            Malformed, Refused: if the answerer's handler said so.
        """
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
