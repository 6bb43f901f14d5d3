"""Bring what the line's own bars miss in a stretch of time, out of the line's own source."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_runtime.clock import Clock
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.raw import VALUES, RawChunk, instant_of, micros_of
from svc_ingest.domain.tally import Count
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.line import Line, open_source


async def refill(line: Line, *, start: datetime, until: datetime, clock: Clock) -> Count:
    """
    Store the source's bars with start < closed_at <= until that are not stored, and return what became of its rows.

    A bar before the stored end becomes a revision that is known now: runs of the past did not see it, "first" reads do
    not show it. Rows that are no bars are kept apart with those of the line.

    Raises:
        Malformed: if the lake holds bars of another kind, or the source cannot be read.
        Transient: if the source is away, or a service holds the lake.
    """
    await open_source(line)
    # Simulated and market bars never mix; the newest bars of the stretch say which of the two is stored.
    line.take_up(until)
    count = Count()
    writer = BarWriter(line.store, line.market, line.interval, count, origin=line.source.origin)
    async for chunk in line.source.chunks(after=start, until=min(until, newest_close(line.interval, clock))):
        rows = _table(chunk, start, until)
        if rows.num_rows:
            await asyncio.to_thread(_store, line, writer, rows, clock.now())
    return count


def _store(line: Line, writer: BarWriter, rows: pa.Table, now: datetime) -> None:
    refused = writer.write(rows, last_may_form=False, known_at=now)
    line.check.keep_refused([(str(rows["symbol"][row.row].as_py()), row) for row in refused])


def newest_close(interval: str, clock: Clock) -> datetime:
    """Return the end of the newest bar that is closed."""
    step = timedelta(seconds=INTERVAL_SECONDS[interval]) // timedelta(microseconds=1)
    return instant_of(micros_of(clock.now()) // step * step)


def _table(chunk: RawChunk, start: datetime, until: datetime) -> pa.Table:
    """Return a chunk's rows inside the stretch as BarWriter takes them, in the source's order."""
    names: list[str] = []
    closed: list[Any] = [np.empty(0, dtype=np.int64)]
    values: list[Any] = [np.empty((0, len(VALUES)))]
    for symbol, rows in sorted(chunk.rows.items()):
        inside = (rows.closed_at > micros_of(start)) & (rows.closed_at <= micros_of(until))
        names += [symbol] * int(inside.sum())
        closed.append(rows.closed_at[inside])
        values.append(rows.values[inside])
    table = np.concatenate(values)
    columns: dict[str, Any] = {
        "symbol": pa.array(names, pa.string()),
        "event_at": pa.array(np.concatenate(closed)).cast(US),
    }
    return pa.table(columns | {name: pa.array(table[:, i]) for i, name in enumerate(VALUES)})
