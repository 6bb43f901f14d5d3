"""Reads of the API and the report: holds by state, usage by week. Money is decided on nothing that is read here."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from qraft_contracts.usage import ComputeUsage
from qraft_store.postgres_pools import as_transient
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres_rows import open_hold_of
from svc_billing.adapters.postgres_sql import OPEN_HOLD_COLUMNS
from svc_billing.domain.events import HOLD_EXPIRED, HOLD_SETTLED, HOLD_VOIDED, decode_event
from svc_billing.usecases.holds import FoundHold
from svc_billing.usecases.report import ColumnTotals

# What a filter means. Keys are HOLD_FILTERS; nothing of the caller's text gets into a statement.
_OPEN_WHERE: Final = {
    "open": "true",
    "held": "state = 'held'",
    "disputed": "state = 'disputed'",
    "refund_failing": "is_refund_failing",
}
_OPEN: Final = {
    name: (
        f"SELECT {', '.join(OPEN_HOLD_COLUMNS)} FROM billing.holds WHERE {where}"  # noqa: S608 constants
        " AND made_seq > $1 AND ($2::text IS NULL OR account_id = $2) ORDER BY made_seq LIMIT $3"
    )
    for name, where in _OPEN_WHERE.items()
}
# A resolved hold is what the event that resolved it says.
_RESOLVED: Final = {"settled": HOLD_SETTLED, "voided": HOLD_VOIDED, "expired": HOLD_EXPIRED}
_RESOLVED_OF_ALL: Final = "SELECT body FROM billing.events WHERE kind = $1 AND seq > $2 ORDER BY seq LIMIT $3"
_RESOLVED_OF_ONE: Final = (
    "SELECT body FROM billing.events WHERE account_id = $4 AND kind = $1 AND seq > $2 ORDER BY account_seq LIMIT $3"
)

# Usage is booked after it ended, a day is left for clocks: the index passes over everything that was booked before.
_USAGE: Final = """
    FROM (
        SELECT convert_from(body, 'UTF8')::jsonb -> 'usage' AS usage FROM billing.events
        WHERE kind = 'usage_booked' AND at >= $1::timestamptz - interval '1 day'
    ) booked
    WHERE (usage ->> 'ended_at')::timestamptz >= $1 AND (usage ->> 'ended_at')::timestamptz < $2
"""
_TOTALS: Final = f"""
    SELECT usage ->> 'column', count(*), count(*) FILTER (WHERE usage ->> 'origin' = 'simulated'),
        count(*) FILTER (WHERE usage ->> 'origin' = 'replay'), sum((usage ->> 'cpu_ms')::bigint)::bigint,
        sum((usage ->> 'gpu_ms')::bigint)::bigint, sum((usage ->> 'n_bytes')::bigint)::bigint,
        coalesce(sum((usage ->> 'provider_cost_microusd')::bigint), 0)::bigint,
        count(*) FILTER (WHERE usage ->> 'provider_cost_microusd' IS NULL)
    {_USAGE} GROUP BY 1
"""
_HEAVY: Final = f"""
    SELECT usage::text, count(*) OVER ()
    {_USAGE} AND (usage ->> 'cpu_ms')::bigint + (usage ->> 'gpu_ms')::bigint >= $3
    ORDER BY (usage ->> 'cpu_ms')::bigint + (usage ->> 'gpu_ms')::bigint DESC, usage ->> 'usage_id' LIMIT $4
"""
_DECODER: Final = msgspec.json.Decoder(ComputeUsage)


class PostgresReading:
    """The ports HoldsReader and UsageReader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def holds(self, *, filter_by: str, account_id: str | None, after: int, limit: int) -> list[FoundHold]:
        """Return holds by age: open ones by when they were made, others by when they were resolved."""
        if filter_by in _RESOLVED:
            return await self._resolved(_RESOLVED[filter_by], account_id, after, limit)
        with as_transient():
            rows = await self._database.read.fetch(_OPEN[filter_by], after, account_id, limit)
        found = map(open_hold_of, rows)
        return [FoundHold(hold.told(hold_id), hold.made_seq) for hold_id, hold in found]

    async def totals(self, *, since: datetime, until: datetime) -> tuple[ColumnTotals, ...]:
        """Return the sums of every column with a job that ended in [since, until)."""
        with as_transient():
            rows = await self._database.read.fetch(_TOTALS, since, until)
        return tuple(ColumnTotals(*row) for row in rows)

    async def heavy_jobs(
        self, *, since: datetime, until: datetime, compute_ms_min: int, limit: int
    ) -> tuple[int, tuple[ComputeUsage, ...]]:
        """Return how many jobs took at least that much processor plus GPU time, and the heaviest of them."""
        with as_transient():
            rows = await self._database.read.fetch(_HEAVY, since, until, compute_ms_min, limit)
        return (rows[0][1] if rows else 0), tuple(_DECODER.decode(row[0]) for row in rows)

    async def _resolved(self, kind: str, account_id: str | None, after: int, limit: int) -> list[FoundHold]:
        with as_transient():
            if account_id is None:
                rows = await self._database.read.fetch(_RESOLVED_OF_ALL, kind, after, limit)
            else:
                rows = await self._database.read.fetch(_RESOLVED_OF_ONE, kind, after, limit, account_id)
        events = [decode_event(row[0]) for row in rows]
        return [
            FoundHold(event.hold.told(event.hold_id), event.seq)
            for event in events
            if event.hold is not None and event.hold_id is not None
        ]
