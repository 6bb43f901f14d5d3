"""
Rows of a living market that come while its bars go out: none of them may look as if a bar had known it that did not.

A poll's row may be received just before a bar ends and stored just after the bar went out. It is stored as known right
after that bar, so that history shows it from the next bar on, as the line does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from qraft_store.tables.port import Appended, Revisions, TableStore
from svc_ingest.domain.clock_times import US


class ReadMark:
    """
    Up to which bar state was read to go out. Held while state is read and while rows are stored.

    What was known before the first bar of this process is history and stays as it is.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._first_us: int | None = None
        self._until_us = -1

    def read_up_to(self, at_us: int) -> None:
        """Note that state as of an instant is about to be read. The lock is held."""
        self._first_us = at_us if self._first_us is None else self._first_us
        self._until_us = max(self._until_us, at_us)

    def as_known(self, rows: pa.Table) -> pa.Table:
        """Return rows with the time from which a bar can have known them. The lock is held."""
        if self._first_us is None:
            return rows
        known = np.asarray(rows["known_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        is_late = (known > self._first_us) & (known <= self._until_us)
        if not is_late.any():
            return rows
        told = np.where(is_late, self._until_us + 1, known)
        return rows.set_column(rows.schema.get_field_index("known_at"), "known_at", pa.array(told).cast(US))


class LateRows:
    """A TableStore that says of rows which come too late for a bar that they were known after it."""

    def __init__(self, tables: TableStore, mark: ReadMark) -> None:
        self._tables, self._mark = tables, mark

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """Store rows, as known then; see the port."""
        with self._mark.lock:
            return self._tables.append(kind, market=market, rows=self._mark.as_known(rows))

    def read(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        columns: Sequence[str] | None = None,
        revisions: Revisions = "latest",
    ) -> pa.Table:
        """Read rows; see the port."""
        return self._tables.read(
            kind, market=market, symbols=symbols, start=start, end=end, as_of=as_of, columns=columns,
            revisions=revisions,
        )  # fmt: skip

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return the newest rows; see the port."""
        return self._tables.last(kind, market=market, symbols=symbols, n=n, as_of=as_of)

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets of a kind; see the port."""
        return self._tables.markets(kind)

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols stored; see the port."""
        return self._tables.symbols(kind, market=market)

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and last stored event; see the port."""
        return self._tables.range(kind, market=market)

    def version(self, kind: str, *, market: str) -> str:
        """Return what names the stored content; see the port."""
        return self._tables.version(kind, market=market)

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows; see the port."""
        return self._tables.quarantine(kind, market=market)
