"""What the services need of a table store: every kind of data but bars, with revisions and as-of reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

# latest: of each row the newest revision known by `as_of`. first: revision 0 only. all: every revision known by then.
Revisions = Literal["latest", "first", "all"]


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of the rows of one append. n_quarantined: refused rows, kept with their reason."""

    n_new: int
    n_repeated: int
    n_quarantined: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """
    The pieces in which the rows of a range are stored now. What a piece holds never changes under its name.

    names: of all pieces that may hold such rows. cut: of all that may hold rows after the range. rows: of the pieces
    that the caller did not have yet, by name: every revision, whenever known, sorted as a read is.
    """

    names: frozenset[str]
    cut: frozenset[str]
    rows: Mapping[str, pa.Table]


class TableStore(Protocol):
    """
    Append-only tables of the kinds in qraft_contracts.kinds but `bars`.

    A table holds BASE_COLUMNS and the kind's fields, in that order. A row is named by (kind, market, symbol, event_at,
    row_id, revision).
    """

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """
        Store rows. Equal repetitions are skipped. Rows that the kind forbids (a bound, a missing required field, a
        `known_at` before `event_at`, other values under a stored name) are quarantined with their reason.

        The rows of a call may come in any order; what is stored is sorted by (event_at, symbol, row_id, revision).

        Raises:
            ValueError: if a column is missing, unknown or of another type, or the kind is unknown.
            Transient: if the disk is full or another process writes the table.
        """
        ...

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
        """
        Return the rows with start < event_at <= end and known_at <= as_of (None = end), sorted by (event_at, symbol,
        row_id, revision); an empty table when there is none. symbols None = all, columns None = all.
        """
        ...

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return of each symbol the n newest rows (latest revision) with known_at <= as_of, sorted as `read`."""
        ...

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets that have rows of a kind, sorted."""
        ...

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols stored, sorted."""
        ...

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored event_at, or None when empty."""
        ...

    def version(self, kind: str, *, market: str) -> str:
        """Return the SHA-256 that names the stored content; it changes with every row stored and with nothing else."""
        ...

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows: the columns as received, as text where they do not fit, and `reason`."""
        ...


@runtime_checkable
class PiecedTables(TableStore, Protocol):
    """A TableStore of which a reader that keeps rows in memory reads only what it has not seen."""

    def mark(self, kind: str, *, market: str) -> str:
        """Return what is another text after every row stored, and costs next to nothing; "" where there is no table."""
        ...

    def pieces(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str],
        start: datetime,
        end: datetime,
        columns: Sequence[str],
        known: Collection[str],
    ) -> Pieces:
        """
        Return what a reader of the rows with start < event_at <= end lacks.

        known: names of the pieces whose rows of this range the reader has.
        """
        ...
