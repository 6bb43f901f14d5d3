"""State + command + now → at most one event, and the answer. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from qraft_contracts.billing import (
    OK,
    OPERATION_CONFLICT,
    REFUSED,
    RETRY,
    BillingReply,
    DisputeHold,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_contracts.outcomes import Refused, Transient
from svc_billing.domain import rules_accounts, rules_holds
from svc_billing.domain.commands import (
    BookUsage,
    CloseAccount,
    Command,
    ExpireGrant,
    ExpireHold,
    GrantCredits,
    OpenAccount,
    PublishPrices,
    RefundSettlement,
    VoidGrant,
)
from svc_billing.domain.draft import Draft
from svc_billing.domain.events import COMMAND_REFUSED, Event
from svc_billing.domain.state import RESERVED_ACCOUNTS, SYSTEM, State, told_balance

_RULES: Final[dict[type, Callable[[Draft, Any], Event]]] = {
    ReserveCredits: rules_holds.reserve,
    SettleHold: rules_holds.settle,
    VoidHold: rules_holds.void,
    ExpireHold: rules_holds.expire,
    DisputeHold: rules_holds.dispute,
    RecordRefundFailure: rules_holds.refund_failed,
    RecordLateSuccess: rules_holds.late_success,
    OpenAccount: rules_accounts.open_account,
    CloseAccount: rules_accounts.close_account,
    GrantCredits: rules_accounts.grant_credits,
    VoidGrant: rules_accounts.void_grant,
    ExpireGrant: rules_accounts.expire_grant,
    RefundSettlement: rules_accounts.refund,
    PublishPrices: rules_accounts.publish_prices,
    BookUsage: rules_accounts.book_usage,
}


class Checked(msgspec.Struct, frozen=True, gc=False):
    """A command with its fingerprint; refusal: what is wrong with its own content."""

    command: Command
    fingerprint: str
    refusal: Refused | None


def decide(state: State, checked: Checked, *, now: datetime) -> Event | BillingReply:
    """Return the event of a new command, also of one that is refused; or the answer of one that leaves no event."""
    command = checked.command
    operation_id = command.operation_id
    known = state.operations.get(operation_id)
    if known is not None:
        return _known(known, checked)
    draft = Draft(state, state.seq + 1, now, operation_id, checked.fingerprint)
    if checked.refusal is not None:
        return _refused(draft, checked, checked.refusal)
    try:
        return _RULES[type(command)](draft, command)
    except Refused as refused:
        return _refused(draft, checked, refused)
    except Transient as later:
        return BillingReply(RETRY, operation_id, later.reason, later.detail)


def answer(event: Event, *, is_replay: bool) -> BillingReply:
    """Return the answer of an event: it is made from the event alone, so that it is the same ever after."""
    after, hold, account_id = event.after, event.hold, event.account_id
    return BillingReply(
        OK if event.kind != COMMAND_REFUSED else REFUSED,
        event.operation_id,
        event.code,
        event.message,
        is_replay,
        event.price.estimate() if event.price is not None else None,
        hold.told(event.hold_id) if hold is not None and event.hold_id is not None else None,
        told_balance(account_id, after) if after is not None else None,
    )


def _known(known: Event, checked: Checked) -> BillingReply:
    if known.fingerprint == checked.fingerprint:
        return answer(known, is_replay=True)
    return BillingReply(
        REFUSED,
        known.operation_id,
        OPERATION_CONFLICT,
        f"expected the content of event {known.seq} ({known.kind}), received another under the same operation id:"
        " an id is used for one command only",
    )


def _refused(draft: Draft, checked: Checked, refused: Refused) -> Event:
    state, command = draft.state, checked.command
    account_id = getattr(command, "account_id", None)
    hold = state.holds.get(getattr(command, "hold_id", ""))
    if hold is not None:
        account_id = hold.account_id
    if account_id not in state.accounts or account_id in RESERVED_ACCOUNTS:
        account_id = SYSTEM
    account = state.account(account_id)
    return Event(
        seq=draft.seq,
        kind=COMMAND_REFUSED,
        at=draft.now,
        operation_id=draft.operation_id,
        fingerprint=draft.fingerprint,
        account_id=account_id,
        account_seq=account.seq + 1,
        after=account.balances if account_id != SYSTEM else None,
        code=refused.reason,
        message=refused.detail,
        facts={"command": type(command).__name__},
    )
