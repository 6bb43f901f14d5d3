"""What the bus tests share: quick settings, messages, and recording handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from qraft_bus.port import Delivery, Handler, OutMessage, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.origin import Origin

START = datetime(2025, 6, 1, tzinfo=UTC)
DEADLINE_S = 15.0

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


def payloads(n_messages: int) -> list[str]:
    return [f"payload {number}" for number in range(n_messages)]


async def until(is_true: Callable[[], bool], *, what: str, within_s: float = DEADLINE_S) -> None:
    """Wait for a condition, or fail with its name."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not is_true():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)
