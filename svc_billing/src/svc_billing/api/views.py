"""What the HTTP API answers with. Amounts are whole micro-credits."""

from __future__ import annotations

from datetime import datetime

import msgspec

from qraft_contracts.billing import Balance, BillingReply, Hold
from svc_billing.domain.prices import PriceList, PriceRule
from svc_billing.domain.state import Account, GrantRecord, told_balance
from svc_billing.usecases.statement import StatementLine


class ErrorBody(msgspec.Struct, frozen=True):
    """code: stable, for programs; message: what was expected, what came, what to do."""

    code: str
    message: str


class ErrorView(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorBody


class AccountView(msgspec.Struct, frozen=True):
    """One account. n_events counts all that ever happened on it."""

    account_id: str
    is_open: bool
    n_events: int
    balance: Balance


class AccountsPage(msgspec.Struct, frozen=True):
    """Accounts by id. next_after: hand it over as `after` for the next page; None = that was the last."""

    accounts: list[AccountView]
    next_after: str | None


class GrantView(msgspec.Struct, frozen=True):
    """One grant as it was made, and what is left of it: free, and in open holds."""

    grant_id: str
    category: str
    priority: int
    amount_microcredits: int
    remaining_microcredits: int
    held_microcredits: int
    expires_at: datetime | None
    has_ended: bool


class AccountDetail(msgspec.Struct, frozen=True):
    """One account with its open holds and its grants, each oldest first and bounded."""

    account: AccountView
    open_holds: list[Hold]
    grants: list[GrantView]


class StatementPage(msgspec.Struct, frozen=True):
    """Lines oldest first. next_after: as in AccountsPage, a number of the account's events."""

    account_id: str
    lines: list[StatementLine]
    next_after: int | None


class HoldsPage(msgspec.Struct, frozen=True):
    """Holds oldest first. next_after: as in AccountsPage."""

    holds: list[Hold]
    next_after: int | None


class PricesView(msgspec.Struct, frozen=True):
    """The price list that counts now; version 0 is the empty one before the first."""

    version: int
    rules: list[PriceRule]


class DoneView(msgspec.Struct, frozen=True):
    """A command that was obeyed, now or by an earlier delivery (is_replay)."""

    operation_id: str
    is_replay: bool
    balance: Balance | None
    hold: Hold | None


def account_view(account: Account) -> AccountView:
    """Return an account as it is shown."""
    balance = told_balance(account.account_id, account.balances)
    return AccountView(account.account_id, account.is_open, account.seq, balance)


def grant_view(record: GrantRecord, account: Account) -> GrantView:
    """Return a grant as it is shown, with what is left of it on its account."""
    live = account.grant(record.grant_id)
    return GrantView(
        grant_id=record.grant_id,
        category=record.category,
        priority=record.priority,
        amount_microcredits=record.amount,
        remaining_microcredits=live.remaining if live is not None else 0,
        held_microcredits=live.held if live is not None else 0,
        expires_at=record.expires_at,
        has_ended=record.closed_seq is not None,
    )


def prices_view(prices: PriceList) -> PricesView:
    """Return a price list as it is shown, in the order of its keys."""
    return PricesView(prices.version, sorted(prices.rules.values(), key=lambda rule: rule.key))


def done_view(reply: BillingReply) -> DoneView:
    """Return what an obeyed command tells."""
    return DoneView(reply.operation_id, reply.is_replay, reply.balance, reply.hold)
