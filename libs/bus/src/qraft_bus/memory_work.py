"""Work queues in memory: the twin of `worker.py` and of the durable on the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.decisions import Later, Settle
from qraft_bus.port import Delivery
from qraft_bus.work import Workload

DeliverNext = Callable[[int], Delivery | None]

_TICK_S: Final = 0.001


@dataclass(slots=True)
class _Held:
    """A message that was delivered and is not done. due_at: when it comes again unless its handler ends before."""

    delivery: Delivery
    due_at: float


@dataclass(slots=True)
class WorkQueue:
    """
    What the server knows of a work queue's durable.

    deliver_next: the first message of the stream past a sequence number, or None.
    """

    subject: str
    deliver_next: DeliverNext
    n_concurrent: int
    ack_wait_s: float
    delivered_seq: int = 0
    held: dict[int, _Held] = field(default_factory=dict)
    watchers: set[asyncio.Event] = field(default_factory=set)

    def take(self) -> Delivery | None:
        """Return a message to handle now: one that is due again, or a new one if the cap allows."""
        now = time.monotonic()
        for held in self.held.values():
            if held.due_at <= now:
                held.delivery = _delivered_again(held.delivery)
                held.due_at = now + self.ack_wait_s
                return held.delivery
        if len(self.held) >= self.n_concurrent:
            return None
        delivery = self.deliver_next(self.delivered_seq)
        if delivery is not None:
            self.delivered_seq = delivery.stream_seq
            self.held[delivery.stream_seq] = _Held(delivery, due_at=now + self.ack_wait_s)
        return delivery

    def beat(self, delivery: Delivery) -> None:
        """Say that a message is in progress."""
        if (held := self.held.get(delivery.stream_seq)) is not None:
            held.due_at = time.monotonic() + self.ack_wait_s

    def settle(self, delivery: Delivery) -> None:
        """Acknowledge a message."""
        self.held.pop(delivery.stream_seq, None)
        self.tell()

    def tell(self) -> None:
        """Wake all who work on it."""
        for watcher in self.watchers:
            watcher.set()

    def hand_back(self, delivery: Delivery, *, delay_s: float) -> None:
        """Let a message come again after a pause."""
        if (held := self.held.get(delivery.stream_seq)) is not None:
            held.due_at = time.monotonic() + delay_s
        self.tell()

    def next_due_s(self) -> float:
        """Return in how many seconds the next held message is due."""
        return max(min((held.due_at for held in self.held.values()), default=float("inf")) - time.monotonic(), 0.0)


class MemoryWorker:
    """Runs one work queue of one bus. is_wanted: whether the bus still takes messages."""

    def __init__(self, queue: WorkQueue, load: Workload, *, is_wanted: Callable[[], bool]) -> None:
        self._queue = queue
        self._load = load
        self._is_wanted = is_wanted
        self._changed = asyncio.Event()
        self._running: dict[asyncio.Task[Settle | Later], Delivery] = {}
        self._is_stopping = False
        queue.watchers.add(self._changed)
        self._task = asyncio.create_task(self._run())

    async def stop(self, timeout_s: float) -> None:
        """Take no more; wait for the handlers in progress; those that are late are canceled, their messages left."""
        self._is_stopping = True
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        await cancel_and_wait(self._task, *self._running)
        self._queue.watchers.discard(self._changed)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            while not self._is_stopping and self._is_wanted() and len(self._running) < self._load.work.n_concurrent:
                if (delivery := self._queue.take()) is None:
                    break
                task = asyncio.create_task(self._load.handle(delivery))
                self._running[task] = delivery
                task.add_done_callback(self._on_handled)
            await self._wait()
            for delivery in self._running.values():
                self._queue.beat(delivery)

    async def _wait(self) -> None:
        """Wait for a change, or until a message is due again or a heartbeat is."""
        pause_s = min(self._load.work.ack_wait_s / 3, max(self._queue.next_due_s(), _TICK_S))
        try:
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _on_handled(self, task: asyncio.Task[Settle | Later]) -> None:
        delivery = self._running.pop(task)
        if task.cancelled():
            if not self._is_stopping:
                self._load.failed(delivery, asyncio.CancelledError("the handler canceled itself"))
        elif (error := task.exception()) is not None:
            self._load.failed(delivery, error)
        else:
            match task.result():
                case Settle():
                    self._queue.settle(delivery)
                case Later(delay_s):
                    self._queue.hand_back(delivery, delay_s=delay_s)


def _delivered_again(delivery: Delivery) -> Delivery:
    return replace(delivery, n_delivered=delivery.n_delivered + 1)
