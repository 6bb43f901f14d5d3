"""
Who writes and who reads each subject, in one table.

The AsyncAPI document is made from it, and a test compares it with what the services really subscribe to and checks
that the quant line has no way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qraft_contracts.billing import BILLING_COMMANDS


@dataclass(frozen=True, slots=True)
class Edge:
    """One subject (pattern), the schema on it, and the services at its ends."""

    subject: str
    schema: str
    what: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


FLOW: Final = (
    Edge("bars.*", "bars/1", "all symbols of one market for one closed bar", ("svc_ingest",),
         ("svc_features", "svc_execution")),
    Edge("features.ready", "features/1", "symbol × feature matrix of one bar", ("svc_features",), ("svc_inference",)),
    Edge("signals.*", "signals/1", "one horizon's signals for all symbols of one bar", ("svc_inference",),
         ("svc_allocator",)),
    Edge("targets.paper", "targets/1", "target positions with the attribution per horizon", ("svc_allocator",),
         ("svc_execution",)),
    Edge("orders.paper", "orders/1", "one paper order", ("svc_execution",), ()),
    Edge("fills.paper", "fills/1", "one fill of a paper order", ("svc_execution",), ()),
    Edge("imagejob.created.*", "imagejob/1", "one new image job, waiting for its provider's workers", ("svc_imagegen",),
         ("svc_imagegen",)),
    Edge("imagejob.*", "imagejob/1", "one later transition of an image job", ("svc_imagegen",), ()),
    Edge("ledger.entries.*", "ledger/1", "one balanced entry of the credit ledger", ("svc_billing",), ()),
    Edge("usage.compute", "usage/1", "what a heavy job or a provider call took",
         ("svc_train", "svc_backtest", "svc_imagegen"), ("svc_billing",)),
    Edge("models.*", "models/1", "one decision of the model registry", ("svc_train", "operator"), ("svc_inference",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One request/reply subject, who asks and who answers. Answers are `billing.reply/1`."""

    subject: str
    schema: str
    callers: tuple[str, ...]
    answerer: str


# The only requests between services. Everything else is told by events.
CALLS: Final = tuple(Call(it.SUBJECT, it.SCHEMA, ("svc_imagegen",), "svc_billing") for it in BILLING_COMMANDS)
