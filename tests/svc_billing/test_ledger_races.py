"""Many callers at once, in any order, several times, over two ledgers on one database."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec
import pytest
from tests.svc_billing.kit_core import Books, dispute, failing, late, postgres_books, reserve, settle, void

from qraft_contracts.billing import BillingReply
from svc_billing.domain.commands import expire_hold

N_MIXED = 10_000
N_ATTEMPTS_MAX = 50


@pytest.fixture
async def pair(postgres_dsn: str) -> AsyncIterator[tuple[Books, Books]]:
    """Two ledgers on one database, with pools and memories of their own; everything holds at the end."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(postgres_books(postgres_dsn))
        second = await stack.enter_async_context(postgres_books(postgres_dsn))
        yield first, second
        await first.check()


async def test_fifty_concurrent_charges_of_ten_on_a_hundred_grant_exactly_ten(pair: tuple[Books, Books]) -> None:
    for n in range(40):
        account_id = await pair[0].account(f"a{n}", granted=100)

        replies = await asyncio.gather(*[pair[k % 2].reserve(f"{account_id}-h{k}", 10, account_id) for k in range(50)])

        assert Counter(reply.code for reply in replies) == {"": 10, "credits_insufficient": 40}
        assert await pair[0].balance(account_id) == (0, 100, 0, 0)


async def test_settle_void_and_expire_racing_from_fifteen_callers_resolve_each_hold_once(
    pair: tuple[Books, Books],
) -> None:
    n_holds = 400
    rng = random.Random(4)
    await pair[0].account(granted=10 * n_holds)
    for start in range(0, n_holds, 100):
        await asyncio.gather(*[pair[0].reserve(f"h{n}", 10, lease_s=1) for n in range(start, start + 100)])
    for books in pair:
        books.clock.at += timedelta(seconds=1)
    commands = [
        (n, command)
        for n in range(n_holds)
        for k in range(5)
        for command in (
            settle(f"h{n}", 10, operation_id=f"settle/{n}/{k}"),
            void(f"h{n}", operation_id=f"void/{n}/{k}"),
            msgspec.structs.replace(expire_hold(f"h{n}"), operation_id=f"expire/{n}/{k}"),
        )
    ]
    rng.shuffle(commands)

    replies = await asyncio.gather(*[rng.choice(pair).send(command) for _, command in commands])

    won = Counter(n for (n, _), reply in zip(commands, replies, strict=True) if reply.outcome == "ok")
    assert won == dict.fromkeys(range(n_holds), 1)
    codes = Counter(reply.code for reply in replies if reply.outcome != "ok")
    assert set(codes) <= {"already_settled", "already_voided", "already_expired"}
    available, held, spent, shortfall = await pair[0].balance()
    assert (available + spent, held, shortfall) == (10 * n_holds, 0, 0)


async def deliver(books: Books, command: object) -> BillingReply:
    """Send as the bus does: again while the answer is retry."""
    for _ in range(N_ATTEMPTS_MAX):
        reply = await books.send(command)
        if reply.outcome != "retry":
            return reply
        await asyncio.sleep(0)
    return reply


@pytest.mark.parametrize("seed", range(10))
async def test_each_command_delivered_one_to_five_times_in_any_order_gives_one_final_state(
    pair: tuple[Books, Books], seed: int
) -> None:
    """The terminal may come before its reserve; a hundred holds an order, so a thousand orders in all."""
    rng = random.Random(seed)
    await pair[0].account(granted=100_000)
    deliveries: list[object] = []
    expected = Counter[str]()
    for n in range(100):
        amount, used = rng.choice([10, 20, 50]), rng.choice([5, 10, 20, 60])
        story: list[object] = [reserve(f"h{n}", amount)]
        if rng.random() < 0.7:
            story.append(settle(f"h{n}", used))
            expected["spent"] += used
        else:
            expected["held"] += amount
        for command in story:
            deliveries += [command] * rng.randint(1, 5)
    rng.shuffle(deliveries)

    replies = await asyncio.gather(*[deliver(rng.choice(pair), command) for command in deliveries])

    assert {reply.outcome for reply in replies} == {"ok"}
    balance = await pair[0].balance()
    assert balance == (100_000 - expected["held"] - expected["spent"], expected["held"], expected["spent"], 0)
    by_id: dict[str, list[BillingReply]] = {}
    for reply in replies:
        by_id.setdefault(reply.operation_id, []).append(msgspec.structs.replace(reply, is_replay=False))
    assert all(reply == told[0] for told in by_id.values() for reply in told)
    n_first = sum(not reply.is_replay for reply in replies)
    assert n_first == len(by_id)


async def test_ten_thousand_concurrent_mixed_commands_with_duplicates_reorders_and_conflicts(
    pair: tuple[Books, Books],
) -> None:
    rng = random.Random(20261101)
    accounts = [await pair[0].account(f"a{n}", granted=20_000) for n in range(20)]
    commands: list[object] = []
    while len(commands) < N_MIXED:
        hold_id, account_id = f"h{len(commands)}", rng.choice(accounts)
        amount = rng.choice([10, 20, 50, 100, 1000])
        made = reserve(hold_id, amount, account_id)
        story: list[object] = [made]
        endings = [
            settle(hold_id, rng.choice([5, amount, amount + 7])),
            void(hold_id, account_id),
            dispute(hold_id),
            failing(hold_id, rng.randint(1, 3)),
            late(hold_id, amount),
        ]
        story += rng.choices(endings, k=rng.randint(0, 3))
        story += rng.choices(story, k=rng.randint(0, 3))
        if rng.random() < 0.2:
            # The id of this reserve with other content.
            story.append(msgspec.structs.replace(made, lease_s=made.lease_s + 1))
        commands += story
    commands = commands[:N_MIXED]
    # Near reorders, as redelivery makes them.
    order = sorted(range(N_MIXED), key=lambda n: n + rng.uniform(0, 400))

    replies = await asyncio.gather(*[deliver_once_away(rng.choice(pair), commands[n]) for n in order])

    first: dict[str, BillingReply] = {}
    codes: Counter[str] = Counter()
    for n, reply in zip(order, replies, strict=True):
        codes[reply.code] += 1
        if reply.outcome == "retry" or reply.code == "operation_conflict":
            continue
        told = msgspec.structs.replace(reply, is_replay=False)
        assert first.setdefault(reply.operation_id, told) == told, commands[n]
    assert codes["operation_conflict"] > 100 and codes[""] > 3_000 and codes["already_settled"] > 100, codes
    for account_id in accounts:
        account = await pair[0].reader.account(account_id)
        assert account is not None and account.balances.available >= 0
    report = await pair[1].verify()
    assert report.holds, report.violations


async def deliver_once_away(books: Books, command: object) -> BillingReply:
    """Send again only what was turned away at the door."""
    reply = await books.send(command)
    while reply.code in ("overloaded", "store_away"):
        await asyncio.sleep(0.01)
        reply = await books.send(command)
    return reply
