"""Questions and answers over core NATS: asking, and queue groups for those who answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError

from qraft_bus.answers import Answering, raise_outcome
from qraft_bus.cancel import cancel_and_wait
from qraft_bus.fatal import Fatal
from qraft_bus.inbox import Inbox, end_subscription, subscribe
from qraft_bus.port import Answerer
from qraft_bus.streams import MESSAGE_BYTES_MAX
from qraft_contracts import headers as names
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics
from qraft_telemetry.tracing import child_traceparent


async def request(
    inbox: Inbox, subject: str, data: bytes, *, schema: str, timeout_s: float, cause: Mapping[str, str]
) -> bytes:
    """Ask and return the answer; see `qraft_bus.port.Bus.request`."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{subject}: expected a question of at most {MESSAGE_BYTES_MAX} B, received {len(data)} B")
    began = time.perf_counter()
    headers = {names.SCHEMA: schema, names.TRACEPARENT: child_traceparent(cause.get(names.TRACEPARENT))}
    try:
        left_s = await inbox.room(timeout_s=timeout_s)
        answer = await inbox.ask(subject, data, headers, timeout_s=left_s)
    except NoRespondersError as error:
        raise _failed(subject, "no_responders", f"nobody answers {subject}") from error
    except TimeoutError as error:
        raise _failed(subject, "request_timeout", f"{subject}: no answer within {timeout_s} s") from error
    except NatsError as error:
        raise _failed(subject, "bus_away", f"{subject}: {error!r}") from error
    finally:
        metrics.REQUEST_SECONDS.labels(subject).observe(time.perf_counter() - began)
    raise_outcome(answer.headers)
    return bytes(answer.data)


def _failed(subject: str, reason: str, detail: str) -> Transient:
    metrics.REQUESTS_FAILED.labels(subject, reason).inc()
    return Transient(reason, detail)


class Responder:
    """Takes the questions of one answerer and sends the answers, those of one turn of the loop together."""

    def __init__(self, answerer: Answerer, *, client: Client, fatal: Fatal) -> None:
        self._client = client
        self._answering: Answering[str] = Answering(answerer, fatal=fatal, send=self._send)
        self._asked: list[Msg] = []
        self._ready: list[tuple[str, bytes, dict[str, str] | None]] = []
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        answerer = self._answering.answerer
        self._task = asyncio.create_task(self._pump())
        self._task.add_done_callback(self._on_end)
        self._subscription = await subscribe(self._client, answerer.subject, self._take, queue=answerer.queue)

    async def stop(self, timeout_s: float) -> None:
        """Take no more questions, finish those in progress (bounded), send their answers."""
        if self._task is None or self._subscription is None:
            return
        await end_subscription(self._subscription, client=self._client, timeout_s=timeout_s)
        self._is_stopping = True
        await self._answering.finish(timeout_s)
        self._changed.set()
        await asyncio.wait({self._task}, timeout=timeout_s)
        await cancel_and_wait(self._task)

    def _take(self, message: Msg) -> None:
        if message.reply:  # else nobody wants an answer; whoever commands without listening is not obeyed
            self._asked.append(message)
            self._changed.set()

    def _send(self, to: str, data: bytes, headers: dict[str, str] | None) -> None:
        self._ready.append((to, data, headers))
        self._changed.set()

    async def _pump(self) -> None:
        """Neither list grows beyond what one turn of the loop reads, or may be in progress."""
        while not self._is_done():
            await self._changed.wait()
            self._changed.clear()
            self._take_all()
            ready, self._ready = self._ready, []
            await self._publish(ready)

    def _take_all(self) -> None:
        asked, self._asked = self._asked, []
        for message in asked:
            self._answering.take(message.data, message.headers or {}, message.reply)

    def _is_done(self) -> bool:
        return self._is_stopping and not (self._asked or self._ready or self._answering.n_in_progress)

    async def _publish(self, ready: list[tuple[str, bytes, dict[str, str] | None]]) -> None:
        subject = self._answering.answerer.subject
        for to, data, headers in ready:
            try:
                await self._client.publish(to, data, headers=headers)
            except MaxPayloadError as error:
                self._answering.bug(error)
            except NatsError as error:
                # Too much waits for a lost connection, or it is closed: the caller's time-out tells it.
                metrics.ANSWERS.labels(subject, "dropped").inc()
                logs.get().warning("answer.dropped", subject=subject, reason=repr(error))

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._answering.bug(error)
