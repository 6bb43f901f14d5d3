"""Ended at any durable step and started again: the same journal and stream as undisturbed, bit for bit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.kit.servers import postgres_server
from tests.svc_execution.kit import at, deliver_bar, deliver_targets, make_bar, make_targets, walk
from tests.svc_execution.stage import Crash, Fuse, Stage

from qraft_contracts import headers
from qraft_contracts.orders import Fill, Order
from qraft_contracts.origin import Origin
from qraft_contracts.targets import Targets
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import FixedClock
from svc_execution.ports import JournalMismatch
from svc_execution.settings import ExecutionSettings

pytestmark = pytest.mark.postgres

N_HISTORY = 14  # bars in the lake before the first message: enough returns for a volatility
WEIGHTS: list[dict[str, float]] = [
    {"AAA": 0.1, "BBB": -0.1},
    {"AAA": 0.15, "BBB": -0.15, "CCC": 0.12},
    {"AAA": -0.1},
    {},
    {"CCC": 0.2},
]


@pytest.fixture(scope="module")
def dsn(postgres_session: Any) -> Iterator[str]:
    with postgres_session.fresh_database() as found:
        yield found


def day(market: str, n: int = len(WEIGHTS)) -> tuple[list[BarBatch], list[BarBatch], list[Targets]]:
    """Return bars of the history, bars and targets of the replay. Thin volume gives partial fills, a gap expiries."""
    closes = walk(N_HISTORY + n, seed=5)
    history = [make_bar(i, closes[i], market=market) for i in range(N_HISTORY)]
    bars, targets = [], []
    for k in range(n):
        i = N_HISTORY + k
        there = {s: p for s, p in closes[i].items() if not (k == 2 and s == "BBB")}
        bars.append(make_bar(i, there, market=market, volumes={"CCC": 3_000.0}))
        targets.append(make_targets(i, WEIGHTS[k % len(WEIGHTS)], market=market, policy="long" if k % 2 else "short"))
    return history, bars, targets


async def staged(dsn: str, market: str, *, n: int = len(WEIGHTS)) -> Stage:
    """Return a stage with a whole day published; each message of a bar before its targets."""
    stage = Stage(dsn, market=market)
    history, bars, targets = day(market, n)
    stage.lake.append(history)
    for bar, target in zip(bars, targets, strict=True):
        await stage.publish([bar, target])
    return stage


async def outcome(stage: Stage) -> tuple[dict[str, list[str]], list[Any]]:
    """Return the journal and what the stream tells, without the market's name."""
    market = stage.common.market
    told = [message_id.replace(market, "MARKET") for message_id in stage.told_in_order()]
    data = [m.replace(market.encode(), b"MARKET") for s in ("orders.paper", "fills.paper") for _, m in stage.told(s)]
    return await stage.journal(), [*told, *data]


async def test_undisturbed_run_trades_fills_and_tells(dsn):
    stage = await staged(dsn, "plain")
    await stage.run_to_end()

    journal = await stage.journal()
    orders = [msgspec.json.decode(data, type=Order) for _, data in stage.told("orders.paper")]
    fills = [msgspec.json.decode(data, type=Fill) for _, data in stage.told("fills.paper")]
    assert {order.reason for order in orders} == {"open", "increase", "flip", "close"}
    assert len(journal["orders"]) == len(orders)
    assert len(journal["fills"]) == len(fills)
    assert {"participation", "no_bar"} == {reason for row in journal["expiries"] for reason in _reasons(row)}
    assert len(journal["marks"]) == len(journal["targets"]) == len(WEIGHTS)
    assert all(fill.origin is Origin.REPLAY for fill in fills)
    told = stage.told_in_order()
    assert all(told.index(fill.order_id) < told.index(fill.fill_id) for fill in fills)


def _reasons(row: str) -> list[str]:
    return [reason for reason in ("participation", "no_bar", "zero_volume") if reason in row]


async def test_crash_at_every_durable_step_changes_nothing(dsn):
    n = 3  # bars: opens, increases, a flip, partial fills and expiries
    reference = await staged(dsn, "reference", n=n)
    fuse = Fuse()
    await reference.run_to_end(fuse)
    expected = await outcome(reference)
    assert fuse.n_seen > 60

    n_crashes = 0
    for n_steps in range(1, fuse.n_seen + 1):
        stage = await staged(dsn, f"crash{n_steps}", n=n)
        try:
            await stage.run_to_end(Fuse(n_steps))
        except Crash:
            n_crashes += 1
        await stage.run_to_end()
        assert await outcome(stage) == expected, f"step {n_steps}"
    assert n_crashes > 0.5 * fuse.n_seen  # how steps of the relay fall differs from run to run


@pytest.mark.parametrize("seed", range(4))
async def test_many_crashes_in_one_day_change_nothing(dsn, seed):
    n = 12
    reference = await staged(dsn, f"calm{seed}", n=n)
    await reference.run_to_end()
    rng = random.Random(seed)

    stage = await staged(dsn, f"stormy{seed}", n=n)
    is_done = False
    while not is_done:
        try:
            await stage.run_to_end(Fuse(rng.randint(20, 120)))
            is_done = True
        except Crash:
            continue

    assert await outcome(stage) == await outcome(reference)


@pytest.mark.parametrize("bars_first", [True, False])
async def test_one_stream_far_ahead_of_the_other_changes_nothing(dsn, bars_first):
    reference = await staged(dsn, f"even{bars_first}")
    await reference.run_to_end()
    stage = Stage(dsn, market=f"uneven{bars_first}")
    history, bars, targets = day(stage.common.market)
    stage.lake.append(history)

    async with stage.running() as application:
        for part in (bars, targets) if bars_first else (targets, bars):
            if part is bars:
                stage.lake.append(bars)
            for message in part:
                deliver = deliver_bar if isinstance(message, BarBatch) else deliver_targets
                await stage.publish_raw(deliver(message))
            await asyncio.sleep(0)
        await stage.settle(application)

    assert await outcome(stage) == await outcome(reference)


async def test_everything_delivered_again_changes_nothing(dsn):
    stage = await staged(dsn, "again")
    await stage.run_to_end()
    before = await outcome(stage)
    _, bars, targets = day("again")

    async with stage.running() as application:
        for bar, target in zip(bars, targets, strict=True):
            await application.merge.on_targets(deliver_targets(target))
            await application.merge.on_bars(deliver_bar(bar))

    assert await outcome(stage) == before


async def test_targets_that_never_come_are_a_hold_when_later_ones_arrive(dsn):
    stage = Stage(dsn, market="lost")
    history, bars, targets = day("lost")
    stage.lake.append(history)
    await stage.publish([bars[0], targets[0], bars[1], bars[2], targets[2], bars[3], targets[3]])

    await stage.run_to_end()

    journal = await stage.journal()
    assert ["targets_missing" in row for row in journal["targets"]] == [False, True, False, False]
    assert len(journal["marks"]) == 4


async def test_bar_that_never_comes_refuses_its_targets(dsn):
    stage = Stage(dsn, market="gap")
    history, bars, targets = day("gap")
    stage.lake.append(history)
    await stage.publish([bars[0], targets[0], targets[1], bars[2], targets[2]])

    await stage.run_to_end()

    journal = await stage.journal()
    assert len(journal["refusals"]) == 1
    assert "no_bar" in journal["refusals"][0]
    assert all("no_bar" in row for row in journal["expiries"] if "AAA" in row)
    assert len(journal["marks"]) == 2


async def test_real_time_holds_at_the_deadline_and_refuses_what_comes_later(dsn):
    stage = Stage(dsn, market="live")
    clock = FixedClock(at(100))
    history, _, targets = day("live")
    stage.lake.append(history)
    live = [make_bar(N_HISTORY + k, walk(N_HISTORY + 2, seed=5)[N_HISTORY + k], market="live", origin=Origin.REAL)
            for k in range(2)]  # fmt: skip
    settings = ExecutionSettings(targets_deadline_s=30.0)

    async with stage.running(clock=clock, settings=settings) as application:
        await stage.publish([live[0]])
        await stage.settle(application)
        await _until(stage, "marks", 1)
        await application.merge._hold_if_late()
        assert (await stage.journal())["targets"] == []
        clock.elapsed_s = 31.0
        await application.merge._hold_if_late()
        assert "targets_late" in (await stage.journal())["targets"][0]
        await stage.publish([msgspec.structs.replace(targets[0], origin=Origin.REAL)])
        await stage.publish([live[1], msgspec.structs.replace(targets[1], origin=Origin.REAL)])
        await stage.settle(application)

    journal = await stage.journal()
    assert len(journal["refusals"]) == 1
    assert "stale_targets" in journal["refusals"][0]
    assert len(journal["targets"]) == 2
    assert all(Origin.REAL.value in row for row in journal["orders"])


async def _until(stage: Stage, table: str, n: int) -> None:
    async with asyncio.timeout(10.0):
        while len((await stage.journal())[table]) < n:
            await asyncio.sleep(0.005)


async def test_hop_trace_gives_latencies_once_orders_are_on_the_stream(dsn):
    stage = Stage(dsn, market="hops")
    history, bars, targets = day("hops")
    stage.lake.append(history)
    # After the start of the service whatever its clock says: what waited while it was down is not counted.
    at_ns = 4_000_000_000 * 10**9

    async with stage.running() as application:
        latency = application.feed.latency
        for i in range(2):
            stage.lake.append([bars[i]])
            await stage.publish_raw(deliver_bar(bars[i], hops=f"svc_ingest={at_ns}"))
            trace = f"svc_ingest={at_ns},svc_features={at_ns + 2_000_000},svc_allocator={at_ns + 3_000_000}"
            await stage.publish_raw(deliver_targets(targets[i], hops=trace))
            await stage.settle(application)
            async with asyncio.timeout(10.0):
                while latency.starting.n + latency.total().n <= i:
                    await asyncio.sleep(0.005)
    assert (latency.starting.n, latency.total().n) == (1, 1)  # the first bar waits for the start

    hops = latency.hops()
    assert [(hop.name, hop.n) for hop in hops] == [("svc_features", 1), ("svc_allocator", 1), ("svc_execution", 1)]
    assert [hop.p50_ms for hop in hops[:2]] == [2.0, 1.0]
    sent = stage.broker._streams["EXECUTION"].messages[0].headers[headers.HOPS]
    assert [part.split("=")[0] for part in sent.split(",")] == [
        "svc_ingest", "svc_features", "svc_allocator", "svc_execution",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE execution.fills SET fee = fee + 1",
        "UPDATE execution.marks SET equity = equity + 1e-9",
        "DELETE FROM execution.marks WHERE closed_at > '2025-06-01 01:20Z'",
        "UPDATE execution.progress SET interval = '1h'",
    ],
)
async def test_service_refuses_to_start_on_a_journal_that_contradicts_itself(postgres_dsn, change):
    stage = await staged(postgres_dsn, "crypto")
    await stage.run_to_end()
    connection = await asyncpg.connect(postgres_dsn)
    for table in ("fills", "marks"):
        await connection.execute(f"ALTER TABLE execution.{table} DISABLE TRIGGER append_only")
    await connection.execute(change)
    await connection.close()

    with pytest.raises(JournalMismatch):
        await stage.run_to_end()


async def test_journal_refuses_to_be_changed(dsn):
    stage = await staged(dsn, "fixed")
    await stage.run_to_end()
    connection = await asyncpg.connect(dsn)
    try:
        for table in ("orders", "fills", "expiries", "marks", "targets", "refusals", "kill_switch"):
            for statement in (f"DELETE FROM execution.{table}", f"TRUNCATE execution.{table} CASCADE"):
                with pytest.raises(asyncpg.RaiseError, match="append-only"):
                    await connection.execute(statement)
    finally:
        await connection.close()


async def test_outbox_table_is_the_one_the_relay_expects(postgres_dsn):
    from qraft_bus.outbox import TABLE_SQL

    stage = Stage(postgres_dsn)
    async with stage.running():
        connection = await asyncpg.connect(postgres_dsn)
        await connection.execute("CREATE SCHEMA expected")
        await connection.execute(TABLE_SQL.format(schema="expected"))
        query = """SELECT table_schema, column_name, data_type, is_nullable FROM information_schema.columns
                   WHERE table_name = 'outbox' AND table_schema = $1 ORDER BY column_name"""
        found = [tuple(row)[1:] for row in await connection.fetch(query, "execution")]
        expected = [tuple(row)[1:] for row in await connection.fetch(query, "expected")]
        await connection.close()

    assert found == expected


async def test_database_that_crashes_and_comes_back_changes_nothing(dsn):
    reference = await staged(dsn, "steady")
    await reference.run_to_end()
    with postgres_server() as server, server.fresh_database() as other_dsn:
        stage = Stage(other_dsn, market="shaken")
        history, bars, targets = day("shaken")
        stage.lake.append(history)
        async with stage.running() as application:
            for bar, target in zip(bars, targets, strict=True):
                await stage.publish([bar, target])
                await asyncio.to_thread(server.crash)
                await asyncio.to_thread(server.start)
            await stage.settle(application)

        assert await outcome(stage) == await outcome(reference)
