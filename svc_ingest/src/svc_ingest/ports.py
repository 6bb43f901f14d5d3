"""What the use cases need of the outside: a source of raw bars, and the bus as far as a publisher sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Protocol

from qraft_bus.port import Delivery, OutMessage, PublishAck
from qraft_contracts.origin import Origin
from svc_ingest.domain.raw import RawChunk


class BarSource(Protocol):
    """
    Bars of one market and interval, as they are; faults are judged by svc_ingest.domain.quality.

    Adapters: files, exchange, simulator.
    """

    @property
    def origin(self) -> Origin:
        """Return where the bars come from."""
        ...

    @property
    def description(self) -> str:
        """Return what an operator should know the source as, such as `files perp_5m_2025`."""
        ...

    @property
    def lineage(self) -> str:
        """Return the id of the snapshot or stream, for the header Qraft-Lineage."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols, sorted; known after `open`."""
        ...

    @property
    def is_live(self) -> bool:
        """Return whether bars come at the pace of a market rather than from a record."""
        ...

    @property
    def last_closed_at(self) -> datetime | None:
        """Return the end of the last bar of a finite source; None = bars go on arriving."""
        ...

    async def open(self) -> Mapping[str, int]:
        """
        Check that the source can be used and return how many rows of each symbol stand out of order in it.

        Raises:
            Malformed: if it cannot be read, with what to do.
            Transient: if it is away.
        """
        ...

    def chunks(self, *, after: datetime | None, until: datetime | None) -> AsyncIterator[RawChunk]:
        """
        Yield all rows with after < closed_at <= until, oldest first; a forming bar is never among them.

        after None = from the source's own beginning. until None = to the end of a finite source, else for ever,
        waiting for each bar to close. Raises Malformed and Transient as above.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class BarsBus(Protocol):
    """The part of qraft_bus.port.Bus that publishing needs."""

    async def publish(self, message: OutMessage) -> PublishAck:
        """Store one message and wait for the receipt; raises Transient."""
        ...

    async def last(self, subject: str) -> Delivery | None:
        """Return the newest stored message of a subject, or None."""
        ...

    async def slowest_lag(self, stream: str) -> int:
        """Return the largest lag of all durables of a stream; raises Transient."""
        ...
