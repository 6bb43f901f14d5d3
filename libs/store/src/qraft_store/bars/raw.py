"""Bars as plain rows, as they leave one store and enter another: every revision, with known_at and origin."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_store.bars.content import sort_rows
from qraft_store.bars.rows import (
    REVISION_MAX,
    ROW_SCHEMA,
    closed_micros,
    encode_texts,
    instant_of,
    known_micros,
    micros,
)

# What no instant of a bar lies beyond; of the whole range that Arrow's microseconds can name.
BEGINNING_US: Final = -(1 << 62)
EVER_US: Final = 1 << 62
_ORIGINS: Final = frozenset(origin.value for origin in Origin)


def checked_rows(rows: pa.Table, *, interval: str) -> pa.Table:
    """
    Return plain rows sorted by closed_at, symbol and revision, each column in one chunk.

    Raises:
        ValueError: if the columns are not ROW_SCHEMA, a cell is empty, a closed_at is no multiple of the interval or
            after its known_at, or a revision or an origin is none.
    """
    if not rows.schema.equals(ROW_SCHEMA):
        raise ValueError(f"expected the columns {ROW_SCHEMA.names} of bars, received {rows.schema}")
    empty = [name for name in rows.column_names if rows[name].null_count]
    if empty:
        raise ValueError(f"expected no empty cell in rows of bars, received some in {empty}")
    names, _ = encode_texts(rows["symbol"])
    if "" in names:
        raise ValueError("expected a symbol in every row, received an empty one")
    if unknown := set(encode_texts(rows["origin"])[0]) - _ORIGINS:
        raise ValueError(f"expected an origin out of {sorted(_ORIGINS)}, received {sorted(unknown)}")
    closed, revision = closed_micros(rows), np.asarray(rows["revision"])
    off = np.flatnonzero(closed % (INTERVAL_SECONDS[interval] * 1_000_000))
    if off.size:
        raise ValueError(f"expected closed_at on the {interval} grid, received {_text(closed[off[0]])}")
    early = np.flatnonzero(known_micros(rows) < closed)
    if early.size:
        raise ValueError(f"expected known_at from the end of the bar on, {_text(closed[early[0]])} was known before it")
    if revision.size and not 0 <= revision.min() <= revision.max() <= REVISION_MAX:
        raise ValueError(f"expected revisions from 0 to {REVISION_MAX}, received {revision.min()} to {revision.max()}")
    return sort_rows(rows).combine_chunks()


def span_us(start: datetime | None, end: datetime | None) -> tuple[int, int]:
    """Return the first and the last closed_at of a range (start, end], None = without a limit."""
    return BEGINNING_US if start is None else micros(start) + 1, EVER_US if end is None else micros(end)


def within(rows: pa.Table, *, first_us: int, last_us: int, known_us: int) -> pa.Table:
    """Return the rows with first_us <= closed_at <= last_us and known_at <= known_us, in their order."""
    closed = closed_micros(rows)
    is_wanted = (closed >= first_us) & (closed <= last_us) & (known_micros(rows) <= known_us)
    return rows if is_wanted.all() else rows.filter(pa.array(is_wanted)).combine_chunks()


def _text(closed_us: int) -> str:
    return format_instant(instant_of(closed_us))
