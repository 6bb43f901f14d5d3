"""The relay: every entry in the order of the chain, once, whatever is killed in between."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from prometheus_client import REGISTRY
from tests.kit.servers import nats_server
from tests.svc_billing.edge_kit import (
    bus_client,
    fund,
    ledger_on,
    ledger_stream,
    reserve,
    running,
    settle,
    until_published,
)
from tests.svc_billing.kit_core import running as running_ledger

from qraft_bus.nats import NatsBus
from qraft_contracts import headers as names
from qraft_contracts.codec import encode
from qraft_contracts.ledger import LedgerEntry
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import SystemClock
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.adapters.relay import BUSY_BATCH_SIZE, N_REMEMBERED_MAX, LedgerRelay
from svc_billing.domain.events import StoredEvent, decode_event, ledger_entry
from svc_billing.domain.state import GENESIS
from svc_billing.usecases.ledger import Ledger

pytestmark = [pytest.mark.nats, pytest.mark.postgres]


_TOLD = """
SELECT e.body, e.hash, coalesce(p.hash, decode(repeat('00', 32), 'hex')) AS prev_hash
FROM billing.events e LEFT JOIN billing.events p ON p.seq = e.seq - 1
WHERE e.kind <> 'command_refused' ORDER BY e.seq
"""


def entries(stored: list[tuple[str, dict[str, str], bytes]]) -> list[LedgerEntry]:
    return [msgspec.json.decode(data, type=LedgerEntry) for _, _, data in stored]


async def relay_on(database: Database, bus: NatsBus, *, is_busy: bool = False) -> LedgerRelay:
    return LedgerRelay(database, bus=bus, is_busy=lambda: is_busy, poll_s=0.05)


async def publish_all(relay: LedgerRelay) -> None:
    while await relay.publish_batch():
        pass


def pending() -> float | None:
    return REGISTRY.get_sample_value("qraft_outbox_pending_rows", {"schema": "billing"})


async def test_every_accepted_event_is_told_in_order_with_its_place_in_the_chain(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme", "bolt")
    async with ledger_on(postgres_dsn) as (ledger, database), bus_client(nats_url) as bus:
        for command in (reserve("a"), reserve("b", account="nobody"), reserve("c", account="bolt"), settle("a")):
            await ledger.submit(command)

        await publish_all(await relay_on(database, bus))
        rows = await database.read.fetch("SELECT seq, kind, account_id, hash FROM billing.events ORDER BY seq")

    stored = await ledger_stream(nats_url)
    told = entries(stored)
    accepted = [row for row in rows if row["kind"] != "command_refused"]
    assert len(accepted) == len(rows) - 1
    assert [(it.seq, it.kind, it.hash) for it in told] == [(r["seq"], r["kind"], r["hash"].hex()) for r in accepted]
    assert [subject for subject, _, _ in stored] == [f"ledger.entries.{row['account_id']}" for row in accepted]
    assert [headers[names.MESSAGE_ID] for _, headers, _ in stored] == [f"ledger/{row['seq']}" for row in accepted]
    assert {headers[names.SCHEMA] for _, headers, _ in stored} == {LedgerEntry.SCHEMA}
    hashes = {0: GENESIS.hex()} | {row["seq"]: row["hash"].hex() for row in rows}
    assert [it.prev_hash for it in told] == [hashes[it.seq - 1] for it in told]
    for it in told:
        assert sum(posting.amount for posting in it.postings) == 0


async def test_crash_between_publish_and_cursor_publishes_again_under_the_same_ids(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme")
    async with ledger_on(postgres_dsn) as (ledger, database), bus_client(nats_url) as bus:
        await asyncio.gather(*(ledger.submit(reserve(str(i))) for i in range(20)))
        await publish_all(await relay_on(database, bus))
        before = await ledger_stream(nats_url)

        # What such a crash leaves behind: the messages are on the stream, the cursor stands before them.
        await database.read.execute("UPDATE billing.relay_cursor SET seq = seq - 15")
        await publish_all(await relay_on(database, bus))

    assert await ledger_stream(nats_url) == before


async def test_two_relays_at_once_tell_everything_once_and_in_order(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme", amount=10**15)
    async with (
        ledger_on(postgres_dsn) as (ledger, database),
        bus_client(nats_url) as bus,
        bus_client(nats_url) as other,
    ):
        relays = [asyncio.create_task((await relay_on(database, it)).run()) for it in (bus, other)]
        for start in range(0, 600, 100):
            await asyncio.gather(*(ledger.submit(reserve(str(start + i))) for i in range(100)))
        head = await until_published(postgres_dsn)
        for relay in relays:
            relay.cancel()
        await asyncio.wait(relays)

    assert [it.seq for it in entries(await ledger_stream(nats_url))] == list(range(1, head + 1))
    assert pending() == 0


async def test_while_the_bus_is_away_entries_wait_and_then_go_out_in_order(postgres_dsn):
    with nats_server() as server:
        async with running(server.url, postgres_dsn):
            server.kill()
            await fund(postgres_dsn, "acme")
            async with ledger_on(postgres_dsn) as (ledger, _):
                replies = await asyncio.gather(*(ledger.submit(reserve(str(i))) for i in range(10)))
            async with asyncio.timeout(10.0):
                while not pending():
                    await asyncio.sleep(0.02)
            server.start()
            head = await until_published(postgres_dsn)

        assert {reply.outcome for reply in replies} == {"ok"}
        assert [it.seq for it in entries(await ledger_stream(server.url))] == list(range(1, head + 1))


async def test_database_that_is_away_is_transient(nats_url, postgres_dsn):
    async with bus_client(nats_url) as bus:
        relay = await relay_on(Database(postgres_dsn), bus)

        with pytest.raises(Transient, match="starting"):
            await relay.publish_batch()


async def test_what_this_process_has_committed_is_told_as_it_stands_in_the_chain_over_every_gap(nats_url, postgres_dsn):
    """Remembered, behind what another process wrote, and more than is remembered: in order, once, the same bytes."""
    await fund(postgres_dsn, "acme", amount=10**15)
    async with ledger_on(postgres_dsn) as (other, database), bus_client(nats_url) as bus:
        relay = await relay_on(database, bus)
        await publish_all(relay)
        ledger = Ledger(PostgresStore(database), clock=SystemClock(), committed=relay.take)
        async with running_ledger(ledger):
            await asyncio.gather(*(ledger.submit(reserve(f"a{i}")) for i in range(5)))
            n_first = len(relay._remembered)
            await other.submit(reserve("theirs"))
            await ledger.submit(reserve("nobody", account="nobody"))
            await asyncio.gather(*(ledger.submit(reserve(f"b{i}")) for i in range(5)))
            n_over_the_gap = len(relay._remembered)
            await publish_all(relay)
            for start in range(0, N_REMEMBERED_MAX + 1_000, 500):
                await asyncio.gather(*(ledger.submit(reserve(f"c{start + i}")) for i in range(500)))
            n_most = len(relay._remembered)
            await publish_all(relay)
        rows = await database.read.fetch(_TOLD)

    stored = await ledger_stream(nats_url)
    assert n_first == n_over_the_gap == 5
    assert N_REMEMBERED_MAX <= n_most < N_REMEMBERED_MAX + 512
    told = [(headers[names.MESSAGE_ID], data) for _, headers, data in stored]
    expected = [StoredEvent(decode_event(row["body"]), row["body"], row["prev_hash"], row["hash"]) for row in rows]
    assert told == [(f"ledger/{it.event.seq}", encode(ledger_entry(it))) for it in expected]


async def test_relay_makes_way_for_commands_but_goes_on(nats_url, postgres_dsn):
    await fund(postgres_dsn, "acme", amount=10**15)
    async with ledger_on(postgres_dsn) as (ledger, database), bus_client(nats_url) as bus:
        for start in range(0, 600, 200):
            await asyncio.gather(*(ledger.submit(reserve(str(start + i))) for i in range(200)))
        relay = asyncio.create_task((await relay_on(database, bus, is_busy=True)).run())
        async with asyncio.timeout(10.0):
            while await database.read.fetchval("SELECT seq FROM billing.relay_cursor") == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

        paused_at = await database.read.fetchval("SELECT seq FROM billing.relay_cursor")
        await until_published(postgres_dsn)
        relay.cancel()
        await asyncio.wait({relay})

    assert paused_at == BUSY_BATCH_SIZE
