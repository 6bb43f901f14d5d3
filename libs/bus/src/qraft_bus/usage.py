"""Tell what a job took, as its last act. It never fails the job: what that made counts, and the log has the figures."""

from __future__ import annotations

import resource
from typing import Final

from nats.errors import Error as NatsError

from qraft_bus.nats import NatsBus
from qraft_bus.port import OutMessage
from qraft_bus.publish import PublishRejected
from qraft_bus.settings import BusSettings
from qraft_contracts.codec import encode
from qraft_contracts.outcomes import Transient
from qraft_contracts.usage import USAGE_COMPUTE, ComputeUsage
from qraft_telemetry import logs

# A job that runs without any server waits this long for one.
_SETTINGS: Final = BusSettings(connect_timeout_s=3.0, publish_timeout_s=3.0, publish_budget_s=6.0, drain_timeout_s=2.0)


def processor_ms() -> int:
    """Return the processor time of this process and of its children that have ended, in milliseconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(1e3 * sum(it.ru_utime + it.ru_stime for it in used))


async def tell_usage(nats_url: str, usage: ComputeUsage, *, lineage: str) -> bool:
    """Publish `usage.compute` on a connection of its own; return whether that is stored. The id makes it count once."""
    bus = NatsBus(nats_url, name=usage.service, settings=_SETTINGS)
    message = OutMessage(
        subject=USAGE_COMPUTE,
        data=encode(usage),
        message_id=f"usage/{usage.usage_id}",
        schema=ComputeUsage.SCHEMA,
        as_of=usage.ended_at,
        origin=usage.origin,
        lineage=lineage,
    )
    told: dict[str, object] = {"usage_id": usage.usage_id, "column": usage.column, "cpu_ms": usage.cpu_ms}
    told |= {"n_bytes": usage.n_bytes, "purpose": usage.purpose}
    try:
        await bus.start()
        await bus.publish(message)
    except (Transient, PublishRejected, NatsError, OSError) as error:
        logs.get().warning("usage.not_told", reason=str(error), **told)
        return False
    finally:
        await bus.drain()
    logs.get().info("usage.told", **told)
    return True
