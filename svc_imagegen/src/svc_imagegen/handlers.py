"""The bus edge of the worker: one work queue a provider, whose cap holds over all processes together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from qraft_bus.port import RETRY_LATER_S_MAX, Bus, Delivery, RetryLater, WorkSubscription
from qraft_contracts.codec import decode
from qraft_contracts.imagejobs import ImageJobEvent, job_created_subject
from svc_imagegen.usecases.run_job import RunJob

# At once would find the other worker's lease still running.
_RETRY_S_MIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Queue:
    """
    One provider's queue. n_concurrent: how many of its calls may be open at once, over all workers.

    ack_wait_s: how long after its worker's death a message comes again.
    """

    provider: str
    n_concurrent: int
    ack_wait_s: float


class CreatedJobs:
    """Handles `imagejob.created.<provider>`."""

    def __init__(self, run_job: RunJob) -> None:
        self._run_job = run_job

    def subscribe(self, bus: Bus, queues: Iterable[Queue]) -> None:
        """Register one work queue a provider; before the bus starts."""
        for queue in queues:
            bus.work(
                WorkSubscription(
                    subject=job_created_subject(queue.provider),
                    durable=f"imagegen-{queue.provider}",
                    handler=self.on_created,
                    schemas=(ImageJobEvent.SCHEMA,),
                    n_concurrent=queue.n_concurrent,
                    ack_wait_s=queue.ack_wait_s,
                )
            )

    async def on_created(self, delivery: Delivery) -> None:
        """Run the job; raises RetryLater when it cannot be now."""
        event = decode(delivery.data, ImageJobEvent)
        wait_s = await self._run_job(event.job_id, is_redelivered=delivery.n_delivered > 1)
        if wait_s is not None:
            raise RetryLater(min(max(wait_s, _RETRY_S_MIN), RETRY_LATER_S_MAX), f"job {event.job_id}")
