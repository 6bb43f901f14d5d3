"""Rules of holds: reserve, then exactly one of settle, void or expire; in between perhaps disputed."""

from __future__ import annotations

from datetime import timedelta

from qraft_contracts.billing import (
    ACCOUNT_CLOSED,
    ALREADY_SETTLED,
    ALREADY_VOIDED,
    CREDITS_INSUFFICIENT,
    EVIDENCE_MISSING,
    HOLD_CONFLICT,
    INVALID,
    DisputeHold,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_contracts.outcomes import Refused, Transient
from svc_billing.domain import events
from svc_billing.domain.commands import NOT_DUE, ExpireHold
from svc_billing.domain.draft import Draft, already_resolved
from svc_billing.domain.events import MICROCREDIT, Event, Leg
from svc_billing.domain.prices import FrozenPrice, check_shown
from svc_billing.domain.spend import give_back, take, take_at_most
from svc_billing.domain.state import (
    DISPUTED,
    EXPIRED,
    HELD,
    RESERVED_ACCOUNTS,
    SETTLED,
    SYSTEM,
    VOIDED,
    Balances,
    GrantMove,
    HoldState,
    Part,
    usable,
)


def reserve(draft: Draft, command: ReserveCredits) -> Event:
    """Hold the upper bound of a call's price, taken from the grants that are spent first."""
    account = draft.account(command.account_id)
    known = draft.state.holds.get(command.hold_id)
    if known is not None:
        if not known.purpose:
            raise Refused(ALREADY_VOIDED, f"hold {command.hold_id} was voided before its reserve arrived")
        raise Refused(HOLD_CONFLICT, f"expected a new hold id, {command.hold_id} belongs to another operation")
    if not account.is_open:
        raise Refused(ACCOUNT_CLOSED, f"account {command.account_id} is closed: nothing new is held")
    estimate = draft.state.prices.estimate(command.item)
    check_shown(estimate, command)
    amount = estimate.total_microcredits
    parts = take(account.grants, amount, draft.now)
    if parts is None:
        raise Refused(
            CREDITS_INSUFFICIENT,
            f"expected {amount} micro-credits available, there are {usable(account.grants, draft.now)}: add credits",
        )
    before, account_id = account.balances, account.account_id
    return Event(
        seq=draft.seq,
        kind=events.CREDITS_RESERVED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account_id,
        account_seq=account.seq + 1,
        hold_id=command.hold_id,
        postings=(
            ((account_id + "/available", MICROCREDIT, -amount), (account_id + "/held", MICROCREDIT, amount))
            if amount
            else ()
        ),
        after=Balances(
            before.available - amount, before.held + amount, before.spent, before.shortfall, before.granted,
            before.lapsed,
        ),
        moves=tuple([GrantMove(part.grant_id, -part.amount, part.amount) for part in parts]),
        hold=HoldState(
            HELD, command.purpose, amount, 0, 0, draft.now, draft.now + timedelta(seconds=command.lease_s),
            False, False, parts, draft.seq, draft.seq, None, account_id,
        ),
        price=FrozenPrice.of(estimate),
        facts=_item_facts(command),
    )  # fmt: skip


def settle(draft: Draft, command: SettleHold) -> Event:
    """Charge a hold once: out of the hold, then of what is available, and what is missing to the shortfall."""
    hold = draft.open_hold(command.hold_id)
    if not command.asset_sha256s:
        raise Refused(EVIDENCE_MISSING, f"expected the SHA-256 of at least one verified picture for {command.hold_id}")
    account = draft.state.accounts[hold.account_id]
    amount, before, account_id = command.amount_microcredits, account.balances, hold.account_id
    if amount == hold.amount:
        # The whole hold is used: nothing returns, nothing more is taken.
        extra: tuple[Part, ...] = ()
        from_available = shortfall = returned_amount = lapsed = 0
        moves = tuple([GrantMove(part.grant_id, 0, -part.amount) for part in hold.parts])
        legs: list[Leg] = []
    else:
        from_hold = min(amount, hold.amount)
        returned = give_back(account, hold.parts, from_hold, draft.now)
        extra = take_at_most(account.grants, amount - from_hold, draft.now)
        from_available = sum(part.amount for part in extra)
        shortfall = amount - from_hold - from_available
        returned_amount = sum(part.amount for part in returned.available)
        lapsed = returned.n_expired + returned.n_withdrawn
        moves = _moves(held=hold.parts, back=returned.available, taken=extra)
        legs = [(name, MICROCREDIT, n) for name, n in returned.lapsed_legs]
        if returned_amount != from_available:
            legs.append((account_id + "/available", MICROCREDIT, returned_amount - from_available))
        if shortfall:
            legs.append((account_id + "/shortfall", MICROCREDIT, -shortfall))
    if hold.amount:
        legs.append((account_id + "/held", MICROCREDIT, -hold.amount))
    if amount:
        legs.append((events.REVENUE, MICROCREDIT, amount))
    facts = {"is_simulated": "true"} if command.is_simulated else {}
    if command.provider_cost_microusd is not None:
        facts["provider_cost_microusd"] = str(command.provider_cost_microusd)
    return Event(
        seq=draft.seq,
        kind=events.HOLD_SETTLED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account_id,
        account_seq=account.seq + 1,
        hold_id=command.hold_id,
        postings=tuple(legs),
        after=Balances(
            before.available + returned_amount - from_available, before.held - hold.amount, before.spent + amount,
            before.shortfall + shortfall, before.granted, before.lapsed + lapsed,
        ),
        moves=moves,
        hold=HoldState(
            SETTLED, hold.purpose, hold.amount, amount, 0, hold.made_at, None, False, False, (), hold.made_seq,
            draft.seq, draft.seq, account_id,
        ),
        facts=facts,
        asset_sha256s=command.asset_sha256s,
    )  # fmt: skip


def void(draft: Draft, command: VoidHold) -> Event:
    """Give a hold back; one that has not arrived is made void in advance, so that its reserve is refused."""
    if command.hold_id not in draft.state.holds:
        return _void_in_advance(draft, command)
    hold = draft.open_hold(command.hold_id)
    return _release(draft, command.hold_id, hold, kind=events.HOLD_VOIDED, reason=command.reason)


def expire(draft: Draft, command: ExpireHold) -> Event:
    """Give a hold back whose lease has ended. A disputed hold has no lease."""
    hold = draft.open_hold(command.hold_id)
    if hold.expires_at is None or hold.expires_at > draft.now:
        raise Transient(NOT_DUE, f"hold {command.hold_id} is not due: its lease ends at {hold.expires_at}")
    return _release(draft, command.hold_id, hold, kind=events.HOLD_EXPIRED, reason="the lease has ended")


def dispute(draft: Draft, command: DisputeHold) -> Event:
    """Keep a hold without a lease while its outcome is uncertain."""
    hold = draft.open_hold(command.hold_id)
    return _mark(draft, command.hold_id, hold, kind=events.HOLD_DISPUTED, state=DISPUTED, facts=_reason(command.reason))


def refund_failed(draft: Draft, command: RecordRefundFailure) -> Event:
    """Mark a hold whose return did not work; the mark ends when the hold is resolved."""
    hold = draft.open_hold(command.hold_id)
    facts = {"reason": command.reason, "n_attempts": str(command.n_attempts)}
    return _mark(draft, command.hold_id, hold, kind=events.REFUND_FAILED, state=hold.state, facts=facts)


def late_success(draft: Draft, command: RecordLateSuccess) -> Event:
    """Book a picture that came after its hold was given back as our loss; the customer's balances stay as they are."""
    hold = draft.hold(command.hold_id)
    if hold.state == SETTLED:
        raise already_resolved(command.hold_id, hold)
    if hold.is_open:
        raise Refused(INVALID, f"hold {command.hold_id} is {hold.state}: settle it, nothing is late yet")
    if hold.is_late:
        raise Refused(ALREADY_SETTLED, f"the late success of {command.hold_id} was booked by event {hold.last_seq}")
    if not command.asset_sha256s:
        raise Refused(EVIDENCE_MISSING, f"expected the SHA-256 of at least one verified picture for {command.hold_id}")
    account = draft.state.account(hold.account_id)
    amount = command.amount_microcredits
    cost = command.provider_cost_microusd
    return Event(
        seq=draft.seq,
        kind=events.LATE_SUCCESS_RECORDED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=hold.account_id,
        account_seq=account.seq + 1,
        hold_id=command.hold_id,
        postings=((events.LOSS, MICROCREDIT, -amount), (events.REVENUE, MICROCREDIT, amount)) if amount else (),
        after=account.balances if hold.account_id != SYSTEM else None,
        hold=HoldState(
            hold.state, hold.purpose, hold.amount, 0, 0, hold.made_at, None, False, True, (), hold.made_seq, draft.seq,
            hold.resolved_seq, hold.account_id,
        ),
        facts={"provider_cost_microusd": str(cost)} if cost is not None else {},
        asset_sha256s=command.asset_sha256s,
    )  # fmt: skip


def _void_in_advance(draft: Draft, command: VoidHold) -> Event:
    is_customer = command.account_id in draft.state.accounts and command.account_id not in RESERVED_ACCOUNTS
    account_id = command.account_id if is_customer else SYSTEM
    account = draft.state.account(account_id)
    return Event(
        seq=draft.seq,
        kind=events.HOLD_VOIDED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account_id,
        account_seq=account.seq + 1,
        hold_id=command.hold_id,
        after=account.balances if account_id != SYSTEM else None,
        hold=HoldState(
            VOIDED, "", 0, 0, 0, draft.now, None, False, False, (), draft.seq, draft.seq, draft.seq, account_id
        ),
        facts=_reason(command.reason),
    )


def _release(draft: Draft, hold_id: str, hold: HoldState, *, kind: str, reason: str) -> Event:
    account = draft.state.accounts[hold.account_id]
    returned = give_back(account, hold.parts, 0, draft.now)
    back = sum(part.amount for part in returned.available)
    before, account_id = account.balances, hold.account_id
    legs: list[Leg] = [(name, MICROCREDIT, amount) for name, amount in returned.lapsed_legs]
    if hold.amount:
        legs.append((account_id + "/held", MICROCREDIT, -hold.amount))
    if back:
        legs.append((account_id + "/available", MICROCREDIT, back))
    return Event(
        seq=draft.seq,
        kind=kind,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account_id,
        account_seq=account.seq + 1,
        hold_id=hold_id,
        postings=tuple(legs),
        after=Balances(
            before.available + back, before.held - hold.amount, before.spent, before.shortfall, before.granted,
            before.lapsed + hold.amount - back,
        ),
        moves=_moves(held=hold.parts, back=returned.available, taken=()),
        hold=HoldState(
            VOIDED if kind == events.HOLD_VOIDED else EXPIRED, hold.purpose, hold.amount, 0, 0, hold.made_at, None,
            False, False, (), hold.made_seq, draft.seq, draft.seq, account_id,
        ),
        facts=_reason(reason),
    )  # fmt: skip


def _mark(draft: Draft, hold_id: str, hold: HoldState, *, kind: str, state: str, facts: dict[str, str]) -> Event:
    account = draft.state.accounts[hold.account_id]
    return Event(
        seq=draft.seq,
        kind=kind,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=hold.account_id,
        account_seq=account.seq + 1,
        hold_id=hold_id,
        after=account.balances,
        hold=HoldState(
            state, hold.purpose, hold.amount, 0, 0, hold.made_at, hold.expires_at if state == HELD else None,
            hold.is_refund_failing or kind == events.REFUND_FAILED, False, hold.parts, hold.made_seq, draft.seq, None,
            hold.account_id,
        ),
        facts=facts,
    )  # fmt: skip


def _moves(*, held: tuple[Part, ...], back: tuple[Part, ...], taken: tuple[Part, ...]) -> tuple[GrantMove, ...]:
    moves = [GrantMove(part.grant_id, 0, -part.amount) for part in held]
    moves += [GrantMove(part.grant_id, part.amount, 0) for part in back]
    moves += [GrantMove(part.grant_id, -part.amount, 0) for part in taken]
    return tuple(moves)


def _item_facts(command: ReserveCredits) -> dict[str, str]:
    item = command.item
    facts = {
        "model": f"{item.provider}/{item.model}",
        "operation": item.operation,
        "size": item.size,
        "quality": item.quality,
    }
    if item.n_references:
        facts["n_references"] = str(item.n_references)
    return facts


def _reason(reason: str) -> dict[str, str]:
    return {"reason": reason}
