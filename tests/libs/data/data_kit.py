"""Small stores for the tests of qraft_data. Values are made up unless a test says which data set they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.library import DataLibrary
from qraft_frames.bars import BarBatch
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.schema import table_schema

T0 = datetime(2025, 6, 1, tzinfo=UTC)
STEP = timedelta(minutes=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(n_steps: float, *, start: datetime = T0) -> datetime:
    """Return the instant so many 5-minute steps after the start."""
    return start + n_steps * STEP


def us(instant: datetime) -> int:
    """Return microseconds since 1970."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def memory_library() -> DataLibrary:
    """Return empty stores in memory."""
    return DataLibrary(MemoryBarStore(), MemoryTables())


def put_bars(
    library: DataLibrary,
    closes: Mapping[str, Sequence[float]],
    *,
    market: str = "binance.perp",
    interval: str = "5m",
    closed_at: Sequence[datetime] | None = None,
    known_after: timedelta = timedelta(0),
    revision: int = 0,
    volume: Mapping[str, Sequence[float]] | None = None,
    origin: Origin = Origin.REPLAY,
) -> None:
    """Append bars that open, close and turn at one price; NaN = no bar. closed_at: None = every step from T0 + one."""
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    n_bars = len(next(iter(closes.values())))
    times = closed_at or [T0 + (i + 1) * step for i in range(n_bars)]
    batches = []
    for i, end in enumerate(times):
        names = tuple(name for name, values in closes.items() if np.isfinite(values[i]))
        if not names:
            continue
        price = np.array([closes[name][i] for name in names], dtype=np.float64)
        amount = np.array([volume[name][i] if volume else 1.0 for name in names], dtype=np.float64)
        batches.append(
            BarBatch(
                market, interval, end, end + known_after, revision, origin, names,
                price.copy(), price.copy(), price.copy(), price, amount,
            )
        )  # fmt: skip
    library.bars.append(batches)


def put_rows(
    library: DataLibrary, kind: str, rows: Sequence[Mapping[str, Any]], *, market: str = "binance.perp"
) -> None:
    """Append rows of a table; every one of them must be accepted. What a row does not say gets a plain default."""
    schema = table_schema(kind)
    complete = []
    for row in rows:
        given = {"row_id": "", "revision": 0, "origin": "replay", "source": "test", "known_at": row["event_at"], **row}
        complete.append({name: given.get(name) for name in schema.names})
    done = library.tables.append(kind, market=market, rows=pa.Table.from_pylist(complete, schema=schema))
    assert (done.n_new, done.n_quarantined) == (len(rows), 0), library.tables.quarantine(kind, market=market)


def known_fields(kind: str) -> tuple[str, ...]:
    """Return the fields of a kind."""
    return KINDS[kind].field_names
