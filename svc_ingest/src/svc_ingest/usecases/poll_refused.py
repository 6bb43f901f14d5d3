"""Rows of polled feeds that were not taken: kept and counted once, however often a poll reads them again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from qraft_store.tables.port import TableStore
from qraft_telemetry import logs
from svc_ingest.domain.shaping import Refused
from svc_ingest.domain.tally import Count
from svc_ingest.ports import PollRecord
from svc_ingest.usecases.faults import keep_refused

# Of the rows in a table's quarantine so many are remembered; a poll that meets others has them counted again.
_QUARANTINED_MAX: Final = 100_000
# Kept refused rows are told apart by what they say; a feed in another unit adds one row a step.
_REFUSED_MAX: Final = 10_000
# Columns of a quarantined row that are not what the venue said.
_OURS: Final = frozenset({"known_at", "revision", "origin", "source", "reason"})


@dataclass(slots=True)
class PollRefused:
    """What one process has kept of the rows that it did not take."""

    record: PollRecord
    _known: set[tuple[str, str, str]] = field(default_factory=set)
    _has_told_full: bool = False

    async def keep(self, name: str, symbol: str, refused: Sequence[Refused], count: Count) -> None:
        """
        Keep the refused rows that were not kept before; the others, which each poll reads again, leave the count.

        After _REFUSED_MAX no more are kept and nothing tells a repetition: each is counted whenever it comes.
        """
        new: dict[tuple[str, str, str], tuple[str, Refused]] = {}
        for row in refused:
            said = msgspec.json.decode(row.received)
            said.pop("known_at", None)  # ours, another one with each poll
            key = (name, symbol, msgspec.json.encode(said).decode())
            if key in self._known or key in new:
                count.refuse(row.reason, -1)
            elif len(self._known) + len(new) < _REFUSED_MAX:
                new[key] = (symbol or row.market, row)
            elif not self._has_told_full:
                self._has_told_full = True
                logs.get().warning("feeds.refused_full", feed=name, symbol=symbol, n_kept=_REFUSED_MAX)
        if new:
            reason = next(iter(new.values()))[1].reason
            logs.get().warning("feeds.refused", feed=name, symbol=symbol, n=len(new), reason=reason)
            await asyncio.to_thread(keep_refused, self.record.add_refused, name, list(new.values()))
            self._known |= new.keys()


@dataclass(slots=True)
class QuarantinedRows:
    """What the stores themselves did not take, by table: read out of their quarantine, also after a restart."""

    _known: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def without(self, tables: TableStore, kind: str, market: str, rows: pa.Table) -> pa.Table:
        """
        Return the rows but those that stand in the quarantine, whatever their known_at, which is another one each time.

        Raises:
            Malformed: if the quarantine cannot be read.
        """
        table = (kind, market)
        if table not in self._known:
            self._known[table] = set(_said(tables.quarantine(kind, market=market))[-_QUARANTINED_MAX:])
        known = self._known[table]
        if not known:
            return rows
        return rows.filter(pa.array(np.array([it not in known for it in _said(rows)], dtype=bool)))

    def forget(self, kind: str, market: str) -> None:
        """Read a table's quarantine again before the next rows: something was added to it."""
        self._known.pop((kind, market), None)


def _said(rows: pa.Table) -> list[int]:
    """Return of each row a number of what the venue said; instants as integers: a refused one may be of no year."""
    names = sorted(name for name in rows.column_names if name not in _OURS)
    columns = [
        (rows[name].cast(pa.int64()) if pa.types.is_timestamp(rows[name].type) else rows[name]).to_pylist()
        for name in names
    ]
    return [hash(repr(row)) for row in zip(*columns, strict=True)]
