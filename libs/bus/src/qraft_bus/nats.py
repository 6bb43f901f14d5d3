"""The bus on a NATS server with JetStream: FastStream runs connection and loops, nats-py does everything exact."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.broker.broker import UNRECOVERABLE_CONNECT_ERRORS
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from qraft_bus.calls import Responder, request
from qraft_bus.connection import SurfaceErrors, connection_options, quiet_logger, raw_messages
from qraft_bus.consume import Consumption
from qraft_bus.dead_letter import DeadLetterMessage
from qraft_bus.durables import consumer_config, delivery_of, work_config
from qraft_bus.fatal import Fatal
from qraft_bus.headers import read_headers_fast
from qraft_bus.inbox import Inbox
from qraft_bus.port import Answerer, Delivery, OutMessage, PublishAck, Subscription, WorkSubscription
from qraft_bus.publish import JetStreamPublisher
from qraft_bus.pull import PatientPull
from qraft_bus.settings import BusSettings
from qraft_bus.streams import apply_streams, stream_of
from qraft_bus.watch import Watchdog
from qraft_bus.work import Workload
from qraft_bus.worker import Worker
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics

_DURABLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_START_RETRY_PAUSE_S: Final = 0.2


class NatsBus:
    """
    The real bus; see `qraft_bus.port.Bus` for what it promises.

    name: of the service; it labels the connection and stands in the hop trace.
    """

    def __init__(self, url: str, *, name: str, settings: BusSettings) -> None:
        self._name = name
        self._settings = settings
        self._fatal = Fatal()
        self._subscriptions: list[tuple[Subscription, Any]] = []
        self._works: list[WorkSubscription] = []
        self._answerers: list[Answerer] = []
        self._workers: list[Worker] = []
        self._responders: list[Responder] = []
        self._client: Client | None = None
        self._inbox: Inbox | None = None
        self._publisher: JetStreamPublisher | None = None
        self._watchdog: Watchdog | None = None
        self._is_draining = False
        self.broker = NatsBroker(
            url,
            name=name,
            apply_types=False,
            ack_policy=AckPolicy.MANUAL,
            logger=quiet_logger(),
            middlewares=[self._surface],
            graceful_timeout=settings.drain_timeout_s,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            **connection_options(),
        )

    @property
    def is_connected(self) -> bool:
        """Return whether the bus can serve right now."""
        return self.why_not_connected is None

    @property
    def why_not_connected(self) -> str | None:
        """Return what is missing to serve, or None."""
        if self._fatal.reason is not None:
            return self._fatal.reason
        if self._client is None or self._watchdog is None:
            return "not started"
        if not self._client.is_connected:
            return "not connected to the bus"
        return self._watchdog.trouble or (self._publisher.trouble if self._publisher is not None else None)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return what was registered."""
        return tuple(subscription for subscription, _ in self._subscriptions)

    @property
    def works(self) -> tuple[WorkSubscription, ...]:
        """Return the work queues that were registered."""
        return tuple(self._works)

    @property
    def answerers(self) -> tuple[Answerer, ...]:
        """Return the answerers that were registered."""
        return tuple(self._answerers)

    def subscribe(self, subscription: Subscription) -> None:
        """Register a subscription; before `start`. Raises ValueError for a name or subject the bus does not know."""
        stream = self._checked(subscription.durable, subscription.subject)
        consumption = Consumption(subscription, settings=self._settings, fatal=self._fatal, bury=self._bury)
        subscriber = self.broker.subscriber(
            subscription.subject,
            stream=JStream(stream, declare=False),
            durable=subscription.durable,
            pull_sub=PullSub(batch=True, batch_size=self._settings.batch_size, timeout=self._settings.idle_fetch_s),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=raw_messages,
            title=f"{subscription.subject}:{subscription.durable}",
            description=f"schemas: {', '.join(subscription.schemas)}",
        )
        subscriber(self._receiver(consumption, subscriber))
        self._subscriptions.append((subscription, subscriber))

    def work(self, work: WorkSubscription) -> None:
        """Register a work queue; before `start`. Raises ValueError as `subscribe` does."""
        self._checked(work.durable, work.subject)
        self._works.append(work)

    def answer(self, answerer: Answerer) -> None:
        """Register an answerer; before `start`."""
        if self._client is not None:
            raise ValueError(f"expected answerers before start, received {answerer.subject!r} after it")
        self._answerers.append(answerer)

    async def request(
        self, subject: str, data: bytes, *, schema: str, timeout_s: float, cause: Mapping[str, str] | None = None
    ) -> bytes:
        """Ask and return the answer; see the port."""
        if self._inbox is None:
            raise Transient("bus_away", "the bus is not started")
        return await request(self._inbox, subject, data, schema=schema, timeout_s=timeout_s, cause=cause or {})

    async def start(self) -> None:
        """Connect, apply streams and durables, begin to consume. Raises Transient if the server stays away."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                client = self._client = await self.broker.connect()
                await self._prepare_server(client.jetstream())
        except TimeoutError as error:
            raise Transient("bus_away", f"no JetStream within {self._settings.connect_timeout_s} s") from error
        read_headers_fast(client)
        inbox = self._inbox = Inbox(client)
        await inbox.open()
        publisher = self._publisher = JetStreamPublisher(inbox, service=self._name, settings=self._settings)
        durables = [(stream_of(it.subject), it.durable) for it in self.subscriptions]
        durables += [(stream_of(it.subject), it.durable) for it in self._works]
        self._watchdog = Watchdog(
            client,
            durables=tuple(durables),
            published_streams=lambda: frozenset(publisher.streams),
            interval_s=self._settings.watch_interval_s,
            fatal=self._fatal,
        )
        await self.broker.start()
        for _, subscriber in self._subscriptions:
            subscriber.subscription = self._patient(subscriber, client, self._watchdog)
        await self._start_workers(client, self._watchdog)
        self._watchdog.start()
        metrics.BUS_CONNECTED.set(1)

    async def drain(self) -> None:
        """Stop fetching, let handlers in progress finish (bounded), flush, close. Safe to repeat or before start."""
        self._is_draining = True
        if self._watchdog is not None:
            await self._watchdog.stop()
        for _, subscriber in self._subscriptions:
            subscriber.running = False
        # All at once: each waits for its own handlers, and together they have one drain time.
        await asyncio.gather(
            *(subscriber.stop() for _, subscriber in self._subscriptions),
            *(worker.stop(self._settings.drain_timeout_s) for worker in self._workers),
            *(responder.stop(self._settings.drain_timeout_s) for responder in self._responders),
        )
        metrics.BUS_CONNECTED.set(0)
        client = self._client
        if client is None or client.is_closed:
            return
        if client.is_connected:
            await client.drain()
        else:
            await client.close()

    async def publish(self, message: OutMessage) -> PublishAck:
        """Store one message; see the port."""
        return await self._started_publisher().publish(message)

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Store messages in order; see the port."""
        return await self._started_publisher().publish_many(messages)

    async def last(self, subject: str) -> Delivery | None:
        """Return the newest stored message of a subject, or None. Raises Transient if the bus does not answer."""
        stream = stream_of(subject)
        try:
            found = await self._js().get_last_msg(stream, subject)
        except NotFoundError:
            return None
        except (TimeoutError, NatsError) as error:
            raise Transient("bus_away", f"last {subject}: {error!r}") from error
        return Delivery(
            subject=found.subject or subject,
            data=found.data or b"",
            headers=found.headers or {},
            stream=stream,
            stream_seq=int(found.seq or 0),
            n_delivered=1,
            published_at=found.time,
        )

    async def lag(self, stream: str, durable: str) -> int:
        """Return how many messages a durable has not finished. Raises Transient if the bus does not answer."""
        try:
            info = await self._js().consumer_info(stream, durable)
        except (TimeoutError, NatsError) as error:
            raise Transient("bus_away", f"lag of {durable}: {error!r}") from error
        return int((info.num_pending or 0) + (info.num_ack_pending or 0))

    async def slowest_lag(self, stream: str) -> int:
        """Return the largest lag of all durables of a stream, 0 without any. Raises Transient as above."""
        try:
            infos = await self._js().consumers_info(stream)
        except (TimeoutError, NatsError) as error:
            raise Transient("bus_away", f"lag of {stream}: {error!r}") from error
        return max((int((info.num_pending or 0) + (info.num_ack_pending or 0)) for info in infos), default=0)

    async def wait_fatal(self) -> str:
        """Wait until the bus can no longer serve and say why."""
        return await self._fatal.wait()

    async def _prepare_server(self, js: JetStreamContext) -> None:
        """Apply streams and durables; a server that has just started may need a moment."""
        while True:
            try:
                await apply_streams(js)
                for subscription, _ in self._subscriptions:
                    await js.add_consumer(
                        stream_of(subscription.subject), consumer_config(subscription, self._settings)
                    )
                for work in self._works:
                    await js.add_consumer(stream_of(work.subject), work_config(work))
                return
            except (TimeoutError, NatsError) as error:
                if not _is_passing(error):
                    raise
                logs.get().warning("bus.not_ready", reason=repr(error))
            await asyncio.sleep(_START_RETRY_PAUSE_S)

    async def _start_workers(self, client: Client, watchdog: Watchdog) -> None:
        for work in self._works:
            load = Workload(work, settings=self._settings, fatal=self._fatal, bury=self._bury)
            worker = Worker(
                load, client=client, settings=self._settings, fatal=self._fatal, on_trouble=watchdog.suspect
            )
            self._workers.append(worker)
            await worker.start()
        for answerer in self._answerers:
            responder = Responder(answerer, client=client, fatal=self._fatal)
            self._responders.append(responder)
            await responder.start()

    def _checked(self, durable: str, subject: str) -> str:
        """Return the stream of a subject that a durable may be made on."""
        if not _DURABLE_NAME.fullmatch(durable):
            raise ValueError(f"expected a durable of letters, digits, - and _, received {durable!r}")
        if self._client is not None:
            raise ValueError(f"expected subscriptions before start, received {durable!r} after it")
        return stream_of(subject)

    def _receiver(self, consumption: Consumption, subscriber: Any) -> Callable[[Any], Awaitable[None]]:
        async def receive(messages: Any) -> None:  # a list of Msg; FastStream makes a schema of what stands here
            for message in messages:
                if self._fatal.reason is not None or not subscriber.running:
                    await message.nak()
                    continue
                if not await consumption.handle(delivery_of(message), in_progress=message.in_progress):
                    # Not handed back: the pause until AckWait is what slows a crash loop down.
                    subscriber.running = False
                    return
                await message.ack()

        return receive

    def _patient(self, subscriber: Any, client: Client, watchdog: Watchdog) -> PatientPull:
        return PatientPull(
            subscriber.subscription,
            client=client,
            settings=self._settings,
            is_wanted=lambda: bool(subscriber.running) and self._fatal.reason is None,
            on_trouble=watchdog.suspect,
        )

    async def _bury(self, letter: DeadLetterMessage) -> None:
        await self._started_publisher().publish_raw(letter.subject, letter.data, letter.headers)

    def _started_publisher(self) -> JetStreamPublisher:
        if self._publisher is None:
            raise Transient("bus_away", "the bus is not started")
        return self._publisher

    def _js(self) -> JetStreamContext:
        if self._client is None:
            raise Transient("bus_away", "the bus is not started")
        return self._client.jetstream(timeout=self._settings.publish_timeout_s)

    def _surface(self, message: Any, /, *, context: Any) -> SurfaceErrors:
        return SurfaceErrors(message, context=context, fatal=self._fatal)

    async def _on_error(self, error: Exception) -> None:
        logs.get().warning("bus.error", error=repr(error))
        if self._watchdog is not None:
            self._watchdog.suspect(repr(error))
            text = str(error).removeprefix("nats: ").strip("'").lower()
            # FastStream raises these out of the callback, which ends nats-py's reconnecting without a word.
            if isinstance(error, NatsError) and text in UNRECOVERABLE_CONNECT_ERRORS:
                self._fatal.declare(f"the bus refuses this client: {error}")

    async def _on_disconnected(self) -> None:
        metrics.BUS_CONNECTED.set(0)
        if self._inbox is not None:
            self._inbox.fail_waiting()
        for worker in self._workers:
            worker.on_connection()
        if not self._is_draining:
            logs.get().warning("bus.disconnected")

    async def _on_reconnected(self) -> None:
        logs.get().info("bus.reconnected")
        for worker in self._workers:
            worker.on_connection()
        if self._watchdog is not None:
            self._watchdog.check_soon()

    async def _on_closed(self) -> None:
        if not self._is_draining:
            self._fatal.declare("the connection to the bus is closed for good")


def _is_passing(error: BaseException) -> bool:
    """Return whether a refused set-up may succeed a moment later: no answer yet, rather than a no."""
    code = getattr(error, "code", None)
    return code is None or code >= 500
