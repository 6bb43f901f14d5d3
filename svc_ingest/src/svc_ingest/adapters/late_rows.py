"""
Rows of a living market that come while its bars go out: none of them may look as if a bar had known it that did not.

A poll's row may be received just before a bar ends and stored just after the bar went out, and the history that a venue
tells of a new lake may come after the first bars. Both are stored as known right after the newest bar, so that history
shows them from the next bar on, as the line does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_store.tables.port import Appended, Revisions, TableStore
from svc_ingest.domain.clock_times import US


class ReadMark:
    """
    For which bars of this process state was read. Held while state is read and while rows are stored.

    Rows that were stale by the first of these bars are history and stay as they are.

    The lock costs a bar the wait for one append that is under way, and an append the wait for one read of state (see
    svc_ingest/README.md for its time); without it a row could be stored between the read of a bar and its note.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._first_us: int | None = None
        self._until_us = -1

    def read_of(self, first_us: int, last_us: int) -> None:
        """Note that state of a stretch of bars is about to be read. The lock is held."""
        self._first_us = first_us if self._first_us is None else min(self._first_us, first_us)
        self._until_us = max(self._until_us, last_us)

    def as_known(self, kind: str, rows: pa.Table) -> pa.Table:
        """Return rows with the time from which a bar can have known them. The lock is held."""
        if self._first_us is None:
            return rows
        known, event = (np.asarray(rows[it].cast(pa.int64()).to_numpy(), np.int64) for it in ("known_at", "event_at"))
        stale_s = KINDS[kind].stale_after_s
        is_late = known <= self._until_us
        if stale_s is not None:
            is_late &= event >= self._first_us - stale_s * 1_000_000
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
            return self._tables.append(kind, market=market, rows=self._mark.as_known(kind, rows))

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
