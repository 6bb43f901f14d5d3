"""How far we have come, by the newest message that we can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qraft_bus.port import Bus
from qraft_contracts.outcomes import Malformed
from qraft_telemetry import logs

T = TypeVar("T")


async def last_readable(bus: Bus, subject: str, decode: Callable[[bytes], T]) -> T | None:
    """
    Return the newest stored message of a subject, decoded; None when there is none or it cannot be read.

    Somebody else's rubbish on our subject says nothing about us. A service that starts after it takes its position
    for unknown and does some work again, which ids and receivers make harmless; it must not fail on it, for the
    message stays the newest until the service itself publishes.

    Raises:
        Transient: if the bus does not answer.
    """
    last = await bus.last(subject)
    if last is None:
        return None
    try:
        return decode(last.data)
    except Malformed as error:
        logs.get().warning("bus.last_unreadable", subject=subject, stream_seq=last.stream_seq, reason=str(error))
        return None
