"""Replay: fold every event from nothing and say, by name and number, what does not hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from svc_billing.domain import events
from svc_billing.domain.apply import BrokenEvent, apply
from svc_billing.domain.events import MICROCREDIT, RESOLUTIONS, Event, StoredEvent, chain_hash, decode_event
from svc_billing.domain.state import NOTHING, RESERVED_ACCOUNTS, Account, Balances, HoldState, State

_ISSUED = (events.ISSUED_PAID, events.ISSUED_PROMOTIONAL)
_LAPSED = (events.EXPIRED_CREDITS, events.WITHDRAWN_CREDITS)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold. kind is a stable snake_case name; where names the event, account, hold, …"""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of the event table as it stands."""

    seq: int
    operation_id: str
    kind: str
    account_id: str
    account_seq: int
    hold_id: str | None
    body: bytes
    hash: bytes


@dataclass(slots=True)
class Replay:
    """The ledger as its events say it. Its memory grows with accounts, grants, open and refunded holds only."""

    state: State = field(default_factory=State)
    n_events: int = 0
    sums: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    refunded: Counter[str] = field(default_factory=Counter)

    def feed(self, row: EventRow) -> Iterator[Violation]:
        """Take the next row; yields what is wrong with it."""
        where = f"event {row.seq}"
        self.n_events += 1
        if row.seq != self.state.seq + 1:
            yield Violation("seq_gap", where, f"expected event {self.state.seq + 1}")
            self.state.seq = row.seq - 1
        computed = chain_hash(self.state.hash, row.body)
        if computed != row.hash:
            yield Violation("chain_broken", where, f"expected hash {computed.hex()}, stored {row.hash.hex()}")
        self.state.hash = row.hash
        try:
            event = decode_event(row.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Violation("event_unreadable", where, str(error))
            self.state.seq = row.seq
            return
        yield from _columns(row, event)
        yield from self._apply(row, event)

    def end(self) -> Iterator[Violation]:
        """Yield what is wrong with the sums over all events."""
        units: Counter[str] = Counter()
        for (_, unit), amount in self.sums.items():
            units[unit] += amount
        for unit, amount in sorted(units.items()):
            if amount:
                yield Violation("sum_not_zero", f"unit {unit}", f"all accounts together have {amount}")
        for account_id, account in self.state.accounts.items():
            legs = _legs_of(account.balances)
            for name, amount in legs.items():
                found = self.sums[(f"{account_id}/{name}", MICROCREDIT)]
                if account_id not in RESERVED_ACCOUNTS and found != amount:
                    yield Violation(
                        "postings_differ", f"account {account_id}", f"{name} is {amount}, its postings sum to {found}"
                    )

    def _apply(self, row: EventRow, event: Event) -> Iterator[Violation]:
        where = f"event {row.seq}"
        account = self.state.accounts.get(event.account_id)
        before = account.balances if account is not None else NOTHING
        if event.account_seq != (account.seq if account is not None else 0) + 1:
            yield Violation(
                "account_seq_gap", where, f"{event.account_id} has an event {event.account_seq} out of turn"
            )
        yield from self._hold(event)
        try:
            account = apply(self.state, StoredEvent(event, row.body, b"", row.hash))
        except BrokenEvent as error:
            yield Violation("event_impossible", where, str(error))
            self.state.seq = row.seq
            return
        # An id is looked up in the table, not here: this dict would grow with the ledger.
        self.state.operations.clear()
        if event.hold_id is not None and event.hold is not None and not event.hold.is_open:
            self.state.holds.pop(event.hold_id, None)
        yield from self._postings(event, before)
        if event.account_id not in RESERVED_ACCOUNTS:
            yield from self._account(account, where)

    def _hold(self, event: Event) -> Iterator[Violation]:
        hold, hold_id = event.hold, event.hold_id
        if hold is None or hold_id is None:
            return
        where, known = f"hold {hold_id}", self.state.holds.get(hold_id)
        if event.kind == events.CREDITS_RESERVED:
            if known is not None:
                yield Violation("hold_reserved_twice", where, f"event {event.seq} reserves it again")
            self.held[hold.account_id] += hold.amount
        elif event.kind in RESOLUTIONS:
            is_in_advance = event.kind == events.HOLD_VOIDED and not hold.purpose
            if known is None and not is_in_advance:
                yield Violation("hold_resolved_twice", where, f"event {event.seq} resolves it, it is not open")
            if known is not None:
                self.held[known.account_id] -= known.amount
            if event.kind == events.HOLD_SETTLED and not event.asset_sha256s:
                yield Violation("evidence_missing", where, f"event {event.seq} settles it without a verified picture")
        elif event.kind == events.SETTLEMENT_REFUNDED:
            yield from self._refund(event, hold, where)
        elif hold.is_open and known is None:
            yield Violation("hold_unknown", where, f"event {event.seq} changes a hold that is not open")
        if known is not None and (known.amount, known.purpose) != (hold.amount, hold.purpose):
            yield Violation("hold_changed", where, f"event {event.seq} changes its amount or purpose")

    def _refund(self, event: Event, hold: HoldState, where: str) -> Iterator[Violation]:
        hold_id = event.hold_id or ""
        before, amount = (
            self.refunded[hold_id],
            -sum(n for name, _, n in event.postings if name == events.REVENUE),
        )
        self.refunded[hold_id] = before + amount
        if hold.refunded != before + amount or hold.refunded > hold.settled:
            yield Violation(
                "refund_exceeds", where, f"event {event.seq}: refunded {before + amount}, told {hold.refunded}"
            )

    def _postings(self, event: Event, before: Balances) -> Iterator[Violation]:
        where = f"event {event.seq}"
        units: Counter[str] = Counter()
        by_name: Counter[str] = Counter()
        for name, unit, amount in event.postings:
            units[unit] += amount
            self.sums[(name, unit)] += amount
            by_name[name] += amount
        for unit, amount in units.items():
            if amount:
                yield Violation("postings_unbalanced", where, f"its postings in {unit} sum to {amount}")
        after = event.after
        if after is None:
            return
        revenue = by_name[events.REVENUE] if event.kind != events.LATE_SUCCESS_RECORDED else 0
        expected = Balances(
            before.available + by_name[f"{event.account_id}/available"],
            before.held + by_name[f"{event.account_id}/held"],
            before.spent + revenue,
            before.shortfall - by_name[f"{event.account_id}/shortfall"],
            before.granted - sum(by_name[name] for name in _ISSUED),
            before.lapsed + sum(by_name[name] for name in _LAPSED),
        )
        if after != expected:
            yield Violation("balances_differ", where, f"{event.account_id}: postings give {expected}, told {after}")

    def _account(self, account: Account, where: str) -> Iterator[Violation]:
        it, name = account.balances, account.account_id
        where = f"{where}, account {name}"
        if min(it.available, it.held, it.spent, it.shortfall, it.granted, it.lapsed) < 0:
            yield Violation("balance_negative", where, str(it))
        if it.granted + it.shortfall != it.available + it.held + it.spent + it.lapsed:
            yield Violation("credits_lost", where, f"granted + shortfall is not the sum of the rest: {it}")
        if it.held != self.held[name]:
            yield Violation("held_differs", where, f"held is {it.held}, its open holds are {self.held[name]}")
        remaining = sum(grant.remaining for grant in account.grants)
        held = sum(grant.held for grant in account.grants)
        if (remaining, held) != (it.available, it.held):
            yield Violation("grants_differ", where, f"grants have {remaining} and {held} held, balances {it}")
        if any(grant.remaining < 0 or grant.held < 0 for grant in account.grants):
            yield Violation("grant_negative", where, str(account.grants)[:300])


def _columns(row: EventRow, event: Event) -> Iterator[Violation]:
    hold_id = event.hold_id if event.hold is not None else None
    told = (event.seq, event.operation_id, event.kind, event.account_id, event.account_seq, hold_id)
    stored = (row.seq, row.operation_id, row.kind, row.account_id, row.account_seq, row.hold_id)
    if told != stored:
        yield Violation("columns_differ", f"event {row.seq}", f"the body says {told}, the columns {stored}")


def _legs_of(balances: Balances) -> dict[str, int]:
    return {"available": balances.available, "held": balances.held, "shortfall": -balances.shortfall}
