"""The headers on every message of the bus."""

from __future__ import annotations

from typing import Final

MESSAGE_ID: Final = "Nats-Msg-Id"
SCHEMA: Final = "Qraft-Schema"
AS_OF: Final = "Qraft-As-Of"
ORIGIN: Final = "Qraft-Origin"
LINEAGE: Final = "Qraft-Lineage"
TRACEPARENT: Final = "traceparent"
# `<service>=<unix nanoseconds>` of each publish on the way here, comma separated. Wall clock, so it is a header
# and never part of a payload: payloads must be the same bytes when a day is played again.
HOPS: Final = "Qraft-Hops"

REQUIRED: Final = (MESSAGE_ID, SCHEMA, AS_OF, ORIGIN, LINEAGE, TRACEPARENT)


def append_hop(hops: str | None, *, service: str, now_ns: int) -> str:
    """Return the hop trace with one more publish at its end."""
    hop = f"{service}={now_ns}"
    return f"{hops},{hop}" if hops else hop


def parse_hops(hops: str | None) -> list[tuple[str, int]]:
    """Return (service, unix nanoseconds) of each publish; entries that do not parse are left out."""
    found: list[tuple[str, int]] = []
    for part in (hops or "").split(","):
        service, _, stamp = part.partition("=")
        if service and stamp.isdigit():
            found.append((service, int(stamp)))
    return found
