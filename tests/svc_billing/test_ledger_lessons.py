"""What broke in other ledgers and gateways, each by the name of its report, on the twin and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import msgspec
from tests.svc_billing.kit_core import (
    ITEM,
    Books,
    late,
    refund,
    rules,
    settle,
    void,
)

from qraft_contracts.billing import ReserveCredits
from svc_billing.domain.commands import GrantCredits, PublishPrices
from svc_billing.domain.prices import PriceRule
from svc_billing.usecases.expire import Expiry


async def test_blnk_181_open_holds_count_against_the_next_one(books: Books) -> None:
    await books.account(granted=5000)

    replies = await asyncio.gather(*[books.reserve(f"h{n}", 1000) for n in range(6)])

    assert Counter(reply.code for reply in replies) == {"": 5, "credits_insufficient": 1}


async def test_blnk_43_a_hold_is_voided_once(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 50)

    replies = await asyncio.gather(*[books.void("h1", operation_id=f"v{n}") for n in range(5)])

    assert Counter(reply.code for reply in replies) == {"": 1, "already_voided": 4}
    assert await books.balance() == (100, 0, 0, 0)


async def test_blnk_171_and_lago_3618_two_settles_at_once_charge_once(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 60)

    replies = await asyncio.gather(*[books.settle("h1", 60, operation_id=f"s{n}") for n in range(5)])

    assert Counter(reply.code for reply in replies) == {"": 1, "already_settled": 4}
    assert await books.balance() == (40, 0, 60, 0)


async def test_blnk_182_a_refused_hold_is_never_settled(books: Books) -> None:
    await books.account(granted=10)
    await books.reserve("h1", 60)
    await books.grant("acme", 1000)

    settled = await books.settle("h1", 60)
    again = await books.reserve("h1", 60)

    assert (settled.outcome, settled.code) == ("retry", "hold_unknown")
    assert again.code == "credits_insufficient" and again.is_replay
    assert await books.balance() == (1010, 0, 0, 0)


async def test_blnk_315_concurrent_refunds_give_back_once_and_no_leg_is_empty(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 60)
    await books.settle("h1", 60)

    replies = await asyncio.gather(*[books.send(refund("h1", 60, operation_id=f"r{n}")) for n in range(5)])

    assert Counter(reply.code for reply in replies) == {"": 1, "invalid": 4}
    assert await books.balance() == (100, 0, 0, 0)
    events = await books.reader.events_after(0)
    assert all(amount != 0 for stored in events for _, _, amount in stored.event.postings)


async def test_blnk_62_and_new_api_6911_a_settle_above_the_hold_is_booked_whole(books: Books) -> None:
    await books.account(granted=60)
    await books.reserve("h1", 60)

    settled = await books.settle("h1", 160)

    assert settled.outcome == "ok"
    assert await books.balance() == (0, 0, 160, 100)


async def test_new_api_6609_check_and_deduct_are_one_step(books: Books) -> None:
    await books.account(granted=100)

    await asyncio.gather(*[books.reserve(f"h{n}", 30) for n in range(50)])

    assert await books.balance() == (10, 90, 0, 0)


async def test_new_api_should_trust_rich_accounts_are_held_like_any_other(books: Books) -> None:
    await books.account(granted=10**14)

    reply = await books.reserve("h1", 5)

    assert reply.balance is not None and reply.balance.held_microcredits == 5


async def test_new_api_4429_what_a_crash_left_held_returns_with_its_lease(books: Books) -> None:
    await books.account(granted=100)
    for n in range(4):
        await books.reserve(f"h{n}", 20, lease_s=60)
    books.clock.at += timedelta(seconds=61)

    await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once()

    assert await books.balance() == (100, 0, 0, 0)


async def test_new_api_5556_overlapping_pollers_refund_once(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 50, lease_s=60)
    books.clock.at += timedelta(seconds=61)
    sweeps = [Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once() for _ in range(3)]

    done = await asyncio.gather(books.void("h1"), books.void("h1", operation_id="v2"), *sweeps)

    assert sum(it if isinstance(it, int) else it.outcome == "ok" for it in done) == 1
    assert await books.balance() == (100, 0, 0, 0)


async def test_new_api_4211_refunds_do_not_inflate_what_was_granted(books: Books) -> None:
    await books.account(granted=10)

    for n in range(5):
        await books.reserve(f"h{n}", 10)
        await books.settle(f"h{n}", 10)
        await books.send(refund(f"h{n}", 10))

    account = await books.reader.account("acme")
    assert account is not None
    assert (account.balances.granted, account.balances.available, account.balances.spent) == (10, 10, 0)


async def test_litellm_pr_26845_an_estimate_is_not_cut_to_what_is_there(books: Books) -> None:
    await books.account(granted=59)

    reply = await books.reserve("h1", 60)

    assert reply.code == "credits_insufficient"
    assert await books.balance() == (59, 0, 0, 0)


async def test_litellm_26863_and_10335_an_unknown_price_refuses_and_auto_is_no_wildcard(books: Books) -> None:
    await books.account(granted=1000)
    wrong = [
        msgspec.structs.replace(ITEM, model="gpt-image-9"),
        msgspec.structs.replace(ITEM, size="auto"),
        msgspec.structs.replace(ITEM, quality="auto"),
        msgspec.structs.replace(ITEM, provider="other"),
        msgspec.structs.replace(ITEM, operation="variation"),
    ]

    replies = [
        await books.send(ReserveCredits(f"r{n}", "acme", f"h{n}", item, 60, "job/1")) for n, item in enumerate(wrong)
    ]

    assert {(reply.outcome, reply.code) for reply in replies} == {("refused", "price_unknown")}
    assert await books.balance() == (1000, 0, 0, 0)


async def test_litellm_37738_size_and_quality_have_prices_of_their_own(books: Books) -> None:
    await books.account(granted=1000)
    large = PriceRule("simulated", "m", "generation", "2048x2048", "high", 90)
    await books.ok(PublishPrices("p2", (*rules(), large), "ann"))
    item = msgspec.structs.replace(ITEM, size="2048x2048", quality="high", n=2)

    reply = await books.ok(ReserveCredits("r1", "acme", "h1", item, 60, "job/1"))

    assert reply.estimate is not None and reply.estimate.total_microcredits == 180


async def test_litellm_27639_a_voided_reservation_leaves_no_phantom_spend(books: Books) -> None:
    await books.account(granted=100)

    for n in range(30):
        await books.reserve(f"h{n}", 60)
        await books.void(f"h{n}")

    assert await books.balance() == (100, 0, 0, 0)


async def test_lago_5870_a_top_up_sent_twice_counts_once(books: Books) -> None:
    await books.account()
    top_up = GrantCredits("top-up", "acme", "invoice-1", "paid", 100, 0, None, "invoice", "ann")

    await asyncio.gather(*[books.send(top_up) for _ in range(10)])
    other_id = await books.send(msgspec.structs.replace(top_up, operation_id="top-up-2"))

    assert other_id.code == "grant_conflict"
    assert await books.balance() == (100, 0, 0, 0)


async def test_swept_job_that_succeeds_after_all_is_delivered_at_our_cost(books: Books) -> None:
    """new-api's sweepTimedOutTasks, vibe-seller PR 124: refunded, then the picture comes."""
    await books.account(granted=100)
    await books.reserve("h1", 50, lease_s=60)
    books.clock.at += timedelta(seconds=61)
    await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once()

    settled = await books.settle("h1", 50)
    booked = await books.send(late("h1", 50))

    assert (settled.code, booked.outcome) == ("already_expired", "ok")
    assert await books.balance() == (100, 0, 0, 0)


async def test_formance_empty_row_two_first_spends_of_a_new_account_do_not_both_pass(books: Books) -> None:
    await books.account(granted=50)

    replies = await asyncio.gather(books.reserve("h1", 50), books.reserve("h2", 50))

    assert sorted(reply.code for reply in replies) == ["", "credits_insufficient"]


async def test_tigerbeetle_id_already_failed_a_burned_id_never_flips(books: Books) -> None:
    await books.account(granted=100)
    refused = await books.send(msgspec.structs.replace(void("h1"), operation_id="once"))
    await books.reserve("h2", 10)

    flipped = await books.send(settle("h2", 10, operation_id="once"))
    replayed = await books.send(msgspec.structs.replace(void("h1"), operation_id="once"))

    assert flipped.code == "operation_conflict"
    assert msgspec.structs.replace(replayed, is_replay=False) == refused
