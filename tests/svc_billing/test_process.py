"""The service as processes: two share the work, a kill loses nothing and changes no answer, a stop answers everyone."""

from __future__ import annotations

import asyncio
import random

import httpx
import msgspec
import pytest
from tests.kit.servers import free_port
from tests.svc_billing.edge_kit import (
    DEADLINE_S,
    PER_IMAGE,
    ask_until_decided,
    bus_client,
    fund,
    ledger_on,
    ledger_stream,
    reserve,
    settle,
    start_service,
    until_published,
    void,
)

from qraft_contracts.billing import BillingReply, ReadBalance
from qraft_contracts.ledger import LedgerEntry

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

ACCOUNTS = tuple(f"acct-{i}" for i in range(8))


def story(n: int) -> list[list[object]]:
    """Return what n callers do, each in its own order: reserve, then settle in part, in full, above, or void."""
    rng = random.Random(7)
    found: list[list[object]] = []
    for i in range(n):
        account = rng.choice(ACCOUNTS)
        end = void(str(i), account=account)
        found.append([reserve(str(i), account=account), rng.choice([settle(str(i)), settle(str(i), PER_IMAGE), end])])
    return found


async def act(bus, steps) -> list[BillingReply]:
    return [await ask_until_decided(bus, step) for step in steps]


def same(reply: BillingReply) -> BillingReply:
    return msgspec.structs.replace(reply, is_replay=False)


async def test_killed_under_load_it_gives_the_same_answers_and_tells_every_entry_once_in_order(
    nats_url, postgres_dsn, tmp_path
):
    await fund(postgres_dsn, *ACCOUNTS)
    steps = story(400)
    async with bus_client(nats_url) as bus:
        service = await start_service(nats_url, postgres_dsn, tmp_path)
        acting = [asyncio.create_task(act(bus, it)) for it in steps]
        for n_done in (40, 160, 280):
            async with asyncio.timeout(DEADLINE_S):
                while sum(task.done() for task in acting) < n_done:
                    assert service.process.returncode is None, service.said()
                    await asyncio.sleep(0.005)
            await service.kill()
            service = await start_service(nats_url, postgres_dsn, tmp_path)
        first = await asyncio.gather(*acting)
        again = await asyncio.gather(*(act(bus, it) for it in steps))
        head = await until_published(postgres_dsn)
        assert await service.terminate() == 0, service.said()

    assert {reply.outcome for replies in first for reply in replies} == {"ok"}
    assert [[same(it) for it in replies] for replies in again] == [[same(it) for it in replies] for replies in first]
    assert all(reply.is_replay for replies in again for reply in replies)
    async with ledger_on(postgres_dsn) as (_, database):
        n_events = await database.read.fetchval(
            "SELECT count(*) FROM billing.events WHERE operation_id ~ '^(re|se|vo)'"
        )
        held = await database.read.fetchval("SELECT sum(held) FROM billing.accounts")
    assert (n_events, held) == (2 * len(steps), 0)
    told = [msgspec.json.decode(data, type=LedgerEntry).seq for _, _, data in await ledger_stream(nats_url)]
    assert told == list(range(1, head + 1))


async def test_two_processes_share_the_queue_group_and_one_dying_is_not_noticed(nats_url, postgres_dsn, tmp_path):
    await fund(postgres_dsn, *ACCOUNTS)
    services = [await start_service(nats_url, postgres_dsn, tmp_path, port=free_port()) for _ in range(2)]
    async with bus_client(nats_url) as bus, httpx.AsyncClient() as http:
        for service in services:
            await until_ready(http, service.url)
        steps = story(300)
        acting = [asyncio.create_task(act(bus, it)) for it in steps[:200]]
        replies = await asyncio.gather(*acting)
        answered = [await n_answered(http, service.url) for service in services]
        await services[0].kill()
        replies += await asyncio.gather(*(act(bus, it) for it in steps[200:]))
        assert await services[1].terminate() == 0, services[1].said()

    assert {reply.outcome for it in replies for reply in it} == {"ok"}
    assert min(answered) > 20
    assert sum(answered) == 400


async def test_stop_answers_every_question_it_took(nats_url, postgres_dsn, tmp_path):
    await fund(postgres_dsn, "acme", amount=10**15)
    async with bus_client(nats_url) as bus:
        service = await start_service(nats_url, postgres_dsn, tmp_path)
        await ask_until_decided(bus, ReadBalance("acme"))
        acting = [asyncio.create_task(act(bus, it)) for it in ([reserve(f"stop/{i}")] for i in range(500))]
        while not any(task.done() for task in acting):
            await asyncio.sleep(0.001)

        code = await service.terminate()
        n_done = sum(task.done() for task in acting)
        said = service.said()
        second = await start_service(nats_url, postgres_dsn, tmp_path)
        replies = await asyncio.gather(*acting)
        await second.terminate()

    assert code == 0, said
    assert '"exit_code": 0' in said
    # Asked before the stop, so all of them were taken, decided and told; none had to be asked again.
    assert n_done == len(acting)
    assert {reply.outcome for it in replies for reply in it} == {"ok"}
    assert not any(reply.is_replay for it in replies for reply in it)


async def until_ready(http: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def n_answered(http: httpx.AsyncClient, url: str) -> int:
    """Return how many reserve, settle and void questions a process has answered."""
    lines = (await http.get(f"{url}/metrics")).text.splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("qraft_answers_total{") and 'outcome="ok"' in line and "balance" not in line
    )
