"""`usage.compute`: what one heavy job or provider call took, told by the service that ran it, booked by svc_billing."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from qraft_contracts.origin import Origin

# The columns of the weekly report.
RESEARCH: Final = "research"
TRAINING: Final = "training"
PAPER: Final = "paper"
PROVIDER: Final = "provider"  # real provider calls
DEMO: Final = "demo"  # demonstration service, simulated providers included
COLUMNS: Final = (RESEARCH, TRAINING, PAPER, PROVIDER, DEMO)

USAGE_COMPUTE: Final = "usage.compute"


class ComputeUsage(msgspec.Struct, frozen=True):
    """
    One finished piece of work. usage_id is its idempotency key, such as `svc_train/<run id>`.

    purpose: why it ran. stop_condition: what would have ended it, such as "240 rounds or 4 folds". cpu_ms: processor
    time of the process and its children; gpu_ms: time a GPU was held; n_bytes: written to stores or sent to a provider.
    provider_cost_microusd: as told by the provider, None = unknown (never taken for zero in the report).
    """

    SCHEMA: ClassVar[str] = "usage/1"

    usage_id: str
    column: str
    service: str
    purpose: str
    stop_condition: str
    started_at: datetime
    ended_at: datetime
    cpu_ms: int
    gpu_ms: int
    n_bytes: int
    origin: Origin
    provider_cost_microusd: int | None = None
    account_id: str | None = None
    job_id: str | None = None
