"""What the ledger does with commands: one suite on the twin and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest
from tests.svc_billing.kit_core import (
    Books,
    dispute,
    failing,
    late,
    refund,
    reserve,
    rules,
    settle,
    told,
)

from qraft_contracts.billing import PricedItem, ReserveCredits, SettleHold
from svc_billing.domain.commands import (
    CloseAccount,
    GrantCredits,
    OpenAccount,
    PublishPrices,
    expire_hold,
)
from svc_billing.usecases.expire import Expiry


async def test_settle_below_the_hold_returns_the_rest(books: Books) -> None:
    await books.account(granted=100)

    held = await books.reserve("h1", 40)
    settled = await books.settle("h1", 30)

    assert told(held.balance) == (60, 40, 0, 0)
    assert told(settled.balance) == (70, 0, 30, 0)
    assert settled.hold is not None and settled.hold.state == "settled" and settled.hold.settled_microcredits == 30
    assert await books.balance() == (70, 0, 30, 0)


async def test_void_returns_the_whole_hold_once(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40)

    voided = await books.void("h1")
    again = await books.void("h1", operation_id="void/again")

    assert told(voided.balance) == (100, 0, 0, 0)
    assert (again.outcome, again.code) == ("refused", "already_voided")
    assert await books.balance() == (100, 0, 0, 0)


async def test_reserve_above_available_is_refused_and_stays_refused_after_a_top_up(books: Books) -> None:
    await books.account(granted=30)

    refused = await books.reserve("h1", 40)
    await books.grant("acme", 100)
    replayed = await books.reserve("h1", 40)

    assert (refused.outcome, refused.code, refused.is_replay) == ("refused", "credits_insufficient", False)
    assert (replayed.outcome, replayed.code, replayed.is_replay) == ("refused", "credits_insufficient", True)
    assert replayed.message == refused.message
    assert await books.balance() == (130, 0, 0, 0)


async def test_same_id_with_other_content_is_an_operation_conflict_and_the_first_stands(books: Books) -> None:
    await books.account(granted=100)
    first = await books.reserve("h1", 40)

    conflict = await books.send(msgspec.structs.replace(reserve("h1", 40), lease_s=601))
    replayed = await books.reserve("h1", 40)

    assert (conflict.outcome, conflict.code) == ("refused", "operation_conflict")
    assert replayed.is_replay and replayed == msgspec.structs.replace(first, is_replay=True)
    assert await books.balance() == (60, 40, 0, 0)


async def test_replay_is_answered_out_of_the_store_after_the_memory_was_lost(books: Books) -> None:
    await books.account(granted=100)
    first = await books.reserve("h1", 40)
    await books.settle("h1", 40)
    books.ledger._known.forget()

    replayed = await books.reserve("h1", 40)

    assert replayed == msgspec.structs.replace(first, is_replay=True)


async def test_hold_id_of_another_operation_is_a_hold_conflict(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40)

    other = await books.send(msgspec.structs.replace(reserve("h1", 40), operation_id="other"))
    await books.settle("h1", 40)
    after = await books.send(msgspec.structs.replace(reserve("h1", 40), operation_id="third"))

    assert (other.code, after.code) == ("hold_conflict", "hold_conflict")


async def test_void_that_overtakes_its_reserve_makes_the_reserve_refused(books: Books) -> None:
    await books.account(granted=100)

    voided = await books.void("h1")
    reserved = await books.reserve("h1", 40)

    assert voided.outcome == "ok" and voided.hold is not None and voided.hold.state == "voided"
    assert (reserved.outcome, reserved.code) == ("refused", "already_voided")
    assert await books.balance() == (100, 0, 0, 0)


@pytest.mark.parametrize("command", [settle("h9", 10), dispute("h9"), late("h9", 10), failing("h9"), refund("h9", 1)])
async def test_command_that_overtakes_its_reserve_is_told_to_retry_and_leaves_nothing(
    books: Books, command: object
) -> None:
    await books.account(granted=100)
    before = await books.reader.head()

    reply = await books.send(command)

    assert (reply.outcome, reply.code) == ("retry", "hold_unknown")
    assert await books.reader.head() == before


async def test_settle_above_the_hold_takes_available_and_then_makes_a_shortfall_that_grants_repay(books: Books) -> None:
    await books.account(granted=50)
    await books.reserve("h1", 40)

    settled = await books.settle("h1", 75)
    await books.grant("acme", 10)
    partly = await books.balance()
    await books.grant("acme", 100)

    assert told(settled.balance) == (0, 0, 75, 25)
    assert partly == (0, 0, 75, 15)
    assert await books.balance() == (85, 0, 75, 0)


async def test_settle_without_a_verified_picture_is_refused(books: Books) -> None:
    await books.account(granted=50)
    await books.reserve("h1", 40)

    refused = await books.send(SettleHold("s1", "h1", 40, ()))

    assert (refused.outcome, refused.code) == ("refused", "evidence_missing")
    assert await books.balance() == (10, 40, 0, 0)


async def test_late_success_after_void_is_our_loss_and_never_the_customers(books: Books) -> None:
    await books.account(granted=50)
    await books.reserve("h1", 40)
    open_still = await books.send(msgspec.structs.replace(late("h1", 40), operation_id="too-early"))
    await books.void("h1")

    booked = await books.send(late("h1", 40))
    twice = await books.send(msgspec.structs.replace(late("h1", 40), operation_id="late/again"))

    assert open_still.code == "invalid"
    assert booked.outcome == "ok" and told(booked.balance) == (50, 0, 0, 0)
    assert twice.code == "already_settled"
    event = (await books.reader.events_of("acme"))[-2].event
    assert event.postings == (("system/loss", "microcredit", -40), ("system/revenue", "microcredit", 40))


async def test_expired_hold_returns_and_a_late_settle_is_refused(books: Books) -> None:
    await books.account(granted=50)
    await books.reserve("h1", 40, lease_s=60)
    not_due = await books.send(expire_hold("h1"))
    books.clock.at += timedelta(seconds=60)

    n_expired = await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once()
    settled = await books.settle("h1", 40)

    assert (not_due.outcome, not_due.code) == ("retry", "not_due")
    assert n_expired == 1
    assert settled.code == "already_expired"
    assert await books.balance() == (50, 0, 0, 0)
    assert await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once() == 0


async def test_disputed_hold_has_no_lease_and_is_settled_or_voided_later(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40, lease_s=60)
    await books.reserve("h2", 30, lease_s=60)

    disputed = await books.send(dispute("h1"))
    await books.send(dispute("h2"))
    books.clock.at += timedelta(days=2)
    n_expired = await Expiry(books.ledger, books.reader, clock=books.clock, interval_s=1).once()
    await books.settle("h1", 40)
    await books.void("h2")

    assert disputed.hold is not None and disputed.hold.state == "disputed" and disputed.hold.expires_at is None
    assert n_expired == 0
    assert await books.balance() == (60, 0, 40, 0)


async def test_refund_failure_is_visible_until_the_hold_is_voided(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40)

    await books.send(failing("h1", 3))
    seen = await books.reader.hold("h1")
    await books.void("h1")

    assert seen is not None and seen.is_refund_failing and seen.state == "held"
    after = await books.reader.hold("h1")
    assert after is not None and not after.is_refund_failing and after.state == "voided"
    assert (await books.send(failing("h1", 4))).code == "already_voided"


async def test_refund_of_a_settlement_never_exceeds_it_and_lowers_what_was_spent(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40)
    await books.settle("h1", 40)

    part = await books.send(refund("h1", 15, operation_id="r1"))
    too_much = await books.send(refund("h1", 26, operation_id="r2"))
    rest = await books.send(refund("h1", 25, operation_id="r3"))
    replayed = await books.send(refund("h1", 25, operation_id="r3"))
    more = await books.send(refund("h1", 1, operation_id="r4"))

    assert told(part.balance) == (75, 0, 25, 0)
    assert too_much.code == "invalid"
    assert told(rest.balance) == (100, 0, 0, 0) and replayed.is_replay
    assert more.code == "invalid"


async def test_refund_repays_a_shortfall_first(books: Books) -> None:
    await books.account(granted=10)
    await books.reserve("h1", 10)
    await books.settle("h1", 40)

    await books.send(refund("h1", 35))

    assert await books.balance() == (5, 0, 5, 0)


async def test_only_a_settled_hold_is_refunded(books: Books) -> None:
    await books.account(granted=10)
    await books.reserve("h1", 10)
    while_held = await books.send(refund("h1", 5, operation_id="r1"))
    await books.void("h1")

    voided = await books.send(refund("h1", 5, operation_id="r2"))

    assert (while_held.code, voided.code) == ("not_settled", "not_settled")


async def test_price_is_frozen_into_the_hold_and_a_changed_one_is_refused(books: Books) -> None:
    await books.account(granted=100)
    shown = reserve("h1", 40)
    first = await books.ok(shown)
    await books.ok(PublishPrices("p2", (*rules(40)[:-1], replace_price(rules(40)[-1], 55)), "ann"))

    changed = await books.send(msgspec.structs.replace(reserve("h2", 40), expected_microcredits=40, price_version=1))
    settled = await books.settle("h1", 40)

    assert first.estimate is not None and first.estimate.price_version == 1
    assert changed.code == "price_changed"
    assert told(settled.balance) == (60, 0, 40, 0)


def replace_price(rule: object, price: int) -> object:
    return msgspec.structs.replace(rule, per_image_microcredits=price)


async def test_closed_account_takes_nothing_new_and_resolves_what_is_open(books: Books) -> None:
    await books.account(granted=100)
    await books.reserve("h1", 40)
    await books.ok(CloseAccount("close", "acme", "gone", "ann"))

    refused = await books.reserve("h2", 10)
    granted = await books.send(GrantCredits("g2", "acme", "g2", "paid", 5, 0, None, "x", "ann"))
    await books.settle("h1", 40)

    assert (refused.code, granted.code) == ("account_closed", "account_closed")
    assert await books.balance() == (60, 0, 40, 0)


@pytest.mark.parametrize("account_id", ["nobody", "system", "compute"])
async def test_unknown_and_reserved_accounts_are_refused(books: Books, account_id: str) -> None:
    await books.account(granted=100)

    reply = await books.reserve("h1", 10, account_id)
    opened = await books.send(OpenAccount("o2", account_id, "x", "ann"))
    granted = await books.send(GrantCredits("g2", account_id, "g2", "paid", 5, 0, None, "x", "ann"))

    assert reply.code == "account_unknown"
    assert opened.code == ("" if account_id == "nobody" else "account_exists")
    assert granted.code == ("" if account_id == "nobody" else "account_unknown")


async def test_duplicates_inside_one_batch_are_executed_once(books: Books) -> None:
    await books.account(granted=100)

    replies = await asyncio.gather(*[books.reserve("h1", 40) for _ in range(20)])

    assert [reply.is_replay for reply in replies] == [False] + [True] * 19
    assert await books.balance() == (60, 40, 0, 0)


async def test_full_queue_answers_retry_at_once(books: Books) -> None:
    await books.account(granted=100)
    books.ledger._queue_max = 5

    replies = await asyncio.gather(*[books.reserve(f"h{n}", 10) for n in range(8)])

    assert [reply.code for reply in replies] == [""] * 5 + ["overloaded"] * 3
    assert {reply.outcome for reply in replies[5:]} == {"retry"}


async def test_references_and_missing_pictures_are_priced_by_the_frozen_estimate(books: Books) -> None:
    await books.account(granted=100)
    edit = PricedItem("simulated", "m", "edit", "1024x1024", "low", 3, 4)

    reply = await books.ok(ReserveCredits("r1", "acme", "h1", edit, 60, "job/1"))

    assert reply.estimate is not None
    assert reply.estimate.total_microcredits == 3 * 7 + 4 * 2
    assert [reply.estimate.amount_for(n) for n in range(4)] == [0, 15, 22, 29]


async def test_free_hold_is_settled_for_nothing_and_leaves_no_postings(books: Books) -> None:
    await books.account(granted=10)

    await books.reserve("h1", 0)
    settled = await books.settle("h1", 0)

    assert settled.outcome == "ok" and told(settled.balance) == (10, 0, 0, 0)
