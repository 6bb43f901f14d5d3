"""
One inbox for everything that is answered: questions, and the receipts of streams.

Not nats-py's `request`, which costs a random token, a queue, a task switch and a wait_for a message, and leaves its
callers to their time-out when the connection is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, cast

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import Error as NatsError

from qraft_telemetry import logs

_STATUS: Final = "Status"
_NO_RESPONDERS: Final = "503"
# Half of what nats-py buffers before its publish waits, for 10 s if need be, until the server has taken it.
_PENDING_BYTES_MAX: Final = 1 << 20
_ROOM_PAUSE_S: Final = 0.005


class Inbox:
    """Asks, and gives each answer to the one who waits for it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = f"{client.new_inbox()}."
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._n_asked = 0

    async def open(self) -> None:
        """Subscribe."""
        await subscribe(self._client, f"{self._prefix}*", self._take)

    async def ask(self, subject: str, data: bytes, headers: dict[str, str], *, timeout_s: float) -> Msg:
        """
        Publish and return the answer. The bytes stand in line before the first suspension, so calls keep their order.

        Raises:
            TimeoutError: if none came in time.
            NoRespondersError: if nobody listens.
            NatsError: if the connection is away or was lost meanwhile, or the message is too large (MaxPayloadError).
        """
        if not self._client.is_connected:
            # nats-py would take it into its buffer and send it after the caller was told that it failed.
            raise ConnectionClosedError
        self._n_asked += 1
        token = f"{self._n_asked:x}"
        loop = asyncio.get_running_loop()
        answer = self._waiting[token] = loop.create_future()
        # Not asyncio.timeout: nats-py swallows a cancellation that meets it while it flushes.
        timer = loop.call_later(timeout_s, _give_up, answer)
        try:
            await self._client.publish(subject, data, reply=self._prefix + token, headers=headers)
            message = await answer
        finally:
            timer.cancel()
            del self._waiting[token]
        if message.headers is not None and message.headers.get(_STATUS) == _NO_RESPONDERS:
            raise NoRespondersError
        return message

    async def room(self, *, timeout_s: float) -> float:
        """Wait until the client's buffer takes more and return the seconds left. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while self._client.pending_data_size > _PENDING_BYTES_MAX:
            if time.monotonic() >= deadline:
                raise TimeoutError
            await asyncio.sleep(_ROOM_PAUSE_S)
        return deadline - time.monotonic()

    def fail_waiting(self) -> None:
        """Tell everyone who waits that the connection is lost: the answer went with it."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NatsError("the connection was lost before the answer came"))

    def _take(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject[len(self._prefix) :])
        if answer is not None and not answer.done():
            answer.set_result(message)


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class _Sink:
    """
    Stands where nats-py keeps the future of a subscription, and hands each message to a function in the read loop.

    nats-py calls `set_result` for every message of a subscription that has a `future`; the other ways go through a
    queue and a task, which is half of the time that a small message takes.
    """

    def __init__(self, take: Callable[[Msg], None]) -> None:
        self._take = take

    def cancelled(self) -> bool:
        """Return False: the sink never gives up."""
        return False

    def set_result(self, message: Msg) -> None:
        """Hand over one message."""
        self._take(message)


async def subscribe(client: Client, subject: str, take: Callable[[Msg], None], *, queue: str = "") -> Subscription:
    """Subscribe so that each message goes straight to `take`, which must neither block nor raise."""
    return await client.subscribe(subject, queue=queue, future=cast("Any", _Sink(take)))


async def end_subscription(subscription: Subscription, *, client: Client, timeout_s: float) -> None:
    """Take no more messages; those that the server sent before it heard of it still come, before this returns."""
    if not client.is_connected:
        return
    try:
        async with asyncio.timeout(timeout_s):
            await subscription.drain()
    except (TimeoutError, NatsError) as error:
        logs.get().warning("bus.not_unsubscribed", subject=subscription.subject, reason=repr(error))
