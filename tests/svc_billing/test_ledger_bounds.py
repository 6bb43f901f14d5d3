"""Commands out of bounds: refused by name, on the twin and on a real PostgreSQL, and the ledger goes on."""

from __future__ import annotations

import msgspec
import pytest
from tests.svc_billing.kit_core import ITEM, SHA, Books, refund, rules, void

from qraft_contracts.billing import ReserveCredits, SettleHold, VoidHold
from svc_billing.domain.commands import GrantCredits, PublishPrices


def replace_price(rule: object, price: int) -> object:
    return msgspec.structs.replace(rule, per_image_microcredits=price)


BAD = [
    ReserveCredits("o", "acme", "h\n1", ITEM, 60, "job/1"),
    ReserveCredits("o", "Acme!", "h1", ITEM, 60, "job/1"),
    ReserveCredits("o", "acme", "h1", ITEM, 0, "job/1"),
    ReserveCredits("o", "acme", "h1", msgspec.structs.replace(ITEM, n=0), 60, "job/1"),
    ReserveCredits("o", "acme", "h1", msgspec.structs.replace(ITEM, n=10**9), 60, "job/1"),
    ReserveCredits("o", "acme", "h1", msgspec.structs.replace(ITEM, n_references=-1), 60, "job/1"),
    ReserveCredits("o", "acme", "", ITEM, 60, "job/1"),
    ReserveCredits("o", "acme", "h1", ITEM, 60, "j" * 201),
    SettleHold("o", "h0", -1, (SHA,)),
    SettleHold("o", "h0", 10**15 + 1, (SHA,)),
    SettleHold("o", "h0", 1, ("x",)),
    SettleHold("o", "h0", 1, (SHA,) * 101),
    SettleHold("o", "h0", 1, (SHA,), -1),
    VoidHold("o", "h\x00", "acme", "x"),
    VoidHold("o", "h0", "acme", "x" * 501),
    GrantCredits("o", "acme", "g9", "gift", 1, 0, None, "x", "ann"),
    GrantCredits("o", "acme", "g9", "paid", 0, 0, None, "x", "ann"),
    GrantCredits("o", "acme", "g9", "paid", 1, -1, None, "x", "ann"),
    GrantCredits("o", "acme", "refund/1", "paid", 1, 0, None, "x", "ann"),
    refund("h0", 0),
    refund("h0", -5),
    PublishPrices("o", (), "ann"),
    PublishPrices("o", rules(1) + rules(1), "ann"),
    PublishPrices("o", (replace_price(rules(1)[0], -1),), "ann"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("command", BAD, ids=lambda it: type(it).__name__)
async def test_command_out_of_bounds_is_refused_as_invalid_and_burns_its_id(books: Books, command: object) -> None:
    await books.account(granted=100)
    await books.reserve("h0", 10)
    before = await books.balance()

    refused = await books.send(command)
    replayed = await books.send(command)

    assert (refused.outcome, refused.code) == ("refused", "invalid"), refused
    assert replayed.is_replay and replayed.code == "invalid"
    assert await books.balance() == before


@pytest.mark.parametrize("operation_id", ["", "x" * 201, "a\nb", "ünïcode", "a\x00"])
async def test_operation_id_out_of_bounds_is_refused_and_stored_nowhere(books: Books, operation_id: str) -> None:
    await books.account(granted=100)
    before = await books.reader.head()

    reply = await books.send(msgspec.structs.replace(void("h1"), operation_id=operation_id))

    assert (reply.outcome, reply.code) == ("refused", "invalid")
    assert await books.reader.head() == before


async def test_unencodable_text_is_refused_and_the_ledger_goes_on(books: Books) -> None:
    await books.account(granted=100)

    reply = await books.send(VoidHold("v1", "h1", "acme", "\udcff"))

    assert (reply.outcome, reply.code) == ("refused", "invalid")
    assert (await books.reserve("h2", 10)).outcome == "ok"
