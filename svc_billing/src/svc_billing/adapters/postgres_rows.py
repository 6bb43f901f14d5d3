"""Rows of the ledger's tables to values and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from svc_billing.domain.events import StoredEvent, decode_event
from svc_billing.domain.prices import PriceList, PriceRule
from svc_billing.domain.state import GENESIS, Account, Balances, Grant, GrantRecord, HoldState, Part

_ENCODER: Final = msgspec.json.Encoder()
_PARTS: Final = msgspec.json.Decoder(tuple[Part, ...])
_GRANTS: Final = msgspec.json.Decoder(tuple[Grant, ...])
_RULES: Final = msgspec.json.Decoder(tuple[PriceRule, ...])


def open_hold_of(row: asyncpg.Record) -> tuple[str, HoldState]:
    """Return an open hold and its id out of OPEN_HOLD_COLUMNS."""
    (
        hold_id, account_id, purpose, state, amount, made_at, expires_at, is_refund_failing, parts, made_seq, last_seq,
    ) = row  # fmt: skip
    return hold_id, HoldState(
        state, purpose, amount, 0, 0, made_at, expires_at, is_refund_failing, False, _PARTS.decode(parts), made_seq,
        last_seq, None, account_id,
    )  # fmt: skip


def hold_of(row: asyncpg.Record) -> tuple[str, HoldState]:
    """Return a hold and its id out of HOLD_COLUMNS."""
    (
        hold_id, account_id, purpose, state, amount, settled, refunded, made_at, expires_at, is_refund_failing, is_late,
        parts, made_seq, last_seq, resolved_seq,
    ) = row  # fmt: skip
    return hold_id, HoldState(
        state, purpose, amount, settled, refunded, made_at, expires_at, is_refund_failing, is_late,
        _PARTS.decode(parts), made_seq, last_seq, resolved_seq, account_id,
    )  # fmt: skip


def stored_event_of(row: asyncpg.Record) -> StoredEvent:
    """Return an event out of seq, body, hash, prev_hash."""
    return StoredEvent(decode_event(row["body"]), row["body"], row["prev_hash"] or GENESIS, row["hash"])


def resolved_hold_of(row: asyncpg.Record) -> tuple[str, HoldState]:
    """Return a resolved hold and its id out of one of its events."""
    hold = decode_event(row["body"]).hold
    assert hold is not None, f"event {row['seq']} resolves a hold and does not say its state"
    return row["hold_id"], hold


def account_of(row: asyncpg.Record) -> Account:
    """Return an account out of ACCOUNT_COLUMNS."""
    account_id, is_open, seq, available, held, spent, shortfall, granted, lapsed, grants = row
    balances = Balances(available, held, spent, shortfall, granted, lapsed)
    return Account(account_id, is_open, seq, balances, _GRANTS.decode(grants))


def grant_of(row: asyncpg.Record) -> GrantRecord:
    """Return a grant out of GRANT_COLUMNS."""
    return GrantRecord(*row)


def prices_of(row: asyncpg.Record) -> PriceList:
    """Return a version of the price list."""
    return PriceList.of(row["version"], _RULES.decode(row["rules"]))


def lines(ids: Iterable[str]) -> str:
    """Return ids as one text. None of them holds a line end."""
    return "\n".join(ids)


def event_rows(events: Sequence[StoredEvent]) -> list[tuple[Any, ...]]:
    """Return the events in the order of EVENT_COLUMNS."""
    return [
        (
            event.seq, event.operation_id, event.kind, event.account_id, event.account_seq, event.hold_id, event.at,
            body, hash_,
        )
        for event, body, hash_ in [(stored.event, stored.body, stored.hash) for stored in events]
    ]  # fmt: skip


def hold_rows(holds: Sequence[tuple[str, HoldState]]) -> list[tuple[Any, ...]]:
    """Return open holds in the order of OPEN_HOLD_COLUMNS."""
    return [
        (
            hold_id, hold.account_id, hold.purpose, hold.state, hold.amount, hold.made_at, hold.expires_at,
            hold.is_refund_failing, _text(hold.parts), hold.made_seq, hold.last_seq,
        )
        for hold_id, hold in holds
    ]  # fmt: skip


def account_columns(accounts: Sequence[Account]) -> list[str]:
    """Return the accounts as one text a column, in the order of MOVE."""
    balances = [account.balances for account in accounts]
    numbers = (
        [account.seq for account in accounts],
        [it.available for it in balances],
        [it.held for it in balances],
        [it.spent for it in balances],
        [it.shortfall for it in balances],
        [it.granted for it in balances],
        [it.lapsed for it in balances],
    )
    return [
        lines([account.account_id for account in accounts]),
        *(",".join(map(str, column)) for column in numbers),
        lines([_text(account.grants) for account in accounts]),
        ",".join(["t" if account.is_open else "f" for account in accounts]),
    ]


def grant_columns(grants: Sequence[GrantRecord]) -> list[list[Any]]:
    """Return the grants as one array a column, in the order of GRANT_COLUMNS."""
    return [[getattr(grant, name) for grant in grants] for name in GrantRecord.__struct_fields__]


def rules_text(prices: PriceList) -> str:
    """Return a price list's rules as they are stored."""
    return _text(list(prices.rules.values()))


def _text(value: Any) -> str:
    return _ENCODER.encode(value).decode()
