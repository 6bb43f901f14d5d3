"""The service as a process on real servers: killed with SIGKILL again and again, it trades as if undisturbed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from tests.kit.servers import PostgresServer
from tests.svc_execution.kit import deliver_bar, deliver_targets
from tests.svc_execution.stage import Stage
from tests.svc_execution.test_restart import day

from qraft_bus.nats import NatsBus
from qraft_bus.port import OutMessage
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.origin import Origin
from qraft_contracts.times import parse_instant
from qraft_store.bars.lake import ParquetLake

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

N = 25
DEADLINE_S = 60.0


@asynccontextmanager
async def upstream(nats_url: str, lake: Path) -> AsyncIterator[NatsBus]:
    """Fill the lake, and give a bus to publish on."""
    history, bars, _ = day("crypto", N)
    store = ParquetLake(lake)
    store.append([*history, *bars])
    store.close()
    bus = NatsBus(nats_url, name="svc_test", settings=BusSettings(drain_timeout_s=2.0))
    await bus.start()
    yield bus
    await bus.drain()


async def publish_day(bus: NatsBus) -> None:
    _, bars, targets = day("crypto", N)
    for bar, target in zip(bars, targets, strict=True):
        for delivery in (deliver_bar(bar), deliver_targets(target)):
            found = delivery.headers
            await bus.publish(
                OutMessage(
                    subject=delivery.subject,
                    data=delivery.data,
                    message_id=found[headers.MESSAGE_ID],
                    schema=found[headers.SCHEMA],
                    as_of=parse_instant(found[headers.AS_OF]),
                    origin=Origin(found[headers.ORIGIN]),
                    lineage=found[headers.LINEAGE],
                )
            )


async def start(nats_url: str, dsn: str, home: Path) -> asyncio.subprocess.Process:
    environment = os.environ | {"QRAFT_NATS_URL": nats_url, "QRAFT_POSTGRES_DSN": dsn, "QRAFT_HOME": str(home)}
    log = await asyncio.to_thread((home / "service.log").open, "ab")
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "svc_execution", env=environment, stdout=log, stderr=log
    )


async def n_events(dsn: str) -> int:
    """Return how many events the journal holds, 0 while there is no journal."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetchval("SELECT n_events FROM execution.progress WHERE market = 'crypto'")
    except asyncpg.UndefinedTableError:
        return 0
    finally:
        await connection.close()
    return found or 0


async def until_events(dsn: str, n: int, home: Path) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while await n_events(dsn) < n:
                await asyncio.sleep(0.01)
    except TimeoutError:
        log = (home / "service.log").read_text()[-3000:]
        raise AssertionError(f"expected {n} events, found {await n_events(dsn)}: {log}") from None


async def until_serving(home: Path, log_from: int) -> None:
    """Wait until the service that logs from this byte on has started: before, SIGTERM ends any Python program."""
    async with asyncio.timeout(DEADLINE_S):
        while b"service.started" not in (home / "service.log").read_bytes()[log_from:]:
            await asyncio.sleep(0.01)


async def until_told(bus: NatsBus, dsn: str) -> None:
    """Wait until the last fill or order of the journal is on the stream."""
    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(DEADLINE_S):
        while await connection.fetchval("SELECT count(*) FROM execution.outbox WHERE published_at IS NULL"):
            await asyncio.sleep(0.01)
    await connection.close()


async def test_killed_again_and_again_it_trades_as_if_undisturbed(
    nats_url: str, postgres_session: PostgresServer, tmp_path: Path
):
    with postgres_session.fresh_database() as reference_dsn, postgres_session.fresh_database() as dsn:
        reference = Stage(reference_dsn)
        history, bars, targets = day("crypto", N)
        reference.lake.append(history)
        for bar, target in zip(bars, targets, strict=True):
            await reference.publish([bar, target])
        await reference.run_to_end()

        rng = random.Random(1)
        async with upstream(nats_url, tmp_path / "lake") as bus:
            publishing = asyncio.create_task(publish_day(bus))
            for n in (1, 7, 20, 33):
                process = await start(nats_url, dsn, tmp_path)
                await until_events(dsn, n, tmp_path)
                await asyncio.sleep(rng.uniform(0.0, 0.01))
                process.send_signal(signal.SIGKILL)
                await process.wait()
            await publishing
            log_from = (tmp_path / "service.log").stat().st_size
            process = await start(nats_url, dsn, tmp_path)
            # The one before may have finished the day in the moment before its end.
            await until_serving(tmp_path, log_from)
            await until_events(dsn, 2 * N, tmp_path)
            await until_told(bus, dsn)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15.0):
                assert await process.wait() == 0, (tmp_path / "service.log").read_text()[-3000:]
            last = await bus.last("orders.paper")

        assert await Stage(dsn).journal() == await reference.journal()
        assert last is not None
        assert last.data == reference.told("orders.paper")[-1][1]
