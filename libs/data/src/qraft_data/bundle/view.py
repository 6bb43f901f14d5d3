"""Stores of which only some series can be seen, and nothing written: what an audit of a bundle looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from qraft_contracts.outcomes import Refused
from qraft_data.bundle.manifest import Source
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel, BarRevisions, BarStore
from qraft_store.tables.port import Appended, Revisions, TableStore

# Of each source the symbols that can be seen, None = all; a source that is not named cannot be seen.
Visible = Mapping[Source, frozenset[str] | None]


@dataclass(frozen=True, slots=True)
class ChosenBars:
    """A BarStore of some series."""

    bars: BarStore
    visible: Visible

    def append(self, batches: Sequence[BarBatch]) -> int:
        """Refuse to write."""
        raise _read_only(f"{len(batches)} batches of bars")

    def append_rows(self, rows: pa.Table, *, market: str, interval: str) -> int:
        """Refuse to write."""
        raise _read_only(f"{rows.num_rows} bars of {market} {interval}")

    def read(
        self, *, market: str, interval: str, symbols: Sequence[str] | None, start: datetime, end: datetime,
        as_of: datetime | None = None, revisions: BarRevisions = "first",
    ) -> BarPanel | None:  # fmt: skip
        """Return the bars with start < closed_at <= end; see the port."""
        return self.bars.read(market=market, interval=interval, symbols=symbols, start=start, end=end, as_of=as_of,
                              revisions=revisions)  # fmt: skip

    def last(
        self, *, market: str, interval: str, symbols: Sequence[str] | None, n: int, as_of: datetime,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:  # fmt: skip
        """Return the last n grid steps; see the port."""
        return self.bars.last(market=market, interval=interval, symbols=symbols, n=n, as_of=as_of, revisions=revisions)

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last closed_at; see the port."""
        return self.bars.range(market=market, interval=interval)

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the markets that can be seen, sorted."""
        found = self.bars.markets(interval)
        return tuple(market for market in found if Source("bars", interval, market) in self.visible)

    def symbols(self, *, market: str, interval: str) -> tuple[str, ...]:
        """Return the symbols that can be seen, sorted."""
        found = self.bars.symbols(market=market, interval=interval)
        return _seen(found, self.visible.get(Source("bars", interval, market)))

    def version(self, *, market: str, interval: str) -> str:
        """Return the version of the whole series; see the port."""
        return self.bars.version(market=market, interval=interval)

    def rows(
        self, *, market: str, interval: str, start: datetime | None = None, end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> Iterator[pa.Table]:  # fmt: skip
        """Give every stored revision as plain rows; see the port."""
        return self.bars.rows(market=market, interval=interval, start=start, end=end, as_of=as_of)


@dataclass(frozen=True, slots=True)
class ChosenTables:
    """A TableStore of some tables."""

    tables: TableStore
    visible: Visible

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """Refuse to write."""
        raise _read_only(f"{rows.num_rows} rows of {kind} {market}")

    def read(
        self, kind: str, *, market: str, symbols: Sequence[str] | None, start: datetime, end: datetime,
        as_of: datetime | None = None, columns: Sequence[str] | None = None, revisions: Revisions = "latest",
    ) -> pa.Table:  # fmt: skip
        """Return the rows with start < event_at <= end; see the port."""
        return self.tables.read(kind, market=market, symbols=symbols, start=start, end=end, as_of=as_of,
                                columns=columns, revisions=revisions)  # fmt: skip

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return of each symbol the n newest rows; see the port."""
        return self.tables.last(kind, market=market, symbols=symbols, n=n, as_of=as_of)

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets that can be seen, sorted."""
        return tuple(market for market in self.tables.markets(kind) if Source(kind, "", market) in self.visible)

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols that can be seen, sorted."""
        return _seen(self.tables.symbols(kind, market=market), self.visible.get(Source(kind, "", market)))

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored event_at; see the port."""
        return self.tables.range(kind, market=market)

    def version(self, kind: str, *, market: str) -> str:
        """Return the version of the whole table; see the port."""
        return self.tables.version(kind, market=market)

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows; see the port."""
        return self.tables.quarantine(kind, market=market)


def _seen(symbols: tuple[str, ...], visible: frozenset[str] | None) -> tuple[str, ...]:
    return symbols if visible is None else tuple(symbol for symbol in symbols if symbol in visible)


def _read_only(what: str) -> Refused:
    return Refused("read_only", f"expected to be read only, received {what}")
