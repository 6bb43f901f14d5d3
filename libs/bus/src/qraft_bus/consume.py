"""
The policy around every handler, the same for the real bus and its twin.

ok and Refused → acknowledge; Malformed → dead letter, then acknowledge; Transient → retry in place, in order, with
heartbeats; anything else, or too many of the former → the bus is fatal and the message stays for the next process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.dead_letter import DeadLetterMessage, DeadLetterRatio, dead_letter
from qraft_bus.decisions import Bury, Retry, Settle, Stop, Verdict, judge_delivery, judge_outcome
from qraft_bus.fatal import Fatal
from qraft_bus.port import Delivery, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.subjects import DEAD_LETTER_PREFIX
from qraft_telemetry import logs, metrics

Beat = Callable[[], Awaitable[None]]
PublishDeadLetter = Callable[[DeadLetterMessage], Awaitable[None]]


class Consumption:
    """Handles the messages of one subscription, one at a time. bury: publishes a dead letter, or raises Transient."""

    def __init__(
        self, subscription: Subscription, *, settings: BusSettings, fatal: Fatal, bury: PublishDeadLetter
    ) -> None:
        self._subscription = subscription
        self._settings = settings
        self._fatal = fatal
        self._publish_dead_letter = bury
        self._ratio = DeadLetterRatio(settings)
        self._beat_interval_s = settings.ack_wait_s / 3
        self._seconds = metrics.HANDLE_SECONDS.labels(subscription.durable)

    async def handle(self, delivery: Delivery, *, in_progress: Beat) -> bool:
        """
        Handle one message to its end.

        Args:
            delivery: the message.
            in_progress: tells the server that work goes on; called every third of the ack wait.

        Returns:
            True = acknowledge it; False = leave it and stop: the bus is fatal.
        """
        began = time.perf_counter()
        verdict: Verdict | None = judge_delivery(delivery, schemas=self._subscription.schemas, settings=self._settings)
        if verdict is None:
            verdict = await self._until_decided(lambda: self._subscription.handler(delivery), delivery, in_progress)
        if isinstance(verdict, Bury):
            verdict = await self._bury(verdict, delivery, in_progress)
        self._seconds.observe(time.perf_counter() - began)
        return self._conclude(verdict, delivery)

    async def _until_decided(
        self, work: Callable[[], Awaitable[None]], delivery: Delivery, in_progress: Beat
    ) -> Verdict:
        """Run the work until it ends in something other than Transient, or its budget is used up."""
        began = time.monotonic()
        n_attempts = 0
        while True:
            n_attempts += 1
            error = await self._finish(work(), in_progress)
            verdict = judge_outcome(
                error,
                key=f"{self._subscription.durable}/{delivery.stream_seq}",
                n_attempts=n_attempts,
                elapsed_s=time.monotonic() - began,
                settings=self._settings,
            )
            if isinstance(verdict, Stop):
                self._log("message.failed", delivery, reason=verdict.reason, exc_info=error)
            if not isinstance(verdict, Retry):
                return verdict
            self._count("transient")
            self._log("message.retried", delivery, reason=verdict.reason, n_attempts=n_attempts)
            await self._finish(asyncio.sleep(verdict.delay_s), in_progress)

    async def _finish(self, work: Awaitable[None], in_progress: Beat) -> BaseException | None:
        """
        Wait for the work with heartbeats and return what it raised.

        It runs in its own task because that is the one place where every exception, also a bug's, can be looked at
        instead of caught.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=self._beat_interval_s)
                if not task.done():
                    await in_progress()
        finally:
            await cancel_and_wait(task)
        return asyncio.CancelledError("the handler canceled itself") if task.cancelled() else task.exception()

    async def _bury(self, verdict: Bury, delivery: Delivery, in_progress: Beat) -> Verdict:
        settings = self._settings
        if delivery.subject.startswith(f"{DEAD_LETTER_PREFIX}."):
            return Stop(f"a dead letter cannot be buried once more: {verdict.reason}: {verdict.detail}")
        if self._ratio.would_exceed():
            return Stop(
                f"more than {settings.dead_letter_frac_max:.0%} of the last messages would be dead letters "
                f"(the next: {verdict.reason}: {verdict.detail}): publisher and reader do not fit together"
            )
        letter = dead_letter(delivery, durable=self._subscription.durable, reason=verdict.reason, detail=verdict.detail)
        done = await self._until_decided(lambda: self._publish_dead_letter(letter), delivery, in_progress)
        if not isinstance(done, Settle):
            return done
        metrics.DEAD_LETTERS.labels(delivery.stream, verdict.reason).inc()
        self._log("message.dead_lettered", delivery, reason=verdict.reason, detail=verdict.detail)
        return verdict

    def _conclude(self, verdict: Verdict, delivery: Delivery) -> bool:
        match verdict:
            case Settle(outcome, reason, detail):
                self._ratio.record(is_dead=False)
                self._count(outcome)
                if outcome == "refused":
                    self._log("message.refused", delivery, reason=reason, detail=detail)
                return True
            case Bury(reason):
                self._ratio.record(is_dead=True)
                self._count("poison" if reason == "poison" else "malformed")
                return True
            case Stop(reason):
                self._count("fatal")
                where = f"{delivery.stream}/{delivery.stream_seq} on {self._subscription.durable}"
                self._fatal.declare(f"message {where} cannot be handled: {reason}")
                return False
            case Retry():
                raise AssertionError("a retry is never a conclusion")

    def _count(self, outcome: str) -> None:
        metrics.MESSAGES_HANDLED.labels(self._subscription.durable, outcome).inc()

    def _log(self, event: str, delivery: Delivery, **fields: object) -> None:
        logs.get().warning(
            event,
            durable=self._subscription.durable,
            subject=delivery.subject,
            stream_seq=delivery.stream_seq,
            n_delivered=delivery.n_delivered,
            **fields,
        )
