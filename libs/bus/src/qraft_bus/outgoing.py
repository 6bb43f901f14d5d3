"""What a message carries when it leaves: its headers, made from the message and from what caused it."""

from __future__ import annotations

from qraft_bus.port import OutMessage
from qraft_contracts import headers
from qraft_contracts.times import format_instant
from qraft_telemetry.tracing import child_traceparent


def outgoing_headers(message: OutMessage, *, service: str, now_ns: int) -> dict[str, str]:
    """
    Return all headers of a message to publish.

    Args:
        message: the trace and the hops of its `cause` are carried on.
        service: name of the publisher, for the hop trace.
        now_ns: wall clock, unix nanoseconds.
    """
    cause = message.cause
    return {
        headers.MESSAGE_ID: message.message_id,
        headers.SCHEMA: message.schema,
        headers.AS_OF: format_instant(message.as_of),
        headers.ORIGIN: message.origin.value,
        headers.LINEAGE: message.lineage,
        headers.TRACEPARENT: child_traceparent(cause.get(headers.TRACEPARENT)),
        headers.HOPS: headers.append_hop(cause.get(headers.HOPS), service=service, now_ns=now_ns),
    }
