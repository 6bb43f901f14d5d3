"""
Publishing to JetStream with a receipt, through our own inbox.

Not through FastStream's publish: without `stream=` that is fire-and-forget, with it the time-out is 0.5 s, and either
way it encodes and wraps what is bytes already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError

from qraft_bus.decisions import backoff_s
from qraft_bus.inbox import Inbox
from qraft_bus.outgoing import outgoing_headers
from qraft_bus.port import OutMessage, PublishAck
from qraft_bus.settings import BusSettings
from qraft_bus.streams import stream_of
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics

IN_FLIGHT_MAX: Final = 256  # messages of one publish_many waiting for receipts; far below the server's own limits
_EXPECTED_STREAM: Final = "Nats-Expected-Stream"
_SERVER_FAULT_MIN: Final = 500
_TROUBLE_S: Final = 30.0  # longer than any pause between two attempts of one publish

T = TypeVar("T")


class PublishRejected(Exception):
    """The stream refused the message itself: too large, wrong stream. Retrying cannot help; it is our bug."""


class _StreamError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Receipt(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _StreamError | None = None


_DECODER: Final = msgspec.json.Decoder(_Receipt)


class JetStreamPublisher:
    """
    Publishes in order, with bounded retries under the same id.

    A publish that timed out may still be stored later; its id then makes the retry a duplicate, which is success.
    """

    def __init__(self, inbox: Inbox, *, service: str, settings: BusSettings) -> None:
        self._inbox = inbox
        self._service = service
        self._settings = settings
        self.streams: set[str] = set()  # those published to, for the watchdog
        self._failed: dict[str, tuple[float, str]] = {}  # stream → when and why its last publish failed

    @property
    def trouble(self) -> str | None:
        """
        Return which stream takes nothing at the moment, and why, or None.

        A full disk shows here only: the server stays connected, and its streams exist. A failure is forgotten when a
        publish succeeds, or when nobody has tried again for a while.
        """
        since = time.monotonic() - _TROUBLE_S
        return next((why for at, why in self._failed.values() if at >= since), None)

    async def publish(self, message: OutMessage) -> PublishAck:
        """Store one message; see `qraft_bus.port.Bus.publish`."""
        began = time.perf_counter()
        headers = outgoing_headers(message, service=self._service, now_ns=time.time_ns())
        receipt = await self.publish_raw(message.subject, message.data, headers)
        metrics.PUBLISH_SECONDS.labels(message.subject).observe(time.perf_counter() - began)
        return self._acknowledged(message, receipt)

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Store messages in order, pipelined; see `qraft_bus.port.Bus.publish_many`."""
        now_ns = time.time_ns()
        prepared = [(message, outgoing_headers(message, service=self._service, now_ns=now_ns)) for message in messages]
        acknowledged: list[PublishAck] = []

        async def rest() -> list[PublishAck]:
            while len(acknowledged) < len(prepared):
                part = prepared[len(acknowledged) :][:IN_FLIGHT_MAX]
                # Tasks start in this order and none suspends before its bytes are queued, so the parts of a batch
                # reach the server as one run: after a lost connection a prefix is stored, never a middle.
                results = await asyncio.gather(
                    *(self._once(message.subject, message.data, headers) for message, headers in part),
                    return_exceptions=True,
                )
                for (message, _), result in zip(part, results, strict=True):
                    if isinstance(result, BaseException):
                        raise result
                    acknowledged.append(self._acknowledged(message, result))
            return acknowledged

        return await self._with_retries(rest, key=prepared[0][0].message_id) if prepared else []

    async def publish_raw(self, subject: str, data: bytes, headers: dict[str, str]) -> _Receipt:
        """Store bytes under ready-made headers, with the same retries."""
        return await self._with_retries(lambda: self._once(subject, data, headers), key=subject)

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], *, key: str) -> T:
        deadline = time.monotonic() + self._settings.publish_budget_s
        n_attempts = 0
        while True:
            try:
                return await attempt()
            except Transient as error:
                n_attempts += 1
                delay_s = backoff_s(n_attempts, key=key, settings=self._settings)
                if time.monotonic() + delay_s > deadline:
                    raise
                if n_attempts == 1:
                    logs.get().warning("publish.retried", key=key, reason=str(error))
            await asyncio.sleep(delay_s)

    async def _once(self, subject: str, data: bytes, headers: dict[str, str]) -> _Receipt:
        stream = stream_of(subject)
        self.streams.add(stream)
        try:
            receipt = await self._ask(stream, subject, data, headers)
        except Transient as error:
            if error.reason != "bus_away":  # the connection itself tells that, and when it is back
                self._failed[stream] = (time.monotonic(), str(error))
            raise
        self._failed.pop(stream, None)
        return receipt

    async def _ask(self, stream: str, subject: str, data: bytes, headers: dict[str, str]) -> _Receipt:
        headers = {**headers, _EXPECTED_STREAM: stream}
        try:
            reply = await self._inbox.ask(subject, data, headers, timeout_s=self._settings.publish_timeout_s)
        except NoRespondersError as error:
            raise Transient("no_stream", f"no stream answers for {subject}") from error
        except TimeoutError as error:
            raise Transient("publish_timeout", f"{subject}: no receipt; it may be stored later") from error
        except MaxPayloadError as error:
            raise PublishRejected(f"{subject}: {len(data)} bytes are more than the server takes") from error
        except NatsError as error:
            raise Transient("bus_away", f"{subject}: {error!r}") from error
        receipt = _DECODER.decode(reply.data)
        if receipt.error is None:
            return receipt
        fault = f"{subject}: {receipt.error.description} ({receipt.error.err_code})"
        if receipt.error.code >= _SERVER_FAULT_MIN:
            raise Transient("stream_refused", fault)
        raise PublishRejected(fault)

    def _acknowledged(self, message: OutMessage, receipt: _Receipt) -> PublishAck:
        metrics.PUBLISHED.labels(message.subject, str(receipt.duplicate).lower()).inc()
        return PublishAck(receipt.stream, receipt.seq, receipt.duplicate)
