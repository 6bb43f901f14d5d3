"""
`billing.<verb>`: commands to the credit ledger and their answers, as request and reply.

Amounts are whole micro-credits (1 credit = 1,000,000). Ids are made by the caller, stored before they are sent, and are
the idempotency key: the same id with the same content gives the first answer again, with other content it is refused as
`operation_conflict`. An id that was refused stays refused. Only `retry` answers leave nothing behind.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

import msgspec

MICROCREDITS_PER_CREDIT: Final = 1_000_000

# What an answer says. ok: done (now or by an earlier delivery); refused: a rule said no, for good;
# retry: nothing was stored, send the same command again.
OK: Final = "ok"
REFUSED: Final = "refused"
RETRY: Final = "retry"

# Codes of refused answers.
PRICE_UNKNOWN: Final = "price_unknown"
PRICE_CHANGED: Final = "price_changed"
CREDITS_INSUFFICIENT: Final = "credits_insufficient"
ACCOUNT_UNKNOWN: Final = "account_unknown"
ACCOUNT_CLOSED: Final = "account_closed"
OPERATION_CONFLICT: Final = "operation_conflict"
HOLD_CONFLICT: Final = "hold_conflict"  # the hold id exists with other content
ALREADY_SETTLED: Final = "already_settled"
ALREADY_VOIDED: Final = "already_voided"
ALREADY_EXPIRED: Final = "already_expired"
EVIDENCE_MISSING: Final = "evidence_missing"
INVALID: Final = "invalid"
# Codes of retry answers.
HOLD_UNKNOWN: Final = "hold_unknown"  # not here (yet): a settle may overtake its reserve
OVERLOADED: Final = "overloaded"
STORE_AWAY: Final = "store_away"


class PricedItem(msgspec.Struct, frozen=True):
    """
    What a call is priced by. size: `1024x1024` or `auto`; quality: `low`, `medium`, `high`, `auto`, …

    n: pictures asked for, >= 1. n_references: reference pictures sent along, priced each where the price says so.
    """

    provider: str
    model: str
    operation: str  # generation | edit | variation
    size: str
    quality: str
    n: int
    n_references: int = 0


class Estimate(msgspec.Struct, frozen=True):
    """
    The upper bound of a call's price, frozen: the price list may change later, this does not.

    total = n × per_image + references. Fewer pictures cost n_delivered × per_image + references.
    """

    price_version: int
    per_image_microcredits: int
    references_microcredits: int
    total_microcredits: int
    n: int

    def amount_for(self, n_delivered: int) -> int:
        """Return what n_delivered pictures of this call cost, in micro-credits; nothing delivered costs nothing."""
        return self.per_image_microcredits * n_delivered + self.references_microcredits if n_delivered else 0


class EstimateCredits(msgspec.Struct, frozen=True):
    """`billing.estimate`: ask for a price. Answered with `estimate`; nothing is stored."""

    SCHEMA: ClassVar[str] = "billing.estimate/1"
    SUBJECT: ClassVar[str] = "billing.estimate"

    item: PricedItem


class ReserveCredits(msgspec.Struct, frozen=True):
    """
    `billing.reserve`: price a call and hold its upper bound, or refuse.

    expected_microcredits and price_version: what the person was shown; another price now is refused as price_changed.
    lease_s: the hold expires this long after it was made unless it is resolved or disputed.
    """

    SCHEMA: ClassVar[str] = "billing.reserve/1"
    SUBJECT: ClassVar[str] = "billing.reserve"

    operation_id: str
    account_id: str
    hold_id: str
    item: PricedItem
    lease_s: int
    purpose: str  # such as job/<id>
    expected_microcredits: int | None = None
    price_version: int | None = None


class SettleHold(msgspec.Struct, frozen=True):
    """
    `billing.settle`: charge a hold, once. Above the hold: available credits, then the account's shortfall.

    asset_sha256s: the verified pictures that were delivered; without any the command is refused (evidence_missing).
    """

    SCHEMA: ClassVar[str] = "billing.settle/1"
    SUBJECT: ClassVar[str] = "billing.settle"

    operation_id: str
    hold_id: str
    amount_microcredits: int
    asset_sha256s: tuple[str, ...]
    provider_cost_microusd: int | None = None  # None = not told by the provider
    is_simulated: bool = False


class VoidHold(msgspec.Struct, frozen=True):
    """
    `billing.void`: give a hold back, once. A hold that never arrived is voided in advance: its reserve is refused.

    account_id is only read in that case.
    """

    SCHEMA: ClassVar[str] = "billing.void/1"
    SUBJECT: ClassVar[str] = "billing.void"

    operation_id: str
    hold_id: str
    account_id: str
    reason: str


class DisputeHold(msgspec.Struct, frozen=True):
    """`billing.dispute`: the outcome is uncertain; the hold stays, without a lease, until it is settled or voided."""

    SCHEMA: ClassVar[str] = "billing.dispute/1"
    SUBJECT: ClassVar[str] = "billing.dispute"

    operation_id: str
    hold_id: str
    reason: str


class RecordLateSuccess(msgspec.Struct, frozen=True):
    """
    `billing.late_success`: a picture came after its hold was voided or expired.

    The customer was told "not charged", and that stays so: the amount is booked as our loss, never to their balance.
    """

    SCHEMA: ClassVar[str] = "billing.late_success/1"
    SUBJECT: ClassVar[str] = "billing.late_success"

    operation_id: str
    hold_id: str
    amount_microcredits: int
    asset_sha256s: tuple[str, ...]
    provider_cost_microusd: int | None = None


class RecordRefundFailure(msgspec.Struct, frozen=True):
    """`billing.refund_failed`: giving a hold back did not work n_attempts times; it stays visible until it does."""

    SCHEMA: ClassVar[str] = "billing.refund_failed/1"
    SUBJECT: ClassVar[str] = "billing.refund_failed"

    operation_id: str
    hold_id: str
    n_attempts: int
    reason: str


class ReadBalance(msgspec.Struct, frozen=True):
    """`billing.balance`: answered with `balance`; nothing is stored."""

    SCHEMA: ClassVar[str] = "billing.balance/1"
    SUBJECT: ClassVar[str] = "billing.balance"

    account_id: str


class ListOpenHolds(msgspec.Struct, frozen=True):
    """`billing.open_holds`: holds of a purpose prefix that were made before an instant, oldest first, at most 500."""

    SCHEMA: ClassVar[str] = "billing.open_holds/1"
    SUBJECT: ClassVar[str] = "billing.open_holds"

    purpose_prefix: str
    made_before: datetime


class Balance(msgspec.Struct, frozen=True):
    """One account, in micro-credits. available and held are >= 0; shortfall is what settled above both, >= 0."""

    account_id: str
    available_microcredits: int
    held_microcredits: int
    spent_microcredits: int
    shortfall_microcredits: int


class Hold(msgspec.Struct, frozen=True):
    """One hold. state: held | disputed | settled | voided | expired. expires_at None: disputed or resolved."""

    hold_id: str
    account_id: str
    purpose: str
    state: str
    amount_microcredits: int
    settled_microcredits: int
    made_at: datetime
    expires_at: datetime | None
    is_refund_failing: bool = False


class BillingReply(msgspec.Struct, frozen=True):
    """
    The answer to any `billing.<verb>`.

    code: one of the constants above when the outcome is refused or retry, else "". message says what was expected, what
    came and what to do, without secrets, in English. is_replay: the command was known, this is its first answer.
    """

    SCHEMA: ClassVar[str] = "billing.reply/1"

    outcome: str  # ok | refused | retry
    operation_id: str = ""
    code: str = ""
    message: str = ""
    is_replay: bool = False
    estimate: Estimate | None = None
    hold: Hold | None = None
    balance: Balance | None = None
    holds: tuple[Hold, ...] = ()


BILLING_COMMANDS: Final = (
    EstimateCredits, ReserveCredits, SettleHold, VoidHold, DisputeHold, RecordLateSuccess, RecordRefundFailure,
    ReadBalance, ListOpenHolds,
)  # fmt: skip
