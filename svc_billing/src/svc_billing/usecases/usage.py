"""Booking of `usage.compute`: the usage id is the operation id, so a message that comes again books nothing."""

from __future__ import annotations

from qraft_contracts.billing import OK, RETRY
from qraft_contracts.outcomes import Refused, Transient
from qraft_contracts.usage import ComputeUsage
from svc_billing.domain.commands import BookUsage
from svc_billing.usecases.ledger import Ledger


async def book_usage(ledger: Ledger, usage: ComputeUsage) -> None:
    """
    Book one piece of work.

    Raises:
        Refused: if its content is out of bounds, or the id was used for other content.
        Transient: if it is not known whether it was booked; book it again.
    """
    reply = await ledger.submit(BookUsage(operation_id=f"usage/{usage.usage_id}", usage=usage))
    if reply.outcome == RETRY:
        raise Transient(reply.code, reply.message)
    if reply.outcome != OK:
        raise Refused(reply.code, f"{usage.usage_id[:200]}: {reply.message}")
