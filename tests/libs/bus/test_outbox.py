from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
from tests.kit.servers import nats_server, postgres_server
from tests.libs.bus.harness import QUICK, Recorder, message, payloads, subscription, until

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.nats import NatsBus
from qraft_bus.outbox import BATCH_SIZE, TABLE_SQL, OutboxRelay, enqueue
from qraft_contracts import headers
from qraft_contracts.outcomes import Transient

pytestmark = pytest.mark.postgres

ORDERS = {"subject": "orders.paper", "schema": "orders/1"}


@asynccontextmanager
async def outbox_pool(dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with asyncpg.create_pool(dsn, min_size=0, max_size=3, timeout=2) as pool:
        yield pool


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with outbox_pool(postgres_dsn) as made:
        await make_table(made)
        yield made


async def make_table(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute("CREATE SCHEMA shop")
    await pool.execute(TABLE_SQL.format(schema="shop"))


async def commit(pool: asyncpg.Pool[asyncpg.Record], *numbers: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await enqueue(connection, schema="shop", messages=[message(number, **ORDERS) for number in numbers])


async def n_unpublished(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM shop.outbox WHERE published_at IS NULL"))


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    made = MemoryBus(MemoryBroker(), name="svc_test", settings=QUICK)
    await made.start()
    yield made
    await made.drain()


@pytest.fixture
async def running(pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus) -> AsyncIterator[OutboxRelay]:
    """A relay at work whose poll is too slow to help the tests."""
    relay = OutboxRelay(pool, schema="shop", bus=bus, poll_s=60)
    task = asyncio.create_task(relay.run())
    yield relay
    await cancel_and_wait(task)


async def test_message_comes_out_as_it_was_put_in(pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus) -> None:
    cause = {headers.TRACEPARENT: f"00-{'a' * 32}-{'b' * 16}-01", headers.HOPS: "svc_a=1", "Qraft-Origin": "real"}
    sent = replace(message(1, **ORDERS), data=bytes(range(256)), cause=cause)
    async with pool.acquire() as connection, connection.transaction():
        await enqueue(connection, schema="shop", messages=[sent])

    n_published = await OutboxRelay(pool, schema="shop", bus=bus).flush()

    found = await bus.last("orders.paper")
    assert n_published == 1 and await n_unpublished(pool) == 0
    assert found is not None and found.data == sent.data
    assert found.headers[headers.MESSAGE_ID] == "orders.paper/1"
    assert found.headers[headers.SCHEMA] == "orders/1"
    assert found.headers[headers.AS_OF] == "2025-06-01T00:05:00Z"
    assert found.headers[headers.ORIGIN] == "simulated"
    assert found.headers[headers.LINEAGE] == "test"
    assert found.headers[headers.TRACEPARENT].split("-")[1] == "a" * 32
    assert found.headers[headers.HOPS].startswith("svc_a=1,svc_test=")


async def test_nothing_is_published_when_the_transaction_is_rolled_back(
    pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus
) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with pool.acquire() as connection, connection.transaction():
            await enqueue(connection, schema="shop", messages=[message(1, **ORDERS)])
            raise RuntimeError("changed my mind")

    assert await OutboxRelay(pool, schema="shop", bus=bus).flush() == 0
    assert await bus.last("orders.paper") is None


async def test_outbox_outside_a_transaction_is_our_bug(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(AssertionError, match="inside the effect's transaction"):
            await enqueue(connection, schema="shop", messages=[message(1, **ORDERS)])


async def test_same_id_is_kept_once(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await commit(pool, 1, 2)
    await commit(pool, 2, 3, 3)

    assert await n_unpublished(pool) == 3


async def test_ids_follow_the_order_of_the_messages(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    numbers = random.Random(7).sample(range(1_000), 200)

    await commit(pool, *numbers)

    stored = await pool.fetch("SELECT message_id FROM shop.outbox ORDER BY id")
    assert [row["message_id"] for row in stored] == [f"orders.paper/{number}" for number in numbers]


async def test_no_message_is_no_row(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await commit(pool)

    assert await n_unpublished(pool) == 0


async def test_many_rows_are_published_in_the_order_of_their_ids(
    pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus
) -> None:
    await commit(pool, *range(2 * BATCH_SIZE + 3))
    recorder = Recorder()
    reader = MemoryBus(bus._broker, name="reader", settings=QUICK)
    reader.subscribe(subscription(recorder, subject="orders.>", schema="orders/1"))
    await reader.start()

    assert await OutboxRelay(pool, schema="shop", bus=bus).flush() == 2 * BATCH_SIZE + 3
    await until(lambda: len(recorder.deliveries) == 2 * BATCH_SIZE + 3, what="all rows")
    await reader.drain()

    assert recorder.payloads == payloads(2 * BATCH_SIZE + 3)


async def test_wake_publishes_without_waiting_for_the_poll(
    pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus, running: OutboxRelay
) -> None:
    for number in range(3):
        await commit(pool, number)
        running.wake()
        await _until_published(bus, number, within_s=5)


async def test_poll_is_the_net_when_nobody_wakes(pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus) -> None:
    task = asyncio.create_task(OutboxRelay(pool, schema="shop", bus=bus, poll_s=0.05).run())
    await asyncio.sleep(0.1)

    await commit(pool, 0)

    await _until_published(bus, 0, within_s=5)
    await cancel_and_wait(task)


async def _until_published(bus: MemoryBus, number: int, *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while (found := await bus.last("orders.paper")) is None or found.data != f"payload {number}".encode():
            await asyncio.sleep(0.005)


async def test_only_one_relay_of_a_schema_works_at_a_time(pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus) -> None:
    await commit(pool, 1)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('shop.outbox'))")
        assert await OutboxRelay(pool, schema="shop", bus=bus).flush() == 0

    assert await OutboxRelay(pool, schema="shop", bus=bus).flush() == 1


async def test_rows_that_another_relay_did_not_see_do_not_wait_for_the_next_poll(
    pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus, running: OutboxRelay
) -> None:
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('shop.outbox'))")
        await commit(pool, 1)
        running.wake()
        await asyncio.sleep(0.1)
        assert await n_unpublished(pool) == 1

    await _until_published(bus, 1, within_s=5)


async def test_published_rows_are_pruned_after_their_time_and_others_never(
    pool: asyncpg.Pool[asyncpg.Record], bus: MemoryBus
) -> None:
    await commit(pool, 1, 2)
    await pool.execute("UPDATE shop.outbox SET published_at = now() - interval '8 days' WHERE id = 1")
    await pool.execute("UPDATE shop.outbox SET created_at = now() - interval '8 days'")

    task = asyncio.create_task(OutboxRelay(pool, schema="shop", bus=bus).run())
    async with asyncio.timeout(5):
        while await pool.fetchval("SELECT count(*) FROM shop.outbox") != 1:
            await asyncio.sleep(0.01)
    await cancel_and_wait(task)

    assert await pool.fetchval("SELECT message_id FROM shop.outbox") == "orders.paper/2"


async def test_bus_that_is_away_leaves_the_rows_for_later(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    bus = MemoryBus(MemoryBroker(), name="svc_test", settings=QUICK)
    relay = OutboxRelay(pool, schema="shop", bus=bus, poll_s=0.05)
    await commit(pool, 0)
    task = asyncio.create_task(relay.run())
    await until(lambda: relay.trouble is not None, what="trouble told", within_s=5)
    assert await n_unpublished(pool) == 1

    await bus.start()

    await _until_published(bus, 0, within_s=5)
    await until(lambda: relay.trouble is None, what="trouble over", within_s=5)
    await cancel_and_wait(task)


async def test_missing_table_is_a_bug_and_surfaces(postgres_dsn: str, bus: MemoryBus) -> None:
    async with outbox_pool(postgres_dsn) as pool:
        with pytest.raises(asyncpg.UndefinedTableError):
            await OutboxRelay(pool, schema="shop", bus=bus).run()


def test_schema_name_must_be_an_identifier(bus: MemoryBus) -> None:
    with pytest.raises(ValueError, match="schema name"):
        OutboxRelay(None, schema="shop; DROP TABLE x", bus=bus)  # type: ignore[arg-type]


async def test_database_crash_is_survived(bus: MemoryBus) -> None:
    with postgres_server() as server, server.fresh_database() as dsn:
        async with outbox_pool(dsn) as pool:
            await make_table(pool)
            relay = OutboxRelay(pool, schema="shop", bus=bus, poll_s=0.05)
            task = asyncio.create_task(relay.run())
            await commit(pool, 0)
            await _until_published(bus, 0, within_s=5)

            await asyncio.to_thread(server.crash)
            await until(lambda: relay.trouble is not None, what="trouble told", within_s=5)
            with pytest.raises(Transient, match="database_away"):
                await relay.flush()
            await asyncio.to_thread(server.start)
            await commit(pool, 1)

            await _until_published(bus, 1, within_s=10)
            await cancel_and_wait(task)


KILLED_BETWEEN_PUBLISH_AND_MARK = """
    import asyncio, os, signal, sys
    import asyncpg
    from qraft_bus.nats import NatsBus
    from qraft_bus.outbox import OutboxRelay
    from qraft_bus.settings import BusSettings

    class DyingBus(NatsBus):
        async def publish_many(self, messages):
            await super().publish_many(messages)
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        bus = DyingBus(sys.argv[1], name="svc_test", settings=BusSettings())
        await bus.start()
        async with asyncpg.create_pool(sys.argv[2]) as pool:
            await OutboxRelay(pool, schema="shop", bus=bus).flush()

    asyncio.run(main())
"""


@pytest.mark.nats
async def test_kill_between_publish_and_mark_gives_no_second_message(
    pool: asyncpg.Pool[asyncpg.Record], postgres_dsn: str, nats_url: str
) -> None:
    await commit(pool, 0, 1, 2)
    script = textwrap.dedent(KILLED_BETWEEN_PUBLISH_AND_MARK)
    command = [sys.executable, "-c", script, nats_url, postgres_dsn]
    killed = await asyncio.to_thread(subprocess.run, command, timeout=30, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    assert await n_unpublished(pool) == 3
    bus = NatsBus(nats_url, name="svc_test", settings=QUICK)
    await bus.start()
    before = await bus.last("orders.paper")
    assert before is not None and before.stream_seq == 3

    assert await OutboxRelay(pool, schema="shop", bus=bus).flush() == 3

    after = await bus.last("orders.paper")
    await bus.drain()
    assert await n_unpublished(pool) == 0
    assert after is not None and after.stream_seq == 3


@pytest.mark.nats
async def test_nats_server_away_leaves_the_rows_for_later(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    with nats_server() as server:
        bus = NatsBus(server.url, name="svc_test", settings=replace(QUICK, publish_timeout_s=0.2, publish_budget_s=0.4))
        await bus.start()
        relay = OutboxRelay(pool, schema="shop", bus=bus, poll_s=0.05)
        task = asyncio.create_task(relay.run())
        server.kill()
        await commit(pool, 0, 1)
        relay.wake()
        await until(lambda: relay.trouble is not None, what="trouble told", within_s=10)

        await asyncio.to_thread(server.start)

        async with asyncio.timeout(10):
            while await n_unpublished(pool):
                await asyncio.sleep(0.02)
        newest = await bus.last("orders.paper")
        assert newest is not None and (newest.stream_seq, newest.data) == (2, b"payload 1")
        await cancel_and_wait(task)
        await bus.drain()
