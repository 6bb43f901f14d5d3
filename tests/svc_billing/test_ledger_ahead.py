"""Batches that are decided on what is remembered, ahead of the one before: checked when they are written."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count

import msgspec
import pytest
from tests.svc_billing.kit_core import (
    NOW,
    PRICES,
    Books,
    dispute,
    memory_books,
    postgres_books,
    refund,
    reserve,
    rules,
    running,
    settle,
    void,
)

from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import FixedClock
from svc_billing.adapters.memory import MemoryStore
from svc_billing.domain.commands import PublishPrices, fingerprint
from svc_billing.domain.decide import Checked
from svc_billing.ports import Changes
from svc_billing.usecases.ledger import N_AHEAD_MIN, Ledger
from svc_billing.usecases.working_set import WorkingSet

N_WARM = 3  # commands after which a ledger knows that it is alone


@asynccontextmanager
async def on_one_store(kind: str, request: pytest.FixtureRequest, **options: int) -> AsyncIterator[tuple[Books, Books]]:
    """Two ledgers with memories of their own; everything holds at the end."""
    async with AsyncExitStack() as stack:
        if kind == "memory":
            first = await stack.enter_async_context(memory_books(**options))
            assert isinstance(first.store, MemoryStore)
            ledger = Ledger(first.store, clock=first.clock, **options)
            await stack.enter_async_context(running(ledger))
            second = Books(ledger, first.store, first.store, first.store, first.clock, first.numbers)
        else:
            dsn = request.getfixturevalue("postgres_dsn")
            first = await stack.enter_async_context(postgres_books(dsn, **options))
            second = await stack.enter_async_context(postgres_books(dsn, **options))
        yield first, second
        await first.check()


@pytest.fixture(params=["memory", "postgres"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Books, Books]]:
    async with on_one_store(request.param, request) as made:
        yield made


async def warm(books: Books, *, amount: int = 0) -> None:
    """Let a ledger find out that nobody else writes, so that it decides without the lock."""
    for _ in range(N_WARM):
        assert (await books.reserve(books.new_id("warm"), amount)).outcome == "ok"
    assert books.ledger._is_alone


async def test_credits_that_another_ledger_spent_are_not_spent_again_out_of_memory(pair: tuple[Books, Books]) -> None:
    first, second = pair
    await first.account(granted=100)
    await warm(first)

    theirs = await second.reserve("theirs", 60)
    ours = await first.reserve("ours", 60)

    assert theirs.outcome == "ok"
    assert (ours.outcome, ours.code) == ("refused", "credits_insufficient")
    assert await first.balance() == (40, 60, 0, 0)


async def test_operation_that_another_ledger_executed_is_a_replay_here(pair: tuple[Books, Books]) -> None:
    first, second = pair
    await first.account(granted=100)
    await warm(first)

    there = await second.reserve("h1", 10)
    here = await first.reserve("h1", 10)
    conflict = await first.send(msgspec.structs.replace(reserve("h1", 10), lease_s=601))

    assert here == msgspec.structs.replace(there, is_replay=True)
    assert conflict.code == "operation_conflict"


async def test_id_of_another_command_is_a_conflict_also_where_the_command_would_be_told_to_retry(
    pair: tuple[Books, Books],
) -> None:
    books = pair[0]
    await books.account(granted=100)
    await warm(books)

    conflict = await books.settle("never", 10, operation_id="open/acme")
    early = await books.settle("never", 10)

    assert (conflict.outcome, conflict.code) == ("refused", "operation_conflict")
    assert (early.outcome, early.code) == ("retry", "hold_unknown")


async def test_hold_that_another_ledger_resolved_is_not_resolved_out_of_memory(pair: tuple[Books, Books]) -> None:
    first, second = pair
    await first.account(granted=100)
    await warm(first)
    await first.reserve("h1", 10)

    settled = await second.settle("h1", 10)
    voided = await first.void("h1")

    assert settled.outcome == "ok"
    assert (voided.outcome, voided.code) == ("refused", "already_settled")


async def test_price_that_another_ledger_published_counts_at_once(pair: tuple[Books, Books]) -> None:
    first, second = pair
    await first.account(granted=100, prices=(0, 10))
    await warm(first)

    await second.ok(PublishPrices("prices/2", rules(*PRICES), "ann"))
    reply = await first.reserve("h1", 20)

    assert reply.outcome == "ok" and reply.estimate is not None and reply.estimate.price_version == 2


@pytest.mark.parametrize("seed", range(3))
async def test_two_ledgers_that_alternate_give_the_balances_of_one(pair: tuple[Books, Books], seed: int) -> None:
    """Bursts long enough that each finds itself alone, and single commands, in turn."""
    rng = random.Random(seed)
    accounts = [await pair[0].account(f"a{n}", granted=500) for n in range(3)]
    numbers, spent = count(), Counter[str]()
    open_holds: list[tuple[str, str]] = []
    for _ in range(40):
        books = rng.choice(pair)
        commands: list[tuple[str, object]] = []
        for _ in range(rng.choice([1, 1, 2, 5, 2 * N_AHEAD_MIN + 3])):
            if open_holds and rng.random() < 0.45:
                hold_id, account_id = open_holds.pop(rng.randrange(len(open_holds)))
                commands.append((account_id, rng.choice([settle(hold_id, 10), void(hold_id, account_id)])))
            else:
                account_id = rng.choice(accounts)
                commands.append((account_id, reserve(f"h{next(numbers)}", 10, account_id)))

        replies = await asyncio.gather(*[books.send(command) for _, command in commands])

        for (account_id, _), reply in zip(commands, replies, strict=True):
            assert reply.code in ("", "credits_insufficient"), reply
            if reply.hold is not None and reply.hold.state == "held":
                open_holds.append((reply.hold.hold_id, account_id))
            elif reply.hold is not None and reply.hold.state == "settled":
                spent[account_id] += 10

    for account_id in accounts:
        held = 10 * sum(owner == account_id for _, owner in open_holds)
        assert await pair[0].balance(account_id) == (500 - held - spent[account_id], held, spent[account_id], 0)


class WatchedStore(MemoryStore):
    """The twin that keeps what was appended, and goes away on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Changes] = []
        self.goes_away_before: set[int] = set()  # numbers of appends
        self.goes_away_behind: set[int] = set()
        self.pause: asyncio.Event | None = None

    async def append(self, changes: Changes) -> bool:
        number = len(self.appended)
        self.appended.append(changes)
        if self.pause is not None:
            await self.pause.wait()
        if number in self.goes_away_before:
            raise Transient("store_away", "gone before")
        is_written = await super().append(changes)
        if number in self.goes_away_behind:
            raise Transient("store_away", "gone behind")
        return is_written


@asynccontextmanager
async def watched(**options: int) -> AsyncIterator[tuple[Books, WatchedStore]]:
    store, clock = WatchedStore(), FixedClock(NOW)
    ledger = Ledger(store, clock=clock, **options)
    async with running(ledger):
        books = Books(ledger, store, store, store, clock, count(1))
        yield books, store
        await books.check()


async def test_next_batch_is_decided_while_the_one_before_is_written() -> None:
    async with watched() as (books, store):
        await books.account(granted=10_000)
        await warm(books)
        n_before = len(store.appended)
        store.pause = asyncio.Event()
        first = [asyncio.create_task(books.reserve(f"a{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()
        second = [asyncio.create_task(books.settle(f"a{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()

        # Only the first is with the store, and what it made is known already.
        assert len(store.appended) == n_before + 1
        assert books.ledger._known.head.seq == store.appended[-1].head.seq + N_AHEAD_MIN
        assert not any(task.done() for task in first + second)
        store.pause.set()
        replies = await asyncio.gather(*first, *second)

        assert {reply.outcome for reply in replies} == {"ok"}
        assert store.appended[-1].base == store.appended[-2].head


@pytest.mark.parametrize("is_written", [False, True])
async def test_batch_that_stands_on_a_failed_one_is_decided_again(is_written: bool) -> None:
    async with watched() as (books, store):
        await books.account(granted=10 * N_AHEAD_MIN)
        await warm(books)
        store.pause = asyncio.Event()
        (store.goes_away_behind if is_written else store.goes_away_before).add(len(store.appended))
        first = [asyncio.create_task(books.reserve(f"a{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()
        # There is nothing left for these, unless the first ones come to nothing.
        second = [asyncio.create_task(books.reserve(f"b{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()
        store.pause.set()
        told = [await asyncio.gather(*first), await asyncio.gather(*second)]
        again = await asyncio.gather(*[books.reserve(f"a{n}", 10) for n in range(N_AHEAD_MIN)])

        assert {reply.code for reply in told[0]} == {"store_away"}
        refused, done = {"credits_insufficient"}, {""}
        assert {reply.code for reply in told[1]} == (refused if is_written else done)
        assert {reply.code for reply in again} == (done if is_written else refused)
        assert all(reply.is_replay == is_written for reply in again)
        assert await books.balance() == (0, 10 * N_AHEAD_MIN, 0, 0)


async def test_copies_that_wait_behind_a_batch_that_came_to_nothing_are_executed_and_not_told_its_answers() -> None:
    async with watched() as (books, store):
        await books.account(granted=10_000)
        await warm(books)
        store.pause = asyncio.Event()
        store.goes_away_before.add(len(store.appended))
        first = [asyncio.create_task(books.reserve(f"a{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()
        copies = [asyncio.create_task(books.reserve(f"a{n}", 10)) for n in range(N_AHEAD_MIN)]
        await turns()
        store.pause.set()
        told = [await asyncio.gather(*first), await asyncio.gather(*copies)]

        assert {reply.code for reply in told[0]} == {"store_away"}
        assert {(reply.outcome, reply.is_replay) for reply in told[1]} == {("ok", False)}
        assert await books.balance() == (10_000 - 10 * N_AHEAD_MIN, 10 * N_AHEAD_MIN, 0, 0)


@pytest.mark.parametrize("is_written", [False, True])
async def test_batch_whose_end_is_unknown_is_not_answered_out_of_memory_when_it_is_sent_again(is_written: bool) -> None:
    async with watched() as (books, store):
        await books.account(granted=100)
        await warm(books)
        (store.goes_away_behind if is_written else store.goes_away_before).add(len(store.appended))

        first = await books.reserve("h1", 10)
        again = await books.reserve("h1", 10)

        assert (first.outcome, first.code) == ("retry", "store_away")
        assert again.outcome == "ok" and again.is_replay == is_written
        assert await books.balance() == (90, 10, 0, 0)


async def test_command_sent_again_behind_its_batch_gets_the_first_answer_and_leaves_no_second_event() -> None:
    async with watched() as (books, store):
        await books.account(granted=10_000)
        await warm(books)
        first = await asyncio.gather(*[books.reserve(f"a{n}", 10) for n in range(3 * N_AHEAD_MIN)])
        seq = (await store.head()).seq
        again = await asyncio.gather(*[books.reserve(f"a{n}", 10) for n in range(3 * N_AHEAD_MIN)])

        assert again == [msgspec.structs.replace(reply, is_replay=True) for reply in first]
        assert (await store.head()).seq == seq


async def turns(n: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(n):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_append_writes_nothing_unless_the_chain_is_as_it_was_decided_on(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with on_one_store(kind, request) as (books, _):
        await books.account(granted=1000)
        await books.reserve("open", 10)
        for hold_id in ("settled", "voided"):
            await books.reserve(hold_id, 10)
        await books.settle("settled", 10)
        await books.void("voided")
        await books.ok(refund("settled", 5))
        changes = await proposed(books)
        before = await books.reader.head()

        spoiled = {
            "an older end": replace(changes, base=replace(changes.base, seq=before.seq - 1)),
            "another history of the same length": replace(changes, base=replace(changes.base, hash=bytes(32))),
            "an operation that exists": replace(changes, absent_operation_ids=["new", "reserve/open"]),
            "a refused operation that exists": replace(changes, absent_operation_ids=["open/acme"]),
            "a hold that is open": replace(changes, absent_hold_ids=["new", "open"]),
            "a hold that was settled": replace(changes, absent_hold_ids=["settled"]),
            "a hold that was voided": replace(changes, absent_hold_ids=["voided"]),
        }
        for name, one in spoiled.items():
            books.store.prepare(changes)  # of another batch: what is written is what is said
            assert not await books.store.append(one), name
            assert await books.reader.head() == before, name

        assert await books.store.append(changes)
        assert (await books.reader.head()) == changes.head


async def proposed(books: Books) -> Changes:
    """Return a batch that could be written now."""
    known = WorkingSet(n_kept_max=100)
    commands = [Checked(it, fingerprint(it), None) for it in (reserve("new", 10), dispute("open"))]
    found = await books.store.load(known.outlook(commands, is_trusting=False).wanted)
    known.begin_at(found.head, await books.store.load_prices())
    known.add(found)
    changes = known.decide(commands, known.outlook(commands, is_trusting=True), now=books.clock.at).changes
    assert changes is not None
    return changes
