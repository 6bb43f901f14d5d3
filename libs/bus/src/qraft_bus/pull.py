"""
The pull subscription that FastStream's consume loop fetches from, made safe to loop on.

FastStream's loop calls `fetch` again at once whatever happened. On a closed connection that never yields and freezes
the process; on a deleted durable it burns half a core and says nothing. Here every failed fetch waits, is reported,
and ends in the one exception that the loop expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from qraft_bus.settings import BusSettings

_PAUSE_S: Final = 0.1


class PatientPull:
    """
    Stands where FastStream keeps its nats-py subscription: `fetch` and `unsubscribe`.

    is_wanted: whether the consumer still takes messages; what arrives later is handed back at once.
    on_trouble: told about every fetch that failed for another reason than "no message".
    """

    def __init__(
        self,
        inner: JetStreamContext.PullSubscription,
        *,
        client: Client,
        settings: BusSettings,
        is_wanted: Callable[[], bool],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._client = client
        self._settings = settings
        self._is_wanted = is_wanted
        self._on_trouble = on_trouble

    async def fetch(self, batch: int, timeout: float | None) -> list[Msg]:  # noqa: ARG002, ASYNC109 FastStream's call
        """
        Return one to `batch` messages in stream order.

        FastStream's own time-out is not used: it is either too short for an idle stream or, in a batch, pure latency.

        Raises:
            nats.errors.TimeoutError: if there is none; FastStream then asks again.
        """
        if not self._client.is_connected:
            await asyncio.sleep(_PAUSE_S)
            raise NatsTimeoutError
        try:
            messages: list[Msg] = await self._inner.fetch(1, self._settings.idle_fetch_s)
            if batch > 1:
                messages += await self._more(batch - 1)
        except TimeoutError:
            raise NatsTimeoutError from None
        except NatsError as error:
            self._on_trouble(repr(error))
            await asyncio.sleep(_PAUSE_S)
            raise NatsTimeoutError from error
        if not self._is_wanted():
            await _hand_back(messages)
            raise NatsTimeoutError
        return messages

    async def _more(self, n_messages: int) -> list[Msg]:
        try:
            more: list[Msg] = await self._inner.fetch(n_messages, self._settings.linger_s)
        except TimeoutError:
            return []
        return more

    async def unsubscribe(self) -> None:
        """End the subscription and hand back what was delivered and not taken, so that nothing waits for AckWait."""
        if self._client.is_closed:
            return
        try:
            await self._inner.unsubscribe()
            while self._inner.pending_msgs:
                await _hand_back(await self._inner.fetch(1, self._settings.linger_s))
        except (TimeoutError, ConnectionClosedError):
            # Only status messages were pending, or the connection is gone: AckWait brings the messages back.
            return


async def _hand_back(messages: list[Msg]) -> None:
    for message in messages:
        await message.nak()
