"""The bus in memory: the twin of `nats.py` for tests and dry runs. The same policy and the same outcomes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.consume import Consumption
from qraft_bus.dead_letter import DeadLetterMessage
from qraft_bus.fatal import Fatal
from qraft_bus.memory_calls import MemoryAnswering, MemoryCalls
from qraft_bus.memory_work import MemoryWorker, WorkQueue
from qraft_bus.outgoing import outgoing_headers
from qraft_bus.port import Answerer, Delivery, OutMessage, PublishAck, Subscription, WorkSubscription
from qraft_bus.settings import BusSettings
from qraft_bus.streams import STREAMS, stream_of, subject_matches
from qraft_bus.work import Workload
from qraft_contracts import headers as names
from qraft_contracts.outcomes import Transient

MESSAGES_MAX: Final = 100_000  # per stream; older ones are dropped, as on the server


@dataclass(slots=True)
class _Stored:
    seq: int
    subject: str
    data: bytes
    headers: dict[str, str]
    stored_at: datetime


@dataclass(slots=True)
class _Stream:
    messages: deque[_Stored] = field(default_factory=lambda: deque(maxlen=MESSAGES_MAX))
    seq_of_id: dict[str, int] = field(default_factory=dict)
    last_seq: int = 0


@dataclass(slots=True)
class _Durable:
    """Position of one durable. lock: held by the bus that consumes it."""

    subject: str
    settled_seq: int = 0
    pending_seq: int = 0
    n_delivered: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryBroker:
    """What outlives a bus: streams, ids and the positions of durables."""

    def __init__(self) -> None:
        self._streams = {spec.name: _Stream() for spec in STREAMS}
        self._durables: dict[tuple[str, str], _Durable] = {}
        self._queues: dict[tuple[str, str], WorkQueue] = {}
        self.calls = MemoryCalls()
        self.changed = asyncio.Condition()

    def durable(self, subscription: Subscription) -> _Durable:
        """Return the durable of a subscription, made on first use."""
        key = (stream_of(subscription.subject), subscription.durable)
        found = self._durables.setdefault(key, _Durable(subscription.subject))
        found.subject = subscription.subject
        return found

    def queue(self, work: WorkSubscription) -> WorkQueue:
        """Return the work queue of a subscription, made on first use; its cap and ack wait are the last comer's."""
        stream = stream_of(work.subject)
        found = self._queues.setdefault(
            (stream, work.durable),
            WorkQueue(
                work.subject,
                lambda seq: self._deliver(stream, work.subject, after_seq=seq),
                work.n_concurrent,
                work.ack_wait_s,
            ),
        )
        found.n_concurrent, found.ack_wait_s = work.n_concurrent, work.ack_wait_s
        return found

    async def store(self, subject: str, data: bytes, headers: dict[str, str]) -> PublishAck:
        """Store one message unless its id is known."""
        stream_name = stream_of(subject)
        stream = self._streams[stream_name]
        known = stream.seq_of_id.get(headers[names.MESSAGE_ID])
        if known is not None:
            return PublishAck(stream_name, known, is_duplicate=True)
        stream.last_seq += 1
        stream.seq_of_id[headers[names.MESSAGE_ID]] = stream.last_seq
        stream.messages.append(_Stored(stream.last_seq, subject, data, dict(headers), datetime.now(UTC)))
        for queue in self._queues.values():
            queue.tell()
        async with self.changed:
            self.changed.notify_all()
        return PublishAck(stream_name, stream.last_seq, is_duplicate=False)

    def next_after(self, durable: _Durable) -> _Stored | None:
        """Return the first message past a durable's position that it wants."""
        return self._after(stream_of(durable.subject), durable.subject, seq=durable.settled_seq)

    def _after(self, stream_name: str, subject: str, *, seq: int) -> _Stored | None:
        stream = self._streams[stream_name]
        if seq >= stream.last_seq:
            return None
        # Positions are near the end in practice, so the gap is walked rather than the stream.
        first_seq = stream.last_seq - len(stream.messages) + 1
        for index in range(max(seq + 1 - first_seq, 0), len(stream.messages)):
            if subject_matches(subject, stream.messages[index].subject):
                return stream.messages[index]
        return None

    def _deliver(self, stream_name: str, subject: str, *, after_seq: int) -> Delivery | None:
        stored = self._after(stream_name, subject, seq=after_seq)
        return None if stored is None else _delivery(stream_name, stored, n_delivered=1)

    def last(self, subject: str) -> tuple[str, _Stored] | None:
        """Return the stream and the newest message of a subject."""
        stream_name = stream_of(subject)
        for stored in reversed(self._streams[stream_name].messages):
            if subject_matches(subject, stored.subject):
                return stream_name, stored
        return None

    def messages(self, stream_name: str) -> list[_Stored]:
        """Return what a stream holds, oldest first."""
        return list(self._streams[stream_name].messages)

    def lags(self, stream_name: str) -> dict[str, int]:
        """Return, for each durable of a stream, how many messages it has not settled."""
        behind = {
            durable_name: sum(
                stored.seq > durable.settled_seq and subject_matches(durable.subject, stored.subject)
                for stored in self._streams[stream_name].messages
            )
            for (of_stream, durable_name), durable in self._durables.items()
            if of_stream == stream_name
        }
        for (of_stream, durable_name), queue in self._queues.items():
            if of_stream == stream_name:
                n_new = sum(
                    stored.seq > queue.delivered_seq and subject_matches(queue.subject, stored.subject)
                    for stored in self._streams[stream_name].messages
                )
                behind[durable_name] = n_new + len(queue.held)
        return behind


class MemoryBus:
    """The twin; see `qraft_bus.port.Bus` for what it promises. Several buses on one broker see the same streams."""

    def __init__(self, broker: MemoryBroker, *, name: str, settings: BusSettings) -> None:
        self._broker = broker
        self._name = name
        self._settings = settings
        self._fatal = Fatal()
        self._subscriptions: list[Subscription] = []
        self._works: list[WorkSubscription] = []
        self._answerers: list[Answerer] = []
        self._workers: list[MemoryWorker] = []
        self._answering: list[MemoryAnswering] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._is_started = False
        self._is_draining = False
        self._is_closed = False  # handlers in progress publish and ask until the end of the drain

    @property
    def is_connected(self) -> bool:
        """Return whether the bus can serve right now."""
        return self.why_not_connected is None

    @property
    def why_not_connected(self) -> str | None:
        """Return what is missing to serve, or None."""
        return self._fatal.reason or (None if self._is_started and not self._is_draining else "not started")

    def subscribe(self, subscription: Subscription) -> None:
        """Register a subscription; before `start`."""
        if self._is_started:
            raise ValueError(f"expected subscriptions before start, received {subscription.durable!r} after it")
        self._broker.durable(subscription)
        self._subscriptions.append(subscription)

    @property
    def works(self) -> tuple[WorkSubscription, ...]:
        """Return the work queues that were registered."""
        return tuple(self._works)

    @property
    def answerers(self) -> tuple[Answerer, ...]:
        """Return the answerers that were registered."""
        return tuple(self._answerers)

    def work(self, work: WorkSubscription) -> None:
        """Register a work queue; before `start`."""
        if self._is_started:
            raise ValueError(f"expected subscriptions before start, received {work.durable!r} after it")
        self._broker.queue(work)
        self._works.append(work)

    def answer(self, answerer: Answerer) -> None:
        """Register an answerer; before `start`."""
        if self._is_started:
            raise ValueError(f"expected answerers before start, received {answerer.subject!r} after it")
        self._answerers.append(answerer)

    async def request(
        self, subject: str, data: bytes, *, schema: str, timeout_s: float, cause: Mapping[str, str] | None = None
    ) -> bytes:
        """Ask and return the answer; see the port."""
        if not self._is_started or self._is_closed:
            raise Transient("bus_away", "the bus is not started")
        calls = self._broker.calls
        return await calls.request(subject, data, schema=schema, timeout_s=timeout_s, cause=cause or {})

    async def start(self) -> None:
        """Begin to consume."""
        self._is_started = True
        self._answering = [self._broker.calls.open(answerer, fatal=self._fatal) for answerer in self._answerers]
        for work in self._works:
            load = Workload(work, settings=self._settings, fatal=self._fatal, bury=self._bury)
            worker = MemoryWorker(self._broker.queue(work), load, is_wanted=lambda: self._fatal.reason is None)
            self._workers.append(worker)
        for subscription in self._subscriptions:
            task = asyncio.create_task(self._consume(subscription))
            task.add_done_callback(self._on_end)
            self._tasks.append(task)

    async def drain(self) -> None:
        """Stop fetching and let handlers in progress finish (bounded)."""
        self._is_draining = True
        async with self._broker.changed:
            self._broker.changed.notify_all()
        timeout_s = self._settings.drain_timeout_s
        await asyncio.gather(
            *(worker.stop(timeout_s) for worker in self._workers),
            *(self._broker.calls.close(answering, timeout_s=timeout_s) for answering in self._answering),
        )
        self._workers.clear()
        self._answering.clear()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.drain_timeout_s)
            await cancel_and_wait(*late)
        self._tasks.clear()
        self._is_closed = True

    async def publish(self, message: OutMessage) -> PublishAck:
        """Store one message."""
        return (await self.publish_many([message]))[0]

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Store messages in order."""
        if not self._is_started or self._is_closed:
            raise Transient("bus_away", "the bus is not started")
        await asyncio.sleep(0)  # others get to run, as they do during the real bus's round trip
        now_ns = time.time_ns()
        return [
            await self._broker.store(
                message.subject, message.data, outgoing_headers(message, service=self._name, now_ns=now_ns)
            )
            for message in messages
        ]

    async def last(self, subject: str) -> Delivery | None:
        """Return the newest stored message of a subject, or None."""
        found = self._broker.last(subject)
        return None if found is None else _delivery(found[0], found[1], n_delivered=1)

    async def lag(self, stream: str, durable: str) -> int:
        """Return how many messages a durable has not finished. Raises Transient if there is no such durable."""
        await asyncio.sleep(0)
        lags = self._broker.lags(stream)
        if durable not in lags:
            raise Transient("bus_away", f"lag of {durable}: not found")
        return lags[durable]

    async def slowest_lag(self, stream: str) -> int:
        """Return the largest lag of all durables of a stream, 0 without any."""
        await asyncio.sleep(0)
        return max(self._broker.lags(stream).values(), default=0)

    async def wait_fatal(self) -> str:
        """Wait until the bus can no longer serve and say why."""
        return await self._fatal.wait()

    async def _consume(self, subscription: Subscription) -> None:
        consumption = Consumption(subscription, settings=self._settings, fatal=self._fatal, bury=self._bury)
        durable = self._broker.durable(subscription)
        stream = stream_of(subscription.subject)
        async with durable.lock:
            while (stored := await self._next(durable)) is not None:
                durable.n_delivered = durable.n_delivered + 1 if durable.pending_seq == stored.seq else 1
                durable.pending_seq = stored.seq
                delivery = _delivery(stream, stored, n_delivered=durable.n_delivered)
                if not await consumption.handle(delivery, in_progress=_nothing):
                    return
                durable.settled_seq = stored.seq

    async def _next(self, durable: _Durable) -> _Stored | None:
        """Wait for the next message; None = the bus drains."""
        async with self._broker.changed:
            while not self._is_draining:
                if (stored := self._broker.next_after(durable)) is not None:
                    return stored
                await self._broker.changed.wait()
        return None

    async def _bury(self, letter: DeadLetterMessage) -> None:
        await self._broker.store(letter.subject, letter.data, letter.headers)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal.declare(f"bug while receiving: {error!r}")


def _delivery(stream: str, stored: _Stored, *, n_delivered: int) -> Delivery:
    return Delivery(
        subject=stored.subject,
        data=stored.data,
        headers=dict(stored.headers),
        stream=stream,
        stream_seq=stored.seq,
        n_delivered=n_delivered,
        published_at=stored.stored_at,
    )


async def _nothing() -> None:
    return
