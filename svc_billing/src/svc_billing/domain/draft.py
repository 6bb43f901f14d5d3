"""What every rule of the ledger gets to decide by, and how it says the outcome."""

from __future__ import annotations

from datetime import datetime

import msgspec

from qraft_contracts.billing import (
    ACCOUNT_UNKNOWN,
    ALREADY_EXPIRED,
    ALREADY_SETTLED,
    ALREADY_VOIDED,
    HOLD_UNKNOWN,
)
from qraft_contracts.outcomes import Refused, Transient
from svc_billing.domain.state import RESERVED_ACCOUNTS, SETTLED, VOIDED, Account, HoldState, State

_ALREADY = {SETTLED: ALREADY_SETTLED, VOIDED: ALREADY_VOIDED}


class Draft(msgspec.Struct, frozen=True, gc=False):
    """The state before a command, and what its event will be stamped with. Rules read it and change nothing."""

    state: State
    seq: int
    now: datetime
    operation_id: str
    fingerprint: str

    def account(self, account_id: str) -> Account:
        """Return a customer's account. Raises Refused: account_unknown."""
        account = self.state.accounts.get(account_id)
        if account is None or account_id in RESERVED_ACCOUNTS:
            raise Refused(ACCOUNT_UNKNOWN, f"expected an open account, received {account_id}: open it first")
        return account

    def hold(self, hold_id: str) -> HoldState:
        """Return a hold. Raises Transient: hold_unknown, since a command may overtake the reserve."""
        hold = self.state.holds.get(hold_id)
        if hold is None:
            raise Transient(HOLD_UNKNOWN, f"hold {hold_id} has not arrived (yet): send the command again, bounded")
        return hold

    def open_hold(self, hold_id: str) -> HoldState:
        """Return a hold that is not resolved. Raises Refused: already_settled, already_voided, already_expired."""
        hold = self.hold(hold_id)
        if hold.resolved_seq is not None:
            raise already_resolved(hold_id, hold)
        return hold


def already_resolved(hold_id: str, hold: HoldState) -> Refused:
    """Return how a hold that is resolved refuses to be resolved again."""
    code = _ALREADY.get(hold.state, ALREADY_EXPIRED)
    return Refused(code, f"expected an open hold, {hold_id} was {hold.state} by event {hold.resolved_seq}")
