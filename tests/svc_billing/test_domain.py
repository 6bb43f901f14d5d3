"""The pure parts: prices, grants, fingerprints, events and their bytes."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.svc_billing.kit_core import ITEM, NOW, RULES, SHA, refund, reserve, rules, settle, void

from qraft_contracts.billing import PricedItem, ReserveCredits, SettleHold, VoidHold
from qraft_contracts.outcomes import Refused
from svc_billing.domain.apply import BrokenEvent, apply
from svc_billing.domain.commands import Command, GrantCredits, OpenAccount, PublishPrices, fingerprint
from svc_billing.domain.decide import Checked
from svc_billing.domain.events import Event, chain_hash, decode_event, ledger_entry, seal
from svc_billing.domain.fold import Folded, fold
from svc_billing.domain.prices import PriceList, check_rules, check_shown
from svc_billing.domain.spend import give_back, take, take_at_most
from svc_billing.domain.state import Account, Balances, Grant, Part, State

STORY: list[Command] = [
    OpenAccount("o1", "acme", "x", "ann"),
    PublishPrices("p1", rules(40), "ann"),
    GrantCredits("g1", "acme", "trial", "promotional", 30, 0, NOW + timedelta(hours=1), "x", "ann"),
    GrantCredits("g2", "acme", "bought", "paid", 100, 1, None, "x", "ann"),
    reserve("h1", 40),
    reserve("h2", 40),
    settle("h1", 35),
    void("h2"),
    void("h3"),
    refund("h1", 5),
    reserve("h3", 40),
]


def run(state: State, *commands: Command, seconds: float = 0) -> Folded:
    checked = [Checked(command, fingerprint(command), None) for command in commands]
    return fold(state, checked, now=NOW + timedelta(seconds=seconds))


def grants(*amounts: int) -> tuple[Grant, ...]:
    return tuple(Grant(f"g{n}", "paid", n, None, amount) for n, amount in enumerate(amounts))


def test_estimate_is_pictures_times_price_plus_references() -> None:
    prices = PriceList.of(3, RULES)

    estimate = prices.estimate(PricedItem("simulated", "m", "edit", "1024x1024", "low", 4, 3))

    assert (estimate.price_version, estimate.total_microcredits) == (3, 4 * 7 + 3 * 2)


@pytest.mark.parametrize(
    ("expected", "version", "is_refused"),
    [(None, None, False), (1, None, False), (2, None, True), (None, 3, False), (None, 2, True), (1, 2, False)],
)
def test_price_is_compared_with_what_was_shown(expected: int | None, version: int | None, is_refused: bool) -> None:
    command = ReserveCredits("o", "acme", "h1", ITEM, 60, "job/1", expected, version)
    estimate = PriceList.of(3, RULES).estimate(ITEM)

    if is_refused:
        with pytest.raises(Refused, match="price_changed"):
            check_shown(estimate, command)
    else:
        check_shown(estimate, command)


def test_price_list_with_a_rule_twice_names_it() -> None:
    with pytest.raises(Refused, match="simulated/m/generation"):
        check_rules((RULES[0], RULES[0]))


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 200))
def test_taken_parts_are_the_amount_or_nothing(amounts: list[int], amount: int) -> None:
    parts = take(grants(*amounts), amount, NOW)

    assert (parts is None) == (sum(amounts) < amount)
    if parts is not None:
        assert sum(part.amount for part in parts) == amount
        assert all(0 < part.amount <= amounts[int(part.grant_id[1:])] for part in parts)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_what_is_given_back_is_the_rest_behind_what_was_used(amounts: list[int], data: st.DataObject) -> None:
    held = grants(*amounts)
    parts = take_at_most(held, sum(amounts), NOW)
    used = data.draw(st.integers(0, sum(amounts)))

    returned = give_back(Account("acme", True, 1, Balances(), held), parts, used, NOW)

    assert sum(part.amount for part in returned.available) == sum(amounts) - used
    assert returned.n_expired == returned.n_withdrawn == 0
    # Spent from the front, so returned to the back.
    assert not returned.available or returned.available[-1].grant_id == parts[-1].grant_id


def test_parts_of_ended_grants_lapse_by_their_reason() -> None:
    held = (
        Grant("old", "paid", 0, NOW, 0, 5),
        Grant("withdrawn", "paid", 0, None, 0, 6, "voided"),
        Grant("good", "paid", 0, None, 0, 7),
    )
    parts = (Part("old", 5), Part("withdrawn", 6), Part("good", 7))

    returned = give_back(Account("acme", True, 1, Balances(), held), parts, 2, NOW)

    assert (returned.n_expired, returned.n_withdrawn, returned.available) == (3, 6, (Part("good", 7),))


def test_fingerprint_tells_commands_of_any_kind_and_content_apart() -> None:
    twins = [
        VoidHold("o", "h", "acme", "x"),
        VoidHold("o", "h", "acme", "y"),
        VoidHold("o", "h2", "acme", "x"),
        SettleHold("o", "h", 1, (SHA,)),
        SettleHold("o", "h", 1, (SHA, SHA)),
        SettleHold("o", "h", 1, (SHA,), 0),
        SettleHold("o", "h", 1, (SHA,), None, True),
    ]

    assert len({fingerprint(command) for command in twins}) == len(twins)
    assert fingerprint(twins[0]) == fingerprint(VoidHold("o", "h", "acme", "x"))


def test_content_without_bytes_is_refused() -> None:
    with pytest.raises(Refused, match="invalid"):
        fingerprint(VoidHold("o", "h", "acme", "\ud800"))


def test_deciding_changes_nothing_until_the_event_is_applied() -> None:
    state = State()
    run(state, *STORY[:4])
    before = deepcopy(state)

    run(deepcopy(state), *STORY[4:])

    assert state == before


def test_replayed_events_give_the_state_that_the_commands_gave() -> None:
    state = State()
    folded = run(state, *STORY)

    replayed = State()
    for stored in folded.events:
        event = decode_event(stored.body)
        assert event == stored.event
        apply(replayed, seal(event, replayed.hash))

    assert replayed == state


@given(st.lists(st.integers(1, 4), min_size=1, max_size=11))
def test_events_do_not_depend_on_how_commands_were_batched(sizes: list[int]) -> None:
    whole = run(State(), *STORY)
    state, bodies, start = State(), [], 0
    for size in [*sizes, len(STORY)]:
        bodies += [stored.body for stored in run(state, *STORY[start : start + size]).events]
        start += size

    assert bodies == [stored.body for stored in whole.events]


def test_every_command_but_a_retry_makes_one_event_and_sequences_have_no_gaps() -> None:
    folded = run(State(), *STORY, settle("unknown", 5), *STORY)

    assert [stored.event.seq for stored in folded.events] == list(range(1, len(STORY) + 1))
    acme = [it.event.account_seq for it in folded.events if it.event.account_id == "acme"]
    assert acme == list(range(1, len(acme) + 1))
    assert [reply.is_replay for reply in folded.replies] == [False] * (len(STORY) + 1) + [True] * len(STORY)


def test_canonical_bytes_of_an_event_are_what_they_were() -> None:
    """A change here breaks every chain that was ever written: only add fields that are left out by default."""
    stored = run(State(), *STORY).events[4]

    assert stored.body.decode() == (
        '{"seq":5,"kind":"credits_reserved","at":"2026-11-01T12:00:00Z","operation_id":"reserve/h1",'
        f'"fingerprint":"{fingerprint(STORY[4])}","account_id":"acme","account_seq":4,"hold_id":"h1",'
        '"postings":[["acme/available","microcredit",-40],["acme/held","microcredit",40]],'
        '"after":[90,40,0,0,130,0],"moves":[["trial",-30,30],["bought",-10,10]],'
        '"hold":["held","job/h1",40,0,0,"2026-11-01T12:00:00Z","2026-11-01T12:10:00Z",false,false,'
        '[["trial",30],["bought",10]],5,5,null,"acme"],"price":[1,40,0,40,1],'
        '"facts":{"model":"simulated/m40","operation":"generation","quality":"low","size":"1024x1024"}}'
    )
    assert fingerprint(STORY[4]) == "76ec10b8bc7af9a415c36ad961d26723"


def test_hash_covers_the_bytes_and_the_hash_before() -> None:
    events = run(State(), *STORY).events

    assert events[1].prev_hash == events[0].hash == chain_hash(bytes(32), events[0].body)
    assert chain_hash(events[0].hash, events[1].body + b" ") != events[1].hash
    assert chain_hash(bytes(32), events[1].body) != events[1].hash


def test_entry_for_the_bus_is_balanced_and_carries_the_chain() -> None:
    stored = run(State(), *STORY).events[6]

    entry = ledger_entry(stored)

    assert (
        entry.kind == "hold_settled" and entry.hash == stored.hash.hex() and entry.prev_hash == stored.prev_hash.hex()
    )
    assert sum(posting.amount for posting in entry.postings) == 0
    assert entry.details["hold_state"] == "settled"


def test_event_out_of_turn_or_on_a_grant_that_is_not_there_is_broken() -> None:
    state = State()
    events = run(State(), *STORY).events

    with pytest.raises(BrokenEvent, match="expected event 1"):
        apply(state, events[3])
    state.seq = 4
    with pytest.raises(BrokenEvent, match="trial"):
        apply(state, events[4])


def test_event_holds_no_floats() -> None:
    def numbers(value: object) -> list[object]:
        if isinstance(value, dict):
            return [it for inner in value.values() for it in numbers(inner)]
        if isinstance(value, list):
            return [it for inner in value for it in numbers(inner)]
        return [value] if isinstance(value, float) else []

    assert not [
        numbers(msgspec.json.decode(it.body))
        for it in run(State(), *STORY).events
        if numbers(msgspec.json.decode(it.body))
    ]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"postings":[["a","microcredit",1.5]]}', type=Event)
