"""Rows of the ledger's tables to values and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

import asyncpg
import msgspec

from svc_billing.domain.events import Event, StoredEvent, decode_event
from svc_billing.domain.prices import PriceList, PriceRule
from svc_billing.domain.state import GENESIS, Account, Balances, Grant, GrantRecord, HoldState, Part
from svc_billing.ports import Changes, Found, Head

_ENCODER: Final = msgspec.json.Encoder()
_PARTS: Final = msgspec.json.Decoder(tuple[Part, ...])
_GRANTS: Final = msgspec.json.Decoder(tuple[Grant, ...])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
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


def found_of(rows: Sequence[asyncpg.Record]) -> Found:
    """Return what LOAD found."""
    head: Head | None = None
    operations: list[Event] = []
    holds: list[tuple[str, HoldState]] = []
    resolved: list[tuple[int, str, HoldState]] = []
    accounts: list[Account] = []
    grants: list[GrantRecord] = []
    for what, key, account_id, word, purpose, more, body, n1, n2, n3, n4, n5, n6, n7, at, ends_at, flag in rows:
        if what == "operation":
            operations.append(decode_event(body))
        elif what == "account":
            accounts.append(Account(key, flag, n1, Balances(n2, n3, n4, n5, n6, n7), _GRANTS.decode(more)))
        elif what == "hold":
            state = HoldState(
                word, purpose, n1, 0, 0, at, ends_at, flag, False, _PARTS.decode(more), n2, n3, None, account_id
            )
            holds.append((key, state))
        elif what == "resolved":
            resolved.append((n1, key, _hold_in(body)))
        elif what == "grant":
            grants.append(GrantRecord(key, account_id, word, n1, n2, ends_at, n3, n4))
        else:
            head = Head(n1, body, n2)
    assert head is not None, "billing.head has no row: the first migration inserts it"
    # In order of seq: of the events of one hold the last one tells its state.
    holds += [(key, hold) for _, key, hold in sorted(resolved, key=itemgetter(0))]
    return Found(head, operations, holds, accounts, grants)


def append_arguments(changes: Changes) -> list[Any]:
    """Return the arguments of APPEND."""
    base, head, new = changes.base, changes.head, [stored.event for stored in changes.events]
    # A row that was there before goes when its hold is resolved; one of this batch is written only if it is still open.
    gone = [key for key, hold in changes.holds if hold.resolved_seq is not None and hold.made_seq <= base.seq]
    return [
        head.seq,
        head.hash,
        head.price_version,
        base.seq,
        base.hash,
        lines(changes.absent_operation_ids),
        lines(changes.absent_hold_ids),
        *_account_columns(changes.accounts),
        lines(gone),
        lines([event.operation_id for event in new]),
        lines([event.kind for event in new]),
        lines([event.account_id for event in new]),
        _numbers([event.account_seq for event in new]),
        lines([event.hold_id or "" for event in new]),
        new[0].at,
        b"\n".join([stored.body for stored in changes.events]).decode(),
        b"".join([stored.hash for stored in changes.events]),
        *_hold_columns([(key, hold) for key, hold in changes.holds if hold.resolved_seq is None]),
    ]


def _hold_columns(open_holds: Sequence[tuple[str, HoldState]]) -> list[str]:
    holds = [hold for _, hold in open_holds]
    # Those of one batch were made at one instant.
    made_us = {at: _microseconds(at) for at in {hold.made_at for hold in holds}}
    return [
        lines([key for key, _ in open_holds]),
        lines([hold.account_id for hold in holds]),
        lines([hold.purpose for hold in holds]),
        lines([hold.state for hold in holds]),
        _numbers([hold.amount for hold in holds]),
        ",".join([made_us[hold.made_at] for hold in holds]),
        ",".join([_microseconds(hold.expires_at) if hold.expires_at is not None else "" for hold in holds]),
        _flags([hold.is_refund_failing for hold in holds]),
        _json_lines([hold.parts for hold in holds]),
        _numbers([hold.made_seq for hold in holds]),
        _numbers([hold.last_seq for hold in holds]),
    ]


def _account_columns(accounts: Sequence[Account]) -> list[str]:
    balances = [account.balances for account in accounts]
    return [
        lines([account.account_id for account in accounts]),
        _numbers([account.seq for account in accounts]),
        _numbers([it.available for it in balances]),
        _numbers([it.held for it in balances]),
        _numbers([it.spent for it in balances]),
        _numbers([it.shortfall for it in balances]),
        _numbers([it.granted for it in balances]),
        _numbers([it.lapsed for it in balances]),
        _json_lines([account.grants for account in accounts]),
        _flags([account.is_open for account in accounts]),
    ]


def grant_columns(grants: Sequence[GrantRecord]) -> list[list[Any]]:
    """Return the grants as one array a column, in the order of GRANT_COLUMNS."""
    return [[getattr(grant, name) for grant in grants] for name in GrantRecord.__struct_fields__]


def rules_text(prices: PriceList) -> str:
    """Return a price list's rules as they are stored."""
    return _text(list(prices.rules.values()))


def _hold_in(body: bytes) -> HoldState:
    event = decode_event(body)
    assert event.hold is not None, f"event {event.seq} resolves a hold and does not say its state"
    return event.hold


def _numbers(values: Sequence[int]) -> str:
    return _ENCODER.encode(values)[1:-1].decode()  # three times as fast as joining the texts of each


def _json_lines(values: Sequence[Any]) -> str:
    return _ENCODER.encode_lines(values)[:-1].decode()


def _flags(values: Sequence[bool]) -> str:
    return ",".join(["t" if value else "f" for value in values])


def _microseconds(at: datetime) -> str:
    return str((at - _EPOCH) // _MICROSECOND)


def _text(value: Any) -> str:
    return _ENCODER.encode(value).decode()
