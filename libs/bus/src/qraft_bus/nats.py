"""The bus on a NATS server with JetStream: FastStream runs connection and loops, nats-py does everything exact."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from faststream import AckPolicy, BaseMiddleware
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.broker.broker import UNRECOVERABLE_CONNECT_ERRORS
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from qraft_bus.consume import Consumption
from qraft_bus.dead_letter import DeadLetterMessage
from qraft_bus.durables import consumer_config, delivery_of
from qraft_bus.fatal import Fatal
from qraft_bus.port import Delivery, OutMessage, PublishAck, Subscription
from qraft_bus.publish import JetStreamPublisher
from qraft_bus.pull import PatientPull
from qraft_bus.settings import BusSettings
from qraft_bus.streams import apply_streams, stream_of
from qraft_bus.watch import Watchdog
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics

_DURABLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RECONNECT_PAUSE_S: Final = 0.25
# Three unanswered pings, so a frozen server is noticed within 8 s (nats-py's own default: 6 minutes).
_PING_INTERVAL_S: Final = 2
_PINGS_OUTSTANDING_MAX: Final = 2
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
        self._client: Client | None = None
        self._publisher: JetStreamPublisher | None = None
        self._watchdog: Watchdog | None = None
        self._is_draining = False
        self.broker = NatsBroker(
            url,
            name=name,
            apply_types=False,
            ack_policy=AckPolicy.MANUAL,
            logger=_quiet_logger(),
            middlewares=[self._surface],
            graceful_timeout=settings.drain_timeout_s,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            **_connection_options(),
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
        return self._watchdog.trouble if self._client.is_connected else "not connected to the bus"

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return what was registered."""
        return tuple(subscription for subscription, _ in self._subscriptions)

    def subscribe(self, subscription: Subscription) -> None:
        """Register a subscription; before `start`. Raises ValueError for a name or subject the bus does not know."""
        if not _DURABLE_NAME.fullmatch(subscription.durable):
            raise ValueError(f"expected a durable of letters, digits, - and _, received {subscription.durable!r}")
        if self._client is not None:
            raise ValueError(f"expected subscriptions before start, received {subscription.durable!r} after it")
        stream = stream_of(subscription.subject)
        consumption = Consumption(subscription, settings=self._settings, fatal=self._fatal, bury=self._bury)
        subscriber = self.broker.subscriber(
            subscription.subject,
            stream=JStream(stream, declare=False),
            durable=subscription.durable,
            pull_sub=PullSub(batch=True, batch_size=self._settings.batch_size, timeout=self._settings.idle_fetch_s),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_raw_messages,
            title=f"{subscription.subject}:{subscription.durable}",
            description=f"schemas: {', '.join(subscription.schemas)}",
        )
        subscriber(self._receiver(consumption, subscriber))
        self._subscriptions.append((subscription, subscriber))

    async def start(self) -> None:
        """Connect, apply streams and durables, begin to consume. Raises Transient if the server stays away."""
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                client = self._client = await self.broker.connect()
                await self._prepare_server(client.jetstream())
        except TimeoutError as error:
            raise Transient("bus_away", f"no JetStream within {self._settings.connect_timeout_s} s") from error
        publisher = self._publisher = JetStreamPublisher(client, service=self._name, settings=self._settings)
        self._watchdog = Watchdog(
            client,
            durables=tuple((stream_of(it.subject), it.durable) for it, _ in self._subscriptions),
            published_streams=lambda: frozenset(publisher.streams),
            interval_s=self._settings.watch_interval_s,
            fatal=self._fatal,
        )
        await self.broker.start()
        for _, subscriber in self._subscriptions:
            subscriber.subscription = self._patient(subscriber, client, self._watchdog)
        self._watchdog.start()
        metrics.BUS_CONNECTED.set(1)

    async def drain(self) -> None:
        """Stop fetching, let handlers in progress finish (bounded), flush, close. Safe to repeat or before start."""
        self._is_draining = True
        if self._watchdog is not None:
            await self._watchdog.stop()
        for _, subscriber in self._subscriptions:
            subscriber.running = False
        # All at once: each waits for its own handler, and together they have one drain time.
        await asyncio.gather(*(subscriber.stop() for _, subscriber in self._subscriptions))
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
                return
            except (TimeoutError, NatsError) as error:
                if not _is_passing(error):
                    raise
                logs.get().warning("bus.not_ready", reason=repr(error))
            await asyncio.sleep(_START_RETRY_PAUSE_S)

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

    def _surface(self, message: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        return _SurfaceErrors(message, context=context, fatal=self._fatal)

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
        if not self._is_draining:
            logs.get().warning("bus.disconnected")

    async def _on_reconnected(self) -> None:
        logs.get().info("bus.reconnected")
        if self._watchdog is not None:
            self._watchdog.check_soon()

    async def _on_closed(self) -> None:
        if not self._is_draining:
            self._fatal.declare("the connection to the bus is closed for good")


def _connection_options() -> dict[str, Any]:
    """nats-py's types want whole seconds where it takes fractions."""
    return {
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": _RECONNECT_PAUSE_S,
        "connect_timeout": 2,
        "ping_interval": _PING_INTERVAL_S,
        "max_outstanding_pings": _PINGS_OUTSTANDING_MAX,
        "drain_timeout": 5,
        "allow_reconnect": True,
    }


def _quiet_logger() -> logging.Logger:
    """FastStream logs two INFO lines a message; its warnings and errors stay."""
    logger = logging.getLogger("qraft_bus.faststream")
    logger.setLevel(logging.WARNING)
    return logger


async def _raw_messages(message: Any) -> Any:
    """FastStream's decoder would try every payload as JSON; ours are bytes until their handler decodes them."""
    return message.raw_message


def _is_passing(error: BaseException) -> bool:
    """Return whether a refused set-up may succeed a moment later: no answer yet, rather than a no."""
    code = getattr(error, "code", None)
    return code is None or code >= 500


class _SurfaceErrors(BaseMiddleware[Any, Any]):
    """FastStream swallows what a consumer raises. Handlers' errors are judged in `consume`; here is the rest: ours."""

    def __init__(self, message: Any, /, *, context: Any, fatal: Fatal) -> None:
        super().__init__(message, context=context)
        self._fatal = fatal

    async def after_processed(
        self, exc_type: type[BaseException] | None = None, exc_val: BaseException | None = None, exc_tb: Any = None
    ) -> bool | None:
        """Declare the bus fatal for any exception that came this far."""
        if exc_val is not None and not isinstance(exc_val, asyncio.CancelledError):
            self._fatal.declare(f"bug or lost connection while receiving: {exc_val!r}")
        return await super().after_processed(exc_type, exc_val, exc_tb)
