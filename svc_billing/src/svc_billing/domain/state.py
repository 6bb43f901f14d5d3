"""What the ledger knows: accounts with their grants, holds, prices, seen operations. It changes by events only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from qraft_contracts.billing import Balance, Hold
from svc_billing.domain.prices import NO_PRICES, PriceList

if TYPE_CHECKING:
    from svc_billing.domain.events import Event

# The account of events that belong to no customer: price lists, refusals for unknown accounts.
SYSTEM: Final = "system"
# The account of usage events.
COMPUTE: Final = "compute"
RESERVED_ACCOUNTS: Final = (SYSTEM, COMPUTE)

HELD: Final = "held"
DISPUTED: Final = "disputed"
SETTLED: Final = "settled"
VOIDED: Final = "voided"
EXPIRED: Final = "expired"
OPEN_STATES: Final = (HELD, DISPUTED)

LIVE: Final = "live"

# hash of event 0, which does not exist.
GENESIS: Final = bytes(32)


class Balances(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One account in micro-credits, each >= 0; granted + shortfall = available + held + spent + lapsed.

    spent: charged, less refunds. shortfall: charged above hold and available, not repaid yet. lapsed: expired or
    withdrawn.
    """

    available: int = 0
    held: int = 0
    spent: int = 0
    shortfall: int = 0
    granted: int = 0
    lapsed: int = 0


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A grant that still has credits, or parts in open holds. remaining is part of the account's available."""

    grant_id: str
    category: str  # paid | promotional | refund
    priority: int
    expires_at: datetime | None
    remaining: int
    held: int = 0
    state: str = LIVE  # live | expired | voided


class GrantMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an event changed one grant."""

    grant_id: str
    remaining: int
    held: int


class GrantRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A grant as it was made, and whether it has ended. Its id is never used again."""

    grant_id: str
    account_id: str
    category: str
    priority: int
    amount: int
    expires_at: datetime | None
    made_seq: int
    closed_seq: int | None = None


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a hold took from one grant, in the order of spending."""

    grant_id: str
    amount: int


class HoldState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One hold after an event. amount is what was reserved, 0 for an id that was voided before its reserve came.

    parts: empty once resolved. last_seq: the event that wrote this state.
    """

    state: str
    purpose: str
    amount: int
    settled: int
    refunded: int
    made_at: datetime
    expires_at: datetime | None
    is_refund_failing: bool
    is_late: bool  # a late success was booked
    parts: tuple[Part, ...]
    made_seq: int
    last_seq: int
    resolved_seq: int | None
    account_id: str

    @property
    def is_open(self) -> bool:
        """Return whether the hold is neither settled nor given back."""
        return self.resolved_seq is None

    def told(self, hold_id: str) -> Hold:
        """Return the hold as others are told."""
        return Hold(
            hold_id,
            self.account_id,
            self.purpose,
            self.state,
            self.amount,
            self.settled,
            self.made_at,
            self.expires_at,
            self.is_refund_failing,
        )


NOTHING: Final = Balances()


class Account(msgspec.Struct, frozen=True, gc=False):
    """
    One account. seq counts its events. grants are in the order of spending.

    Frozen, as everything that hangs on the state: what was handed to the store never changes under it.
    """

    account_id: str
    is_open: bool
    seq: int
    balances: Balances
    grants: tuple[Grant, ...]

    def grant(self, grant_id: str) -> Grant | None:
        """Return one of the account's grants that are not used up."""
        for grant in self.grants:
            if grant.grant_id == grant_id:
                return grant
        return None


def new_account(account_id: str, *, is_open: bool) -> Account:
    """Return an account before its first event."""
    return Account(account_id, is_open, 0, NOTHING, ())


def told_balance(account_id: str, balances: Balances) -> Balance:
    """Return an account's balances as others are told."""
    return Balance(account_id, balances.available, balances.held, balances.spent, balances.shortfall)


@dataclass(slots=True)
class State:
    """
    The whole ledger after event `seq`, or the part of it that the commands at hand name.

    Only `apply` changes it. What is absent does not exist: whoever hands over a part must hand over all that is named.
    """

    seq: int = 0
    hash: bytes = GENESIS
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, HoldState] = field(default_factory=dict)
    grants: dict[str, GrantRecord] = field(default_factory=dict)
    operations: dict[str, Event] = field(default_factory=dict)
    prices: PriceList = NO_PRICES

    def account(self, account_id: str) -> Account:
        """Return an account that exists, or one of the reserved ones."""
        found = self.accounts.get(account_id)
        if found is None:
            found = new_account(account_id, is_open=False)
        return found


def spending_order(grant: Grant) -> tuple[int, float, str]:
    """Return the sort key of a grant: priority, then what expires sooner, then its id."""
    ends = grant.expires_at.timestamp() if grant.expires_at is not None else float("inf")
    return (grant.priority, ends, grant.grant_id)


def usable(grants: Sequence[Grant], now: datetime) -> int:
    """Return the credits of the grants that have not ended, which may be less than available until the sweeper ran."""
    return sum(grant.remaining for grant in grants if not has_ended(grant, now))


def has_ended(grant: Grant, now: datetime) -> bool:
    """Return whether a grant's credits may no longer be spent."""
    return grant.state != LIVE or (grant.expires_at is not None and grant.expires_at <= now)
