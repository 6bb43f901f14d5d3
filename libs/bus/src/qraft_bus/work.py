"""
The policy around every piece of work, the same for the real bus and its twin: what its end means for its message.

Unlike in `consume`, nothing is retried in place: a message that cannot be done now is handed back and comes again.
"""

from __future__ import annotations

import time

from qraft_bus.consume import PublishDeadLetter
from qraft_bus.dead_letter import DeadLetterRatio, dead_letter
from qraft_bus.decisions import Bury, Later, Settle, WorkVerdict, judge_headers, judge_work
from qraft_bus.fatal import Fatal
from qraft_bus.port import Delivery, RetryLater, WorkSubscription
from qraft_bus.settings import BusSettings
from qraft_contracts.outcomes import Outcome, Transient
from qraft_contracts.subjects import DEAD_LETTER_PREFIX
from qraft_telemetry import logs, metrics


class UnusableQueue(Exception):
    """Most of what stands in the queue cannot be read, or a dead letter cannot be buried: nobody should go on."""


class Workload:
    """Handles the messages of one work queue. bury: publishes a dead letter, or raises Transient."""

    def __init__(self, work: WorkSubscription, *, settings: BusSettings, fatal: Fatal, bury: PublishDeadLetter) -> None:
        self.work = work
        self._settings = settings
        self._fatal = fatal
        self._publish_dead_letter = bury
        self._ratio = DeadLetterRatio(settings)
        self._seconds = metrics.HANDLE_SECONDS.labels(work.durable)
        self.in_progress = metrics.WORK_IN_PROGRESS.labels(work.durable)

    async def handle(self, delivery: Delivery) -> Settle | Later:
        """
        Handle one message to its end: settled = acknowledge it, later = hand it back for that long.

        Raises:
            Exception: whatever else the handler raised, or UnusableQueue. Leave the message and tell `failed`.
        """
        began = time.perf_counter()
        verdict: WorkVerdict | None = judge_headers(delivery, schemas=self.work.schemas)
        if verdict is None:
            verdict = self._judge(await self._run(delivery), delivery)
        if isinstance(verdict, Bury):
            ended = await self._bury(verdict, delivery)
        else:
            ended = verdict
        self._seconds.observe(time.perf_counter() - began)
        self._tell(ended, delivery, is_dead=isinstance(verdict, Bury))
        return ended

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """Declare the bus fatal for an error that no handler may raise."""
        metrics.MESSAGES_HANDLED.labels(self.work.durable, "fatal").inc()
        where = f"{delivery.stream}/{delivery.stream_seq} on {self.work.durable}"
        self._log("work.failed", delivery, exc_info=error)
        what = str(error) if isinstance(error, UnusableQueue) else f"bug in the handler: {error!r}"
        self._fatal.declare(f"message {where} cannot be handled: {what}")

    async def _run(self, delivery: Delivery) -> Outcome | RetryLater | None:
        try:
            await self.work.handler(delivery)
        except (Outcome, RetryLater) as ended:
            return ended
        return None

    async def _bury(self, verdict: Bury, delivery: Delivery) -> Settle | Later:
        if delivery.subject.startswith(f"{DEAD_LETTER_PREFIX}."):
            raise UnusableQueue(f"a dead letter cannot be buried once more: {verdict.reason}: {verdict.detail}")
        if self._ratio.would_exceed():
            raise UnusableQueue(
                f"more than {self._settings.dead_letter_frac_max:.0%} of the last messages would be dead letters "
                f"(the next: {verdict.reason}: {verdict.detail}): publisher and reader do not fit together"
            )
        letter = dead_letter(delivery, durable=self.work.durable, reason=verdict.reason, detail=verdict.detail)
        try:
            await self._publish_dead_letter(letter)
        except Transient as away:
            later = self._judge(away, delivery)
            assert isinstance(later, Later)
            return later
        metrics.DEAD_LETTERS.labels(delivery.stream, verdict.reason).inc()
        return Settle(outcome="malformed", reason=verdict.reason, detail=verdict.detail)

    def _judge(self, outcome: Outcome | RetryLater | None, delivery: Delivery) -> WorkVerdict:
        key = f"{self.work.durable}/{delivery.stream_seq}"
        return judge_work(outcome, key=key, n_delivered=delivery.n_delivered, settings=self._settings)

    def _tell(self, ended: Settle | Later, delivery: Delivery, *, is_dead: bool) -> None:
        outcome = ended.outcome if isinstance(ended, Settle) else "later"
        metrics.MESSAGES_HANDLED.labels(self.work.durable, outcome).inc()
        if isinstance(ended, Settle):
            self._ratio.record(is_dead=is_dead)
            if outcome != "ok":
                self._log(f"work.{outcome}", delivery, reason=ended.reason, detail=ended.detail)
        else:
            self._log("work.handed_back", delivery, reason=ended.reason, delay_s=round(ended.delay_s, 3))

    def _log(self, event: str, delivery: Delivery, **fields: object) -> None:
        logs.get().warning(
            event,
            durable=self.work.durable,
            subject=delivery.subject,
            stream_seq=delivery.stream_seq,
            n_delivered=delivery.n_delivered,
            **fields,
        )
