"""Events: what happened, in canonical bytes, each chained to the one before by its hash."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

import msgspec

from qraft_contracts.ledger import LedgerEntry, Posting
from qraft_contracts.usage import ComputeUsage
from svc_billing.domain.prices import FrozenPrice, PriceRule
from svc_billing.domain.state import Balances, GrantMove, GrantRecord, HoldState

ACCOUNT_OPENED: Final = "account_opened"
ACCOUNT_CLOSED: Final = "account_closed"
CREDITS_GRANTED: Final = "credits_granted"
GRANT_VOIDED: Final = "grant_voided"
GRANT_EXPIRED: Final = "grant_expired"
CREDITS_RESERVED: Final = "credits_reserved"
HOLD_SETTLED: Final = "hold_settled"
HOLD_VOIDED: Final = "hold_voided"
HOLD_EXPIRED: Final = "hold_expired"
HOLD_DISPUTED: Final = "hold_disputed"
LATE_SUCCESS_RECORDED: Final = "late_success_recorded"
REFUND_FAILED: Final = "refund_failed"
SETTLEMENT_REFUNDED: Final = "settlement_refunded"
PRICES_PUBLISHED: Final = "prices_published"
USAGE_BOOKED: Final = "usage_booked"
COMMAND_REFUSED: Final = "command_refused"

RESOLUTIONS: Final = (HOLD_SETTLED, HOLD_VOIDED, HOLD_EXPIRED)

MICROCREDIT: Final = "microcredit"
# System accounts of micro-credits. Issued ones go below zero, what customers paid or lost goes above.
ISSUED_PAID: Final = "system/issued_paid"
ISSUED_PROMOTIONAL: Final = "system/issued_promotional"
REVENUE: Final = "system/revenue"
LOSS: Final = "system/loss"
EXPIRED_CREDITS: Final = "system/expired"
WITHDRAWN_CREDITS: Final = "system/withdrawn"

# One leg of an entry: account, unit, amount.
Leg = tuple[str, str, int]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    One event. seq and account_seq have no gaps.

    after: the account's balances now, None where no customer's account is concerned. hold: the hold now. moves: what
    changed on the account's grants. grant: the grant that was made or has ended. code and message: of a refusal.
    """

    seq: int
    kind: str
    at: datetime
    operation_id: str
    fingerprint: str
    account_id: str
    account_seq: int
    hold_id: str | None = None
    postings: tuple[Leg, ...] = ()
    after: Balances | None = None
    moves: tuple[GrantMove, ...] = ()
    hold: HoldState | None = None
    grant: GrantRecord | None = None
    price: FrozenPrice | None = None
    code: str = ""
    message: str = ""
    facts: dict[str, str] = {}  # msgspec copies it
    asset_sha256s: tuple[str, ...] = ()
    price_version: int = 0
    rules: tuple[PriceRule, ...] = ()
    usage: ComputeUsage | None = None


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event with its canonical bytes and its place in the chain."""

    event: Event
    body: bytes
    prev_hash: bytes
    hash: bytes


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Event)


def seal(event: Event, prev_hash: bytes) -> StoredEvent:
    """Return the event with its canonical bytes, chained to the event before."""
    body = _ENCODER.encode(event)
    return StoredEvent(event, body, prev_hash, chain_hash(prev_hash, body))


def chain_hash(prev_hash: bytes, body: bytes) -> bytes:
    """Return SHA-256 over the hash of the event before and the canonical bytes."""
    return hashlib.sha256(prev_hash + body).digest()


def decode_event(body: bytes) -> Event:
    """
    Return the event in its canonical bytes.

    Raises:
        msgspec.ValidationError, msgspec.DecodeError: if the bytes are none of ours.
    """
    return _DECODER.decode(body)


def ledger_entry(stored: StoredEvent) -> LedgerEntry:
    """Return the event as it is told on the bus."""
    event = stored.event
    details = dict(event.facts)
    if event.code:
        details |= {"code": event.code, "message": event.message}
    if event.hold is not None:
        details["hold_state"] = event.hold.state
    if event.price_version:
        details["price_version"] = str(event.price_version)
    return LedgerEntry(
        seq=event.seq,
        operation_id=event.operation_id,
        kind=event.kind,
        account_id=event.account_id,
        account_seq=event.account_seq,
        at=event.at,
        postings=tuple(Posting(account, unit, amount) for account, unit, amount in event.postings),
        hold_id=event.hold_id,
        details=details,
        prev_hash=stored.prev_hash.hex(),
        hash=stored.hash.hex(),
    )
