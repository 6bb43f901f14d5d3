"""What the use cases need of the outside: sources of bars and data sets, and the bus as far as a publisher sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from qraft_bus.port import Delivery, OutMessage, PublishAck
from qraft_contracts.origin import Origin
from svc_ingest.domain.datasets import Dataset, ReaderName
from svc_ingest.domain.market_state import KnownState
from svc_ingest.domain.parts import Part
from svc_ingest.domain.raw import Int64Array, RawChunk
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.venue_feeds import Feed


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


class MarketState(Protocol):
    """What else is known of a market's symbols beside their bars. Adapter: market_state."""

    def read(self, *, symbols: Sequence[str], at_us: Int64Array) -> KnownState:
        """
        Return the state as of each time (microseconds since 1970, strictly increasing, at least one). Blocks.

        Raises:
            Transient: if nothing can be read now; a single table that cannot be read is a fault in the answer.
        """
        ...


class DatasetReader(Protocol):
    """Files of data sets, as tables. Adapter: readers."""

    def parts(self, path: Path, *, reader: ReaderName, companion: Path | None) -> Iterator[Part]:
        """
        Yield a file's rows in their order, some at a time; an empty file yields one part without rows.

        Raises:
            Malformed: if it is not whole, or not of that format.
        """
        ...


class CollectRecord(Protocol):
    """What is remembered of collected data sets. Adapter: collected."""

    def version_of(self, dataset: Dataset, files: Sequence[Path]) -> str:
        """Return what changes when the rules or the files of a data set change."""
        ...

    def done(self, dataset: str, version: str) -> Mapping[str, Any] | None:
        """Return the counts of a data set that was collected whole in this version, or None."""
        ...

    def set_done(self, dataset: str, version: str, counts: Mapping[str, Any]) -> None:
        """Remember a data set as collected whole."""
        ...

    def keep_refused(self, dataset: str, refused: Sequence[tuple[str, Refused]]) -> None:
        """Replace the kept refused rows of a data set, each with its file."""
        ...


class PollRecord(Protocol):
    """What polling remembers across restarts. Adapter: collected."""

    def polling_since(self, venue: str, now: datetime) -> datetime:
        """Return when this lake was polled for the first time; `now`, which is kept, where it never was."""
        ...

    def banned_until(self, venue: str) -> datetime | None:
        """Return until when a venue wanted no request, or None where it never said so."""
        ...

    def set_ban(self, venue: str, until: datetime) -> None:
        """Remember until when a venue wants no request."""
        ...

    def add_refused(self, name: str, rows: Sequence[tuple[str, Refused]]) -> None:
        """Keep refused rows, each with what it came by (a file or a symbol), beside those kept before."""
        ...


class VenueHistory(Protocol):
    """What a venue tells of its past. Adapter: history."""

    @property
    def name(self) -> str:
        """Return the venue's id, such as `binance`."""
        ...

    def has(self, feed: Feed, symbol: str) -> bool:
        """Return whether the venue has the contract of a feed."""
        ...

    async def page(self, feed: Feed, symbol: str, *, start_ms: int, end_ms: int) -> Sequence[Mapping[str, Any]]:
        """
        Return the rows stamped start_ms to end_ms, inclusive, oldest first, feed.page_rows at most.

        Raises:
            Banned, TooOld: as their names say.
            Malformed: if the venue refuses the request or changed its format.
            Transient: if it is away.
        """
        ...


class PolledVenue(VenueHistory, Protocol):
    """A venue that is asked for as long as the process lives. Adapter: history."""

    async def open(self) -> None:
        """Load what the venue trades; raises as `page`."""
        ...
