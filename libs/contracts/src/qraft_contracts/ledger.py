"""`ledger.entries.<account>`: one balanced entry of the credit ledger, as it stands in the chain."""

from __future__ import annotations

import re
from datetime import datetime
from typing import ClassVar, Final

import msgspec

_ACCOUNT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Posting(msgspec.Struct, frozen=True, array_like=False):
    """
    One leg of an entry. The amounts of one unit sum to zero over the legs of an entry.

    account: such as `acme/available`, `acme/held`, `system/revenue`. unit: microcredit, cpu_ms, gpu_ms, byte, microusd.
    """

    account: str
    unit: str
    amount: int


class LedgerEntry(msgspec.Struct, frozen=True):
    """
    One event of the ledger.

    seq counts every event of the ledger without gaps, account_seq those of one account. kind: credits_granted,
    credits_reserved, hold_settled, hold_voided, hold_expired, hold_disputed, grant_expired, late_success_recorded,
    refund_failed, settlement_refunded, usage_booked, account_opened, … hash = SHA-256 over prev_hash and the event's
    canonical bytes; prev_hash is the hash of seq - 1, all hex.
    """

    SCHEMA: ClassVar[str] = "ledger/1"

    seq: int
    operation_id: str
    kind: str
    account_id: str
    account_seq: int
    at: datetime
    postings: tuple[Posting, ...]
    hold_id: str | None
    details: dict[str, str]
    prev_hash: str
    hash: str


def ledger_subject(account_id: str) -> str:
    """
    Return the subject of one account's entries, such as `ledger.entries.acme`.

    Raises:
        ValueError: if the id could not be one token of a subject.
    """
    return f"ledger.entries.{check_account_id(account_id)}"


def check_account_id(account_id: str) -> str:
    """Return the account id; raises ValueError unless it is 1 to 63 of a-z, 0-9, _ and -, not beginning with a sign."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise ValueError(f"expected an account id of 1 to 63 characters a-z, 0-9, _ or -, received {account_id[:80]!r}")
    return account_id
