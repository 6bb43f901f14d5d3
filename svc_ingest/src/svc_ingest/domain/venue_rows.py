"""A venue's rows as tables of the metric dictionary: what is new, what changed, and what cannot be of this unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.drift import BLOCK_ROWS, DRIFT_FIELDS, level_of, limit_of
from svc_ingest.domain.raw import FloatArray
from svc_ingest.domain.shaping import ARROW_TYPES, Refused, as_received
from svc_ingest.domain.venue_feeds import BadRow, VenueRow

# So many rows in a row make another unit. Open interest does not change by a factor of fifty within a step; a funding
# rate does in a squeeze.
JUMP_ROWS: Final = {"funding": BLOCK_ROWS // 5}
# How far from the mid, and of how many levels, qraft_quant.derived measures a book.
BOOK_FRAC: Final = 0.001
BOOK_LEVELS: Final = 5


def venue_table(kind: str, symbol: str, rows: Sequence[VenueRow], *, source: str) -> pa.Table:
    """Return rows of one symbol as BASE_COLUMNS and the fields of the kind, revision 0."""
    n = len(rows)
    base: dict[str, Any] = {
        "symbol": pa.array([symbol] * n, pa.string()),
        "event_at": pa.array([row.event_ms * 1000 for row in rows], pa.int64()).cast(US),
        "known_at": pa.array([row.known_ms * 1000 for row in rows], pa.int64()).cast(US),
        "row_id": pa.array([row.row_id for row in rows], pa.string()),
        "revision": pa.array([0] * n, pa.int32()),
        "origin": pa.array([Origin.REAL.value] * n, pa.string()),
        "source": pa.array([source] * n, pa.string()),
    }
    fields = {
        field.name: pa.array([row.fields.get(field.name) for row in rows], ARROW_TYPES[field.type])
        for field in KINDS[kind].fields
    }
    return pa.table(base | fields)


def near_book(row: VenueRow) -> VenueRow:
    """
    Return a book with the levels that its state is made of: those near the mid, and the first beyond on each side.

    A day of 1,000 levels every five minutes is 10 MB a symbol, all of which is written anew with every book.
    """
    sides = {name: row.fields[f"{name}_px"] for name in ("bid", "ask")}
    if not all(sides.values()):
        return row
    mid = (sides["bid"][0] + sides["ask"][0]) / 2
    fields = dict(row.fields)
    for name, prices in sides.items():
        n_near = sum(abs(price / mid - 1.0) <= BOOK_FRAC for price in prices)
        for column in (f"{name}_px", f"{name}_qty"):
            fields[column] = fields[column][: max(n_near + 1, BOOK_LEVELS)]
    return replace(row, fields=fields)


def refused_rows(kind: str, market: str, bad: Sequence[BadRow]) -> list[Refused]:
    """Return rows that cannot be read as they are kept."""
    return [Refused(kind, market, i, row.reason, as_received(dict(row.received))) for i, row in enumerate(bad)]


def with_revisions(kind: str, rows: pa.Table, stored: pa.Table, *, received_at: datetime) -> tuple[pa.Table, int]:
    """
    Return the rows that say something new, a changed one as the revision after the stored one, and how many repeat.

    Args:
        rows: of one symbol, each event once.
        stored: the latest revisions of the same symbol and stretch of time.
        received_at: when a change is known, whatever its event; no earlier than what it replaces.
    """
    names = KINDS[kind].field_names
    known: Mapping[Any, dict[str, Any]] = {row["event_at"]: row for row in stored.to_pylist()}
    keep, revisions, known_at = [], [], []
    for i, row in enumerate(rows.to_pylist()):
        before = known.get(row["event_at"])
        if before is not None and all(_same(row[name], before[name]) for name in names):
            continue
        keep.append(i)
        revisions.append(0 if before is None else before["revision"] + 1)
        known_at.append(row["known_at"] if before is None else max(received_at, row["known_at"], before["known_at"]))
    new = rows.take(pa.array(keep, pa.int64()))
    for name, values in (("revision", revisions), ("known_at", known_at)):
        column = pa.array(values, rows.schema.field(name).type)
        new = new.set_column(rows.schema.get_field_index(name), name, column)
    return new, rows.num_rows - len(keep)


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) or (_is_none(left) and _is_none(right))


def _is_none(value: Any) -> bool:
    return value is None or value != value


def find_jumps(kind: str, values: Mapping[str, FloatArray], before: Mapping[str, FloatArray]) -> dict[int, str]:
    """
    Return the rows with a value of another unit than the rows before them, and why.

    For rows that come one at a time, where the medians of domain.drift would see a new unit only after a day. Row t is
    judged by the rows before it.

    Args:
        values: (n,) by field, one symbol's new rows by time. before: (m,) by field, its newest stored rows.
    """
    found: dict[int, str] = {}
    n_needed = JUMP_ROWS.get(kind, 1)
    for name in DRIFT_FIELDS.get(kind, ()):
        n_lead = min(n_needed - 1, before[name].size)
        lead, level = before[name][before[name].size - n_lead :], level_of(before[name][: before[name].size - n_lead])
        limit = limit_of(kind)
        if not level:
            continue
        n_far = 0
        for i, size in enumerate(np.abs(np.concatenate([lead, values[name]])).tolist()):
            n_far = n_far + 1 if size > 0 and max(size / level, level / size) > limit else 0
            if n_far >= n_needed and i >= n_lead:
                found.setdefault(i - n_lead, f"unit_drift: {name} is {size / level:.3g} times what it was")
    return found
