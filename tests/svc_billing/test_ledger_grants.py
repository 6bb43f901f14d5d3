"""Grants: in which order they are spent, how they end, what returns to them; on the twin and on a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from tests.svc_billing.kit_core import Books, rules, told

from svc_billing.domain.commands import PublishPrices, VoidGrant, expire_grant
from svc_billing.usecases.expire import Expiry


async def test_grants_are_spent_by_priority_then_by_what_expires_sooner(books: Books) -> None:
    await books.account()
    await books.grant("acme", 10, grant_id="late", expires_in_s=500)
    await books.grant("acme", 10, grant_id="never")
    await books.grant("acme", 10, grant_id="soon", expires_in_s=100)
    await books.grant("acme", 10, grant_id="second", priority=1, expires_in_s=50)
    await books.ok(PublishPrices("p25", rules(25), "ann"))

    await books.reserve("h1", 25)

    account = await books.reader.account("acme")
    assert account is not None
    assert [(it.grant_id, it.remaining, it.held) for it in account.grants] == [
        ("soon", 0, 10), ("late", 0, 10), ("never", 5, 5), ("second", 10, 0),
    ]  # fmt: skip


async def test_what_returns_to_an_expired_grant_lapses(books: Books) -> None:
    await books.account()
    await books.grant("acme", 30, grant_id="trial", category="promotional", expires_in_s=100)
    await books.grant("acme", 30, grant_id="bought", priority=1)
    await books.reserve("h1", 40)
    await books.reserve("h2", 20)
    books.clock.at += timedelta(seconds=100)

    n_expired = await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once()
    await books.settle("h1", 5)
    await books.void("h2")

    assert n_expired == 1
    account = await books.reader.account("acme")
    assert account is not None
    # 25 of h1's 30 trial credits lapse, its 10 bought ones and the 20 of h2 return.
    assert account.balances.lapsed == 25
    assert await books.balance() == (30, 0, 5, 0)


async def test_expired_grant_is_not_spent_before_the_sweeper_came(books: Books) -> None:
    await books.account()
    await books.grant("acme", 30, expires_in_s=10)
    books.clock.at += timedelta(seconds=10)

    refused = await books.reserve("h1", 20)

    assert refused.code == "credits_insufficient" and "there are 0" in refused.message


async def test_voided_grant_is_withdrawn_with_what_returns_to_it(books: Books) -> None:
    await books.account()
    await books.grant("acme", 50, grant_id="g1")
    await books.reserve("h1", 20)

    voided = await books.send(VoidGrant("vg", "g1", "charged back", "ann"))
    await books.void("h1")
    again = await books.send(VoidGrant("vg2", "g1", "charged back", "ann"))

    assert told(voided.balance) == (0, 20, 0, 0)
    assert await books.balance() == (0, 0, 0, 0)
    assert again.code == "grant_conflict"
    assert (await books.send(VoidGrant("vg3", "nope", "x", "ann"))).code == "grant_unknown"


async def test_grant_expires_once_and_only_when_due(books: Books) -> None:
    await books.account()
    await books.grant("acme", 50, grant_id="g1", expires_in_s=10)
    early = await books.send(expire_grant("g1"))
    books.clock.at += timedelta(seconds=11)

    first = await books.send(expire_grant("g1"))
    second = await books.send(expire_grant("g1"))

    assert (early.outcome, early.code) == ("retry", "not_due")
    assert first.outcome == "ok" and second.is_replay
    assert await books.balance() == (0, 0, 0, 0)
