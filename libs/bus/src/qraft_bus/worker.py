"""
Pulling a work queue from JetStream: never more than there are free slots, and a new message within a round trip.

Not through nats-py's `fetch`: for several messages it waits until all have come or the time is over, and a second
fetch beside it would take its messages. One pull request is open at a time; messages and its end come to one inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.decisions import Later, Settle
from qraft_bus.durables import delivery_of
from qraft_bus.fatal import Fatal
from qraft_bus.inbox import end_subscription, subscribe
from qraft_bus.port import Delivery
from qraft_bus.settings import BusSettings
from qraft_bus.streams import stream_of
from qraft_bus.work import Workload
from qraft_telemetry import logs

_STATUS: Final = "Status"
_DESCRIPTION: Final = "Description"
_ENDS_IN_PEACE: Final = ("404", "408")  # no messages, request timeout
_PAUSE_S: Final = 0.1  # after a pull request that was refused
_LOST_AFTER_S: Final = 1.0  # past its own end, a pull request without a word from the server is lost

_Job = tuple[Msg, Delivery]


class Worker:
    """
    Runs one work queue.

    on_trouble: told about every pull request that ended for another reason than "no message".
    """

    def __init__(
        self,
        load: Workload,
        *,
        client: Client,
        settings: BusSettings,
        fatal: Fatal,
        on_trouble: Callable[[str], None],
    ) -> None:
        self._load = load
        self._client = client
        self._settings = settings
        self._fatal = fatal
        self._on_trouble = on_trouble
        work = load.work
        self._pull_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream_of(work.subject)}.{work.durable}"
        self._inbox = client.new_inbox()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._arrived: list[Msg] = []
        self._ended: list[asyncio.Task[Settle | Later]] = []
        self._running: dict[asyncio.Task[Settle | Later], _Job] = {}
        self._n_asked = 0  # messages that the open pull request may still bring
        self._lost_at = 0.0
        self._ask_from = 0.0
        self._beat_at = 0.0
        self._is_stopping = False
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to pull."""
        self._subscription = await subscribe(self._client, self._inbox, self._take)
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    def on_connection(self) -> None:
        """Look again: the connection was lost, and the open pull request with it, or is back."""
        if not self._client.is_connected:
            self._n_asked = 0
        self._changed.set()

    async def stop(self, timeout_s: float) -> None:
        """Pull no more, wait for the handlers in progress; those that are late are canceled, their messages left."""
        if self._task is None or self._subscription is None:
            return
        self._is_stopping = True
        deadline = self._loop.time() + timeout_s
        await end_subscription(self._subscription, client=self._client, timeout_s=timeout_s)
        self._changed.set()
        while (self._running or self._arrived) and self._loop.time() < deadline and not self._task.done():
            await asyncio.wait({self._task, *self._running}, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        late = list(self._running)
        await cancel_and_wait(self._task, *late)
        await self._conclude()

    def _take(self, message: Msg) -> None:
        self._arrived.append(message)
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._conclude()
            await self._begin()
            await self._ask()
            await self._beat()
            await self._wait()

    async def _wait(self) -> None:
        """Wait for a message, the end of a handler or a change of the connection, or until something is due."""
        now = self._loop.time()
        due_at = min(self._beat_at, self._lost_at) if self._n_asked else self._beat_at
        if self._ask_from > now:
            due_at = min(due_at, self._ask_from)
        try:
            async with asyncio.timeout(max(due_at - now, 0.0)):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _begin(self) -> None:
        """Start the handlers of what has arrived."""
        arrived, self._arrived = self._arrived, []
        for message in arrived:
            if not message.reply:  # what comes from the stream has a subject for its acknowledgement
                self._end_pull(message.headers or {})
                continue
            self._n_asked = max(self._n_asked - 1, 0)
            if not self._is_wanted() or len(self._running) >= self._load.work.n_concurrent:
                await self._tell(message.nak())
                continue
            delivery = delivery_of(message)
            task = self._loop.create_task(self._load.handle(delivery))
            self._running[task] = (message, delivery)
            task.add_done_callback(self._on_handled)
        self._load.in_progress.set(len(self._running))

    def _end_pull(self, headers: dict[str, str]) -> None:
        self._n_asked = 0
        if headers.get(_STATUS) not in _ENDS_IN_PEACE:
            self._ask_from = self._loop.time() + _PAUSE_S
            if self._is_wanted():
                self._on_trouble(
                    f"pull of {self._load.work.durable}: {headers.get(_STATUS)} {headers.get(_DESCRIPTION)}"
                )

    async def _ask(self) -> None:
        """Open a pull request for all free slots, if none is open."""
        now = self._loop.time()
        if self._n_asked and now >= self._lost_at:
            self._on_trouble(f"pull of {self._load.work.durable}: no end of it came")
            self._n_asked = 0
        n_free = self._load.work.n_concurrent - len(self._running)
        if self._n_asked or n_free <= 0 or now < self._ask_from:
            return
        if not self._is_wanted() or not self._client.is_connected:
            return
        wait_s = self._settings.idle_fetch_s
        request = msgspec.json.encode({"batch": n_free, "expires": int(wait_s * 1e9)})
        self._n_asked, self._lost_at = n_free, now + wait_s + _LOST_AFTER_S
        await self._tell(self._client.publish(self._pull_subject, request, reply=self._inbox))

    async def _beat(self) -> None:
        """Tell the server, every third of the ack wait, that what is in progress is."""
        if self._loop.time() < self._beat_at:
            return
        self._beat_at = self._loop.time() + self._load.work.ack_wait_s / 3
        for message, _ in list(self._running.values()):
            await self._tell(message.in_progress())

    def _on_handled(self, task: asyncio.Task[Settle | Later]) -> None:
        self._ended.append(task)
        self._changed.set()

    async def _conclude(self) -> None:
        """Acknowledge or hand back what has ended."""
        ended, self._ended = self._ended, []
        for task in ended:
            message, delivery = self._running.pop(task)
            if task.cancelled():
                if not self._is_stopping:
                    self._load.failed(delivery, asyncio.CancelledError("the handler canceled itself"))
                continue
            if (error := task.exception()) is not None:
                # Not handed back: the pause until AckWait is what slows a crash loop down.
                self._load.failed(delivery, error)
                continue
            match task.result():
                case Settle():
                    await self._tell(message.ack())
                case Later(delay_s):
                    await self._tell(message.nak(delay=delay_s))
        self._load.in_progress.set(len(self._running))

    async def _tell(self, sending: Awaitable[None]) -> None:
        """Send; what cannot be sent is lost: the message comes again after its ack wait, a pull request is repeated."""
        try:
            await sending
        except NatsError as error:
            logs.get().warning("work.not_told", durable=self._load.work.durable, reason=repr(error))

    def _is_wanted(self) -> bool:
        return not self._is_stopping and self._fatal.reason is None

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal.declare(f"bug in the worker of {self._load.work.durable}: {error!r}")
