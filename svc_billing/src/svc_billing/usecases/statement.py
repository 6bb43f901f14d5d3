"""A statement: an account's events as its owner reads them, oldest first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Final

import msgspec

from svc_billing.domain.events import (
    COMMAND_REFUSED,
    CREDITS_GRANTED,
    HOLD_SETTLED,
    SETTLEMENT_REFUNDED,
    Event,
    StoredEvent,
)
from svc_billing.domain.state import NOTHING, Account
from svc_billing.ports import PAGE_MAX, LedgerReader

N_LINES_MAX: Final = 10_000  # of one CSV; the rest is told by a link


class StatementLine(msgspec.Struct, frozen=True):
    """
    One event of an account. Amounts are micro-credits.

    amount: what the event is about: granted, held, charged, given back, ended; 0 for what moves nothing. available and
    held: after it. job: what a hold is for, such as job/<id>.
    """

    account_seq: int
    seq: int
    at: datetime
    kind: str
    operation_id: str
    amount_microcredits: int
    available_change_microcredits: int
    held_change_microcredits: int
    available_microcredits: int
    held_microcredits: int
    shortfall_microcredits: int
    hold_id: str | None
    job: str
    note: str


async def read_statement(reader: LedgerReader, account_id: str, *, after: int, limit: int) -> list[StatementLine]:
    """Return at most `limit` (and at most N_LINES_MAX) lines from behind the account's event number `after`."""
    lines: list[StatementLine] = []
    left = min(limit, N_LINES_MAX)
    while left > 0:
        wanted = min(left, PAGE_MAX)
        page = await reader.events_of(account_id, after_account_seq=after, limit=wanted)
        lines.extend(_lines(account_id, page))
        if len(page) < wanted:
            break
        after = page[-1].event.account_seq
        left -= wanted
    return lines


async def stream_statement(reader: LedgerReader, account: Account, *, limit: int) -> AsyncIterator[StatementLine]:
    """Yield the newest `limit` lines of an account, up to the event it was read at, oldest first."""
    after = max(0, account.seq - limit)
    while after < account.seq:
        wanted = min(PAGE_MAX, account.seq - after)
        page = await reader.events_of(account.account_id, after_account_seq=after, limit=wanted)
        if not page:
            return
        for line in _lines(account.account_id, page):
            yield line
        after = page[-1].event.account_seq


def _lines(account_id: str, page: Iterable[StoredEvent]) -> list[StatementLine]:
    return [_line(account_id, stored.event) for stored in page]


def _line(account_id: str, event: Event) -> StatementLine:
    change = {
        name: sum(amount for account, _, amount in event.postings if account == f"{account_id}/{name}")
        for name in ("available", "held")
    }
    after = event.after or NOTHING
    return StatementLine(
        account_seq=event.account_seq,
        seq=event.seq,
        at=event.at,
        kind=event.kind,
        operation_id=event.operation_id,
        amount_microcredits=_amount(event, change),
        available_change_microcredits=change["available"],
        held_change_microcredits=change["held"],
        available_microcredits=after.available,
        held_microcredits=after.held,
        shortfall_microcredits=after.shortfall,
        hold_id=event.hold_id,
        job=event.hold.purpose if event.hold is not None else "",
        note=f"{event.code}: {event.message}" if event.kind == COMMAND_REFUSED else event.facts.get("reason", ""),
    )


def _amount(event: Event, change: dict[str, int]) -> int:
    if event.kind == HOLD_SETTLED and event.hold is not None:
        return event.hold.settled
    if event.kind in (CREDITS_GRANTED, SETTLEMENT_REFUNDED) and event.grant is not None:
        return event.grant.amount  # of which a shortfall may have been repaid first
    return abs(change["held"] or change["available"])
