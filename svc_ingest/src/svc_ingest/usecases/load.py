"""Load history into the store: no message, whole days at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from svc_ingest.usecases.faults import tell_faults
from svc_ingest.usecases.line import Line, append_all


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far loading is. n_rows: read; n_new: of them not stored before. done_frac: None = the end is unknown."""

    closed_at: datetime
    n_bars: int
    n_rows: int
    n_new: int
    done_frac: float | None


async def load_history(
    line: Line, *, until: datetime | None, on_progress: Callable[[LoadProgress], None]
) -> LoadProgress | None:
    """
    Bring the source's bars up to `until` into the store, from where it ends; return None if nothing was missing.

    Raises:
        ValueError: if the store holds other values for a bar.
    """
    after = line.stored_until
    if after is not None and until is not None and after >= until:
        return None
    line.take_up(after)
    end = until or line.source.last_closed_at
    progress: LoadProgress | None = None
    started_at = after
    async for chunk in line.source.chunks(after=after, until=until):
        batches = await asyncio.to_thread(line.check.take, chunk)  # it writes what it refuses
        n_new = await append_all(line, batches)
        tell_faults(line.check.report, market=line.market)
        started_at = started_at or (batches[0].closed_at if batches else None)
        progress = LoadProgress(
            chunk.until,
            (progress.n_bars if progress else 0) + sum(batch.revision == 0 for batch in batches),
            (progress.n_rows if progress else 0) + sum(len(batch.symbols) for batch in batches),
            (progress.n_new if progress else 0) + n_new,
            _done(started_at, chunk.until, end),
        )
        on_progress(progress)
    return progress


def _done(start: datetime | None, now: datetime, end: datetime | None) -> float | None:
    if start is None or end is None or end <= start:
        return None
    return min(1.0, (now - start) / (end - start))
