"""The store under trouble: a database that goes away, a memory that forgets, reads in pages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.kit.servers import postgres_server
from tests.svc_billing.kit_core import NOW, Books, dispute, memory_books, postgres_books, running, settle

from qraft_contracts.origin import Origin
from qraft_contracts.usage import ComputeUsage
from qraft_runtime.clock import FixedClock
from svc_billing.adapters.memory import MemoryStore
from svc_billing.domain.commands import BookUsage
from svc_billing.domain.events import chain_hash
from svc_billing.domain.state import GENESIS
from svc_billing.usecases.ledger import Ledger


@pytest.fixture(params=["memory", "postgres"])
async def books(request: pytest.FixtureRequest) -> AsyncIterator[Books]:
    if request.param == "memory":
        async with memory_books() as made:
            yield made
    else:
        async with postgres_books(request.getfixturevalue("postgres_dsn")) as made:
            yield made


async def until_ok(books: Books, hold_id: str, account_id: str = "acme") -> int:
    """Reserve and settle as a client does: the same command again while it is told to retry. Returns the retries."""
    n_retries = 0
    for send in (lambda: books.reserve(hold_id, 10, account_id), lambda: books.settle(hold_id, 10)):
        while (reply := await send()).outcome == "retry":
            assert reply.code == "store_away", reply
            n_retries += 1
            await asyncio.sleep(0.05)
        assert reply.outcome == "ok", reply
    return n_retries


async def test_crash_of_the_database_in_mid_batch_loses_nothing_and_charges_nothing_twice() -> None:
    with postgres_server(is_durable=True) as server, server.fresh_database() as dsn:
        async with postgres_books(dsn, batch_max=16) as books:
            await books.account(granted=100_000)
            n_retries = 0
            for round_number in range(5):
                work = [asyncio.create_task(until_ok(books, f"h{round_number}-{n}")) for n in range(200)]
                await asyncio.sleep(0.02 * round_number)
                await asyncio.to_thread(server.crash)
                await asyncio.sleep(0.1)
                await asyncio.to_thread(server.start)
                n_retries += sum(await asyncio.gather(*work))

            assert n_retries > 0
            assert await books.balance() == (100_000 - 5 * 200 * 10, 0, 5 * 200 * 10, 0)
            await books.check()


async def test_ledger_that_is_stopped_tells_who_waits_to_retry() -> None:
    store = MemoryStore()
    ledger = Ledger(store, clock=FixedClock(NOW), batch_max=1)

    async with store.begin(), running(ledger):
        # The first is in a batch that waits for the store, the second in the queue.
        waiting = [asyncio.create_task(ledger.submit(settle(hold_id, 1))) for hold_id in ("h1", "h2")]
        await asyncio.sleep(0.01)
    replies = [await task for task in waiting] + [await ledger.submit(settle("h3", 1))]

    assert [(reply.outcome, reply.code) for reply in replies] == [("retry", "store_away")] * 3
    assert [reply.operation_id for reply in replies] == ["settle/h1", "settle/h2", "settle/h3"]


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_ledger_that_forgets_nearly_everything_still_decides_on_the_truth(
    kind: str, request: pytest.FixtureRequest
) -> None:
    options = {"batch_max": 16, "n_kept_max": 8}
    opened = (
        memory_books(**options)
        if kind == "memory"
        else postgres_books(request.getfixturevalue("postgres_dsn"), **options)
    )
    rng = random.Random(3)
    async with opened as books:
        accounts = [await books.account(f"a{n}", granted=300) for n in range(40)]
        stories = [(f"h{n}", rng.choice(accounts)) for n in range(1200)]

        async def live(worker: int) -> None:
            for hold_id, account_id in stories[worker::64]:
                if (await books.reserve(hold_id, 10, account_id)).outcome == "ok":
                    await asyncio.sleep(0)
                    reply = await (books.settle(hold_id, 10) if rng.random() < 0.3 else books.void(hold_id, account_id))
                    assert reply.outcome == "ok", reply

        await asyncio.gather(*[live(worker) for worker in range(64)])

        state = books.ledger._known.state
        assert max(len(known) for known in (state.operations, state.holds, state.accounts, state.grants)) <= 8
        await books.check()


async def test_hold_that_was_forgotten_is_not_settled_again(postgres_dsn: str) -> None:
    n_holds = 300
    async with postgres_books(postgres_dsn, batch_max=16, n_kept_max=24) as books:
        await books.account(granted=10 * n_holds)
        await asyncio.gather(*[books.reserve(f"h{n}", 10) for n in range(n_holds)])
        # A hold is disputed, settled a few batches later, and again soon after.
        commands: list[object] = []
        for n in range(n_holds + 40):
            commands += [dispute(f"h{n}")] if n < n_holds else []
            for lag, operation_id in ((20 + n % 8, "a"), (29 + n % 8, "b")):
                if 0 <= n - lag < n_holds:
                    commands.append(settle(f"h{n - lag}", 10, operation_id=f"settle/{n}/{operation_id}"))

        replies = await asyncio.gather(*[books.send(command) for command in commands])

        settled = [reply.hold.hold_id for reply in replies if reply.hold and reply.hold.state == "settled"]
        assert len(settled) == len(set(settled)) > n_holds / 10
        await books.check()


async def test_events_of_an_account_come_in_pages_and_in_order(books: Books) -> None:
    await books.account(granted=1000)
    await books.account("other", granted=1000)
    for n in range(12):
        await books.reserve(f"h{n}", 10, "acme" if n % 2 else "other")

    first = await books.reader.events_of("acme", limit=5)
    rest = await books.reader.events_of("acme", after_account_seq=first[-1].event.account_seq)

    assert [it.event.account_seq for it in first + rest] == list(range(1, 9))
    assert {it.event.account_id for it in first + rest} == {"acme"}


async def test_chain_is_read_whole_in_pages_with_the_hash_before_each_event(books: Books) -> None:
    await books.account(granted=1000)
    for n in range(20):
        await books.reserve(f"h{n}", 10)
    read, last = [], 0
    while page := await books.reader.events_after(last, limit=7):
        read += page
        last = page[-1].event.seq

    head = await books.reader.head()
    assert [it.event.seq for it in read] == list(range(1, head.seq + 1))
    assert read[0].prev_hash == GENESIS and read[-1].hash == head.hash
    for before, after in pairwise(read):
        assert after.prev_hash == before.hash == chain_hash(before.prev_hash, before.body)


async def test_open_holds_are_found_by_purpose_and_age_oldest_first(books: Books) -> None:
    await books.account(granted=1000)
    for n in range(4):
        await books.reserve(f"h{n}", 10)
        books.clock.at += timedelta(seconds=10)
    await books.void("h1")

    found = await books.reader.open_holds(purpose_prefix="job/", made_before=NOW + timedelta(seconds=30))
    limited = await books.reader.open_holds(purpose_prefix="job/", made_before=NOW + timedelta(days=1), limit=1)

    assert [hold.hold_id for hold in found] == ["h0", "h2"]
    assert [hold.hold_id for hold in limited] == ["h0"]
    assert await books.reader.open_holds(purpose_prefix="jo%", made_before=NOW + timedelta(days=1)) == []
    assert [hold.hold_id for hold in await books.reader.holds_of("acme")] == ["h0", "h2", "h3"]


async def test_hold_is_read_in_every_state_with_its_later_refunds(books: Books) -> None:
    await books.account(granted=1000)
    for n in range(3):
        await books.reserve(f"h{n}", 10)
    await books.settle("h1", 10)
    await books.void("h2")

    states = [await books.reader.hold(f"h{n}") for n in range(4)]

    assert [hold.state if hold else None for hold in states] == ["held", "settled", "voided", None]
    assert states[1] is not None and states[1].settled_microcredits == 10 and states[1].purpose == "job/h1"


async def test_accounts_and_grants_are_listed(books: Books) -> None:
    for name in ("b", "a", "c"):
        await books.account(name, granted=100)

    assert [account.account_id for account in await books.reader.accounts(limit=2)] == ["a", "b"]
    assert [account.account_id for account in await books.reader.accounts(after="b")] == ["c"]
    assert [grant.amount for grant in await books.reader.grants("a")] == [100]
    assert await books.reader.account("nobody") is None


def usage(n: int, *, cost: int | None, column: str = "training") -> BookUsage:
    return BookUsage(
        f"usage/{n}",
        ComputeUsage(
            f"svc_train/{n}", column, "svc_train", "nightly", "240 rounds", NOW, NOW + timedelta(hours=n), 1000 * n, 5,
            70, Origin.REAL, cost,
        ),
    )  # fmt: skip


async def test_usage_is_booked_under_its_column_and_an_unknown_cost_is_counted_and_not_zero(books: Books) -> None:
    await books.account()
    for n, cost in ((1, 10), (2, None), (3, 30)):
        await books.ok(usage(n, cost=cost))
    await books.ok(usage(4, cost=1, column="demo"))
    again = await books.ok(usage(1, cost=10))
    wrong = await books.send(usage(5, cost=1, column="fun"))

    totals = await books.reader.usage(start=NOW, end=NOW + timedelta(hours=3))
    events = await books.reader.usage_events(start=NOW, end=NOW + timedelta(days=1), limit=2)

    assert again.is_replay and wrong.code == "invalid"
    assert [(it.column, it.n, it.cpu_ms, it.provider_cost_microusd, it.n_cost_unknown) for it in totals] == [
        ("training", 2, 3000, 10, 1)
    ]
    assert len(events) == 2 and events[0].event.postings[:2] == (
        ("compute/source", "cpu_ms", -1000), ("compute/training", "cpu_ms", 1000),
    )  # fmt: skip
    await books.check()
