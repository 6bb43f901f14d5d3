"""
Commands that the ledger obeys beside those of qraft_contracts.billing, and the fingerprint of any of them.

Ids are made by the caller and are the idempotency key: the same id with the same fingerprint gives the first answer.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Final, TypeAlias

import msgspec

from qraft_contracts.billing import (
    INVALID,
    DisputeHold,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_contracts.outcomes import Refused
from qraft_contracts.usage import ComputeUsage
from svc_billing.domain.prices import PriceRule

PAID: Final = "paid"
PROMOTIONAL: Final = "promotional"
REFUND: Final = "refund"  # made by RefundSettlement only
CATEGORIES: Final = (PAID, PROMOTIONAL)

# Codes of answers that only admin and internal commands get.
ACCOUNT_EXISTS: Final = "account_exists"
GRANT_CONFLICT: Final = "grant_conflict"  # the grant id exists
GRANT_UNKNOWN: Final = "grant_unknown"
NOT_SETTLED: Final = "not_settled"  # there is nothing to refund
NOT_DUE: Final = "not_due"  # retry: the lease or the grant has not ended yet


class OpenAccount(msgspec.Struct, frozen=True):
    """Open an account without credits."""

    operation_id: str
    account_id: str
    reason: str
    actor: str


class CloseAccount(msgspec.Struct, frozen=True):
    """Refuse new grants and holds from now on. Open holds are still settled or voided; credits stay where they are."""

    operation_id: str
    account_id: str
    reason: str
    actor: str


class GrantCredits(msgspec.Struct, frozen=True):
    """
    Give credits. An account's shortfall is repaid first.

    priority: 0 to 1000, lower is spent first; then what expires sooner. expires_at None = never.
    """

    operation_id: str
    account_id: str
    grant_id: str
    category: str  # paid | promotional
    amount_microcredits: int
    priority: int
    expires_at: datetime | None
    reason: str
    actor: str


class VoidGrant(msgspec.Struct, frozen=True):
    """Withdraw what is left of a grant; what is held of it comes to us instead of the customer when it returns."""

    operation_id: str
    grant_id: str
    reason: str
    actor: str


class RefundSettlement(msgspec.Struct, frozen=True):
    """
    Give back part or all of what a settled hold was charged, never more.

    The account's shortfall is lowered first. The rest is a grant of its own, `refund/<operation_id>`, that never
    expires and is spent first: credits whose old grant has ended would be no refund.
    """

    operation_id: str
    hold_id: str
    amount_microcredits: int
    reason: str
    actor: str


class PublishPrices(msgspec.Struct, frozen=True):
    """Replace the price list by a new version. Frozen estimates keep theirs."""

    operation_id: str
    rules: tuple[PriceRule, ...]
    actor: str


class BookUsage(msgspec.Struct, frozen=True):
    """Book what one piece of work took under its column."""

    operation_id: str
    usage: ComputeUsage


class ExpireHold(msgspec.Struct, frozen=True):
    """Give a hold back whose lease has ended. Sent by the sweeper, with an id made by `expire_hold`."""

    operation_id: str
    hold_id: str


class ExpireGrant(msgspec.Struct, frozen=True):
    """Take what is left of a grant whose time has ended. Sent by the sweeper, with an id made by `expire_grant`."""

    operation_id: str
    grant_id: str


Command: TypeAlias = (
    ReserveCredits
    | SettleHold
    | VoidHold
    | DisputeHold
    | RecordLateSuccess
    | RecordRefundFailure
    | OpenAccount
    | CloseAccount
    | GrantCredits
    | VoidGrant
    | RefundSettlement
    | PublishPrices
    | BookUsage
    | ExpireHold
    | ExpireGrant
)

# Fields stand in the order of the struct, so that equal commands give equal bytes.
_ENCODER: Final = msgspec.json.Encoder()
_DIGEST_BYTES: Final = 16


def fingerprint(command: Command) -> str:
    """
    Return 32 hex digits over the kind and the whole content of a command.

    Raises:
        Refused: invalid, if a text has no bytes, as a lone surrogate has none.
    """
    try:
        content = _ENCODER.encode(command)
    except UnicodeEncodeError as error:
        raise Refused(INVALID, f"expected a {type(command).__name__} that can be written as JSON: {error}") from error
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES)
    digest.update(_name_of(type(command)))
    return digest.hexdigest()


@cache
def _name_of(kind: type[Command]) -> bytes:
    return kind.__name__.encode()


def expire_hold(hold_id: str) -> ExpireHold:
    """Return the one command that expires a hold."""
    return ExpireHold(operation_id=f"expire-hold/{hold_id}", hold_id=hold_id)


def expire_grant(grant_id: str) -> ExpireGrant:
    """Return the one command that expires a grant."""
    return ExpireGrant(operation_id=f"expire-grant/{grant_id}", grant_id=grant_id)
