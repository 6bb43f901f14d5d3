"""What the bus tests share: quick settings, messages, and recording handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from qraft_bus.port import Answerer, AnswerHandler, Bus, Delivery, Handler, OutMessage, Subscription, WorkSubscription
from qraft_bus.settings import BusSettings
from qraft_contracts.origin import Origin

START = datetime(2025, 6, 1, tzinfo=UTC)
DEADLINE_S = 15.0

OpenBus = Callable[..., Bus]  # a fixture: (name, settings) -> a bus on the test's server or broker, drained at the end

QUICK = BusSettings(
    ack_wait_s=0.6,
    idle_fetch_s=0.3,
    backoff_first_s=0.02,
    backoff_max_s=0.2,
    transient_budget_s=20.0,
    publish_timeout_s=1.0,
    publish_budget_s=12.0,
    connect_timeout_s=10.0,
    watch_interval_s=0.5,
    drain_timeout_s=3.0,
)


def message(
    number: int, *, subject: str = "bars.5m", schema: str = "bars/1", message_id: str | None = None
) -> OutMessage:
    return OutMessage(
        subject=subject,
        data=f"payload {number}".encode(),
        message_id=message_id or f"{subject}/{number}",
        schema=schema,
        as_of=START + timedelta(minutes=5 * number),
        origin=Origin.SIMULATED,
        lineage="test",
    )


def subscription(
    handler: Handler, *, subject: str = "bars.>", durable: str = "reader", schema: str = "bars/1"
) -> Subscription:
    return Subscription(subject=subject, durable=durable, handler=handler, schemas=(schema,))


def job(number: int, *, provider: str = "openai", schema: str = "imagejob/1") -> OutMessage:
    return message(number, subject=f"imagejob.created.{provider}", schema=schema)


def work(
    handler: Handler, *, provider: str = "openai", n_concurrent: int = 4, ack_wait_s: float = 0.6
) -> WorkSubscription:
    return WorkSubscription(
        subject=f"imagejob.created.{provider}",
        durable=f"imagegen-{provider}",
        handler=handler,
        schemas=("imagejob/1",),
        n_concurrent=n_concurrent,
        ack_wait_s=ack_wait_s,
    )


def answerer(handler: AnswerHandler) -> Answerer:
    return Answerer("billing.reserve", "svc_billing", handler, overloaded=lambda: b"overloaded")


async def ask(bus: Bus, data: bytes, *, timeout_s: float = 10.0) -> bytes:
    return await bus.request("billing.reserve", data, schema="billing.reserve/1", timeout_s=timeout_s)


class Recorder:
    """A handler that keeps what it got. before: runs first and may raise."""

    def __init__(self, before: Callable[[Delivery], None] | None = None) -> None:
        self.deliveries: list[Delivery] = []
        self._before = before

    async def __call__(self, delivery: Delivery) -> None:
        if self._before is not None:
            self._before(delivery)
        self.deliveries.append(delivery)

    @property
    def payloads(self) -> list[str]:
        return [delivery.data.decode() for delivery in self.deliveries]


class Gate:
    """A handler that waits until it is opened, and knows who is inside."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered: list[str] = []
        self.left: list[str] = []
        self.n_inside_max = 0

    @property
    def n_inside(self) -> int:
        return len(self.entered) - len(self.left)

    async def __call__(self, delivery: Delivery) -> None:
        self.entered.append(delivery.data.decode())
        self.n_inside_max = max(self.n_inside_max, self.n_inside)
        await self.opened.wait()
        self.left.append(delivery.data.decode())


def payloads(n_messages: int) -> list[str]:
    return [f"payload {number}" for number in range(n_messages)]


async def until(is_true: Callable[[], bool], *, what: str, within_s: float = DEADLINE_S) -> None:
    """Wait for a condition, or fail with its name."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not is_true():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)


async def dead_letters(open_bus: OpenBus, n_messages: int) -> list[Delivery]:
    recorder = Recorder()
    bus = open_bus("undertaker")
    bus.subscribe(subscription(recorder, subject="deadletter.>", durable="undertaker"))
    await bus.start()
    await until(lambda: len(recorder.deliveries) >= n_messages, what=f"{n_messages} dead letters")
    return recorder.deliveries


async def fatal(bus: Bus) -> str:
    return await asyncio.wait_for(bus.wait_fatal(), DEADLINE_S)


async def until_lag(bus: Bus, n_messages: int, *, durable: str = "imagegen-openai") -> None:
    lag = -1
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while lag != n_messages:
        assert asyncio.get_running_loop().time() < deadline, f"lag is {lag}, expected {n_messages}"
        lag = await bus.lag("IMAGEJOBS", durable)
        await asyncio.sleep(0.005)
