"""The report's reads in PostgreSQL: the same answers as their twin in memory, over usage that was really booked."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from tests.svc_billing.edge_kit import ledger_on
from tests.svc_billing.test_report import SINCE, UsageInMemory, usage

from qraft_contracts.origin import Origin
from qraft_contracts.usage import COLUMNS, ComputeUsage
from qraft_runtime.clock import FixedClock
from svc_billing.adapters.database import Database
from svc_billing.adapters.reading import PostgresReading
from svc_billing.usecases.usage import book_usage

pytestmark = [pytest.mark.postgres]


def booked() -> list[ComputeUsage]:
    """Return usage around a week's edges, in every column and origin, with known and unknown costs and large sums."""
    rng = random.Random(3)
    edges = (timedelta(0), timedelta(days=7), timedelta(days=3, microseconds=1), timedelta(microseconds=-1))
    return [
        usage(
            f"job/{i:03d}",
            column=rng.choice(COLUMNS),
            ended_at=SINCE + rng.choice(edges),
            cpu_ms=rng.choice((0, 59_999, 60_000, 10**13)),
            gpu_ms=rng.choice((0, 1)),
            n_bytes=rng.choice((0, 10**15)),
            origin=rng.choice(list(Origin)),
            cost=rng.choice((None, 0, 17)),
            purpose='quotes " and 引号',
        )
        for i in range(60)
    ]


async def test_totals_and_heavy_jobs_are_those_of_the_twin(postgres_dsn):
    jobs = booked()
    twin = UsageInMemory(*jobs)
    async with ledger_on(postgres_dsn, clock=FixedClock(SINCE + timedelta(days=8))) as (ledger, database):
        await asyncio.gather(*(book_usage(ledger, it) for it in jobs))
        reading = PostgresReading(database)
        for days in (-7, 0, 7, 70):
            since, until = SINCE + timedelta(days=days), SINCE + timedelta(days=days + 7)
            window = {"since": since, "until": until}
            for limit in (5, 100):
                heavy = {**window, "compute_ms_min": 60_000, "limit": limit}

                assert await reading.heavy_jobs(**heavy) == await twin.heavy_jobs(**heavy)
            found = {it.column: it for it in await reading.totals(**window)}
            assert found == {it.column: it for it in await twin.totals(**window)}


async def test_read_plan_of_a_week_walks_no_other_event(postgres_dsn):
    database = Database(postgres_dsn)
    await database.open()
    try:
        plan = await database.read.fetch(
            "EXPLAIN SELECT body FROM billing.events WHERE kind = 'usage_booked' AND at >= now()"
        )
    finally:
        await database.close()

    assert "events_usage_booked_at" in " ".join(row[0] for row in plan)
