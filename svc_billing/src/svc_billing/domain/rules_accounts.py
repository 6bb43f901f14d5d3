"""Rules of accounts, grants, refunds, price lists and usage."""

from __future__ import annotations

from typing import Final

from qraft_contracts.billing import ACCOUNT_CLOSED, INVALID
from qraft_contracts.outcomes import Refused, Transient
from svc_billing.domain import events
from svc_billing.domain.commands import (
    ACCOUNT_EXISTS,
    GRANT_CONFLICT,
    GRANT_UNKNOWN,
    NOT_DUE,
    NOT_SETTLED,
    PAID,
    REFUND,
    BookUsage,
    CloseAccount,
    ExpireGrant,
    GrantCredits,
    OpenAccount,
    PublishPrices,
    RefundSettlement,
    VoidGrant,
)
from svc_billing.domain.draft import Draft
from svc_billing.domain.events import MICROCREDIT, Event, Leg
from svc_billing.domain.prices import check_rules
from svc_billing.domain.state import (
    COMPUTE,
    NOTHING,
    RESERVED_ACCOUNTS,
    SETTLED,
    SYSTEM,
    Account,
    Balances,
    GrantMove,
    GrantRecord,
    HoldState,
)

# A customer has a handful of grants; the row of an account, which holds the live ones, stays small.
N_LIVE_GRANTS_MAX: Final = 100
# Granted in all to one account: 9 × AMOUNT_MAX would do for a 64-bit integer a thousand times over.
GRANTED_MAX: Final = 10**18


def open_account(draft: Draft, command: OpenAccount) -> Event:
    """Open a new account."""
    account_id = command.account_id
    if account_id in draft.state.accounts or account_id in RESERVED_ACCOUNTS:
        raise Refused(ACCOUNT_EXISTS, f"expected a new account id, {account_id} exists or is reserved")
    facts = {"reason": command.reason, "actor": command.actor}
    return _event(draft, draft.state.account(account_id), kind=events.ACCOUNT_OPENED, facts=facts, after=NOTHING)


def close_account(draft: Draft, command: CloseAccount) -> Event:
    """Close an open account."""
    account = draft.account(command.account_id)
    if not account.is_open:
        raise Refused(ACCOUNT_CLOSED, f"expected an open account, {account.account_id} is closed")
    facts = {"reason": command.reason, "actor": command.actor}
    return _event(draft, account, kind=events.ACCOUNT_CLOSED, facts=facts, after=account.balances)


def grant_credits(draft: Draft, command: GrantCredits) -> Event:
    """Give credits: repay the shortfall, the rest is available."""
    account = draft.account(command.account_id)
    if not account.is_open:
        raise Refused(ACCOUNT_CLOSED, f"expected an open account, {account.account_id} is closed")
    if command.grant_id in draft.state.grants:
        raise Refused(GRANT_CONFLICT, f"expected a new grant id, {command.grant_id} exists")
    if command.expires_at is not None and command.expires_at <= draft.now:
        raise Refused(INVALID, f"expected an expiry in the future, received {command.expires_at.isoformat()}")
    _check_room(account, command.amount_microcredits)
    amount, before = command.amount_microcredits, account.balances
    repaid = min(amount, before.shortfall)
    source = events.ISSUED_PAID if command.category == PAID else events.ISSUED_PROMOTIONAL
    facts = {"reason": command.reason, "actor": command.actor, "category": command.category}
    return _event(
        draft,
        account,
        kind=events.CREDITS_GRANTED,
        facts=facts,
        postings=_credit_legs(source, account.account_id, amount, repaid),
        after=Balances(
            before.available + amount - repaid, before.held, before.spent, before.shortfall - repaid,
            before.granted + amount, before.lapsed,
        ),
        moves=(GrantMove(command.grant_id, amount - repaid, 0),),
        grant=GrantRecord(
            command.grant_id, command.account_id, command.category, command.priority, amount, command.expires_at,
            draft.seq,
        ),
    )  # fmt: skip


def void_grant(draft: Draft, command: VoidGrant) -> Event:
    """Withdraw what is left of a grant."""
    facts = {"reason": command.reason, "actor": command.actor}
    return _close_grant(draft, command.grant_id, kind=events.GRANT_VOIDED, sink=events.WITHDRAWN_CREDITS, facts=facts)


def expire_grant(draft: Draft, command: ExpireGrant) -> Event:
    """Take what is left of a grant whose time has ended."""
    record = draft.state.grants.get(command.grant_id)
    if record is not None and (record.expires_at is None or record.expires_at > draft.now):
        raise Transient(NOT_DUE, f"grant {command.grant_id} is not due: it ends at {record.expires_at}")
    return _close_grant(draft, command.grant_id, kind=events.GRANT_EXPIRED, sink=events.EXPIRED_CREDITS, facts={})


def refund(draft: Draft, command: RefundSettlement) -> Event:
    """Give back what a settled hold was charged."""
    hold = draft.hold(command.hold_id)
    if hold.state != SETTLED:
        raise Refused(NOT_SETTLED, f"expected a settled hold, {command.hold_id} is {hold.state}: nothing was charged")
    amount = command.amount_microcredits
    left = hold.settled - hold.refunded
    if not 0 < amount <= left:
        raise Refused(INVALID, f"expected 1 to {left} micro-credits of {command.hold_id}, received {amount}")
    account = draft.state.accounts[hold.account_id]
    _check_room(account, amount)
    before = account.balances
    repaid = min(amount, before.shortfall)
    grant_id = f"refund/{command.operation_id}"
    if grant_id in draft.state.grants:
        raise Refused(GRANT_CONFLICT, f"expected a new grant id, {grant_id} exists")
    return _event(
        draft,
        account,
        kind=events.SETTLEMENT_REFUNDED,
        facts={"reason": command.reason, "actor": command.actor},
        postings=_credit_legs(events.REVENUE, account.account_id, amount, repaid),
        after=Balances(
            before.available + amount - repaid, before.held, before.spent - amount, before.shortfall - repaid,
            before.granted, before.lapsed,
        ),
        moves=(GrantMove(grant_id, amount - repaid, 0),),
        grant=GrantRecord(grant_id, account.account_id, REFUND, 0, amount, None, draft.seq),
        hold_id=command.hold_id,
        hold=HoldState(
            SETTLED, hold.purpose, hold.amount, hold.settled, hold.refunded + amount, hold.made_at, None, False, False,
            (), hold.made_seq, draft.seq, hold.resolved_seq, hold.account_id,
        ),
    )  # fmt: skip


def publish_prices(draft: Draft, command: PublishPrices) -> Event:
    """Make the next version of the price list."""
    check_rules(command.rules)
    return Event(
        seq=draft.seq,
        kind=events.PRICES_PUBLISHED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=SYSTEM,
        account_seq=draft.state.account(SYSTEM).seq + 1,
        facts={"actor": command.actor},
        price_version=draft.state.prices.version + 1,
        rules=command.rules,
    )


def book_usage(draft: Draft, command: BookUsage) -> Event:
    """Book a piece of work under its column. A cost that nobody told is not booked as zero."""
    usage = command.usage
    sums = {
        "cpu_ms": usage.cpu_ms,
        "gpu_ms": usage.gpu_ms,
        "byte": usage.n_bytes,
        "microusd": usage.provider_cost_microusd or 0,
    }
    legs: list[Leg] = []
    for unit, amount in sums.items():
        if amount:
            legs += [(f"{COMPUTE}/source", unit, -amount), (f"{COMPUTE}/{usage.column}", unit, amount)]
    return Event(
        seq=draft.seq,
        kind=events.USAGE_BOOKED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=COMPUTE,
        account_seq=draft.state.account(COMPUTE).seq + 1,
        postings=tuple(legs),
        facts={"purpose": usage.purpose, "stop_condition": usage.stop_condition, "service": usage.service},
        usage=usage,
    )


def _close_grant(draft: Draft, grant_id: str, *, kind: str, sink: str, facts: dict[str, str]) -> Event:
    record = draft.state.grants.get(grant_id)
    if record is None:
        raise Refused(GRANT_UNKNOWN, f"expected a grant that was made, received {grant_id}")
    if record.closed_seq is not None:
        raise Refused(GRANT_CONFLICT, f"grant {grant_id} ended by event {record.closed_seq}")
    account = draft.state.accounts[record.account_id]
    grant = account.grant(grant_id)
    left = grant.remaining if grant is not None else 0
    before, available = account.balances, f"{account.account_id}/available"
    return _event(
        draft,
        account,
        kind=kind,
        facts=facts,
        postings=((available, MICROCREDIT, -left), (sink, MICROCREDIT, left)) if left else (),
        after=Balances(
            before.available - left, before.held, before.spent, before.shortfall, before.granted, before.lapsed + left
        ),
        moves=(GrantMove(grant_id, -left, 0),) if left else (),
        grant=GrantRecord(
            record.grant_id, record.account_id, record.category, record.priority, record.amount, record.expires_at,
            record.made_seq, draft.seq,
        ),
    )  # fmt: skip


def _credit_legs(source: str, account_id: str, amount: int, repaid: int) -> tuple[Leg, ...]:
    legs: list[Leg] = [(source, MICROCREDIT, -amount)]
    if repaid:
        legs.append((f"{account_id}/shortfall", MICROCREDIT, repaid))
    if amount > repaid:
        legs.append((f"{account_id}/available", MICROCREDIT, amount - repaid))
    return tuple(legs)


def _check_room(account: Account, amount: int) -> None:
    if len(account.grants) >= N_LIVE_GRANTS_MAX:
        raise Refused(INVALID, f"expected at most {N_LIVE_GRANTS_MAX} grants in use: let some be spent, or void them")
    if account.balances.granted + amount > GRANTED_MAX:
        raise Refused(INVALID, f"expected at most {GRANTED_MAX} micro-credits granted to one account in all")


def _event(
    draft: Draft,
    account: Account,
    *,
    kind: str,
    facts: dict[str, str],
    after: Balances,
    postings: tuple[Leg, ...] = (),
    moves: tuple[GrantMove, ...] = (),
    grant: GrantRecord | None = None,
    hold_id: str | None = None,
    hold: HoldState | None = None,
) -> Event:
    return Event(
        seq=draft.seq,
        kind=kind,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account.account_id,
        account_seq=account.seq + 1,
        hold_id=hold_id,
        postings=postings,
        after=after,
        moves=moves,
        hold=hold,
        grant=grant,
        facts=facts,
    )
