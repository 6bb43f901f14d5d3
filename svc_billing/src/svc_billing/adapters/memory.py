"""The store in memory: the twin of the PostgreSQL one, for tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime

from qraft_contracts.billing import Hold
from svc_billing.domain.events import RESOLUTIONS, StoredEvent
from svc_billing.domain.prices import NO_PRICES, PriceList
from svc_billing.domain.replay import EventRow
from svc_billing.domain.state import GENESIS, HELD, RESERVED_ACCOUNTS, Account, GrantRecord, HoldState
from svc_billing.ports import OPEN_HOLDS_MAX, PAGE_MAX, Changes, Found, Head, UsageTotal, Wanted


@dataclass(slots=True)
class _Tables:
    head: Head = field(default_factory=lambda: Head(0, GENESIS, 0))
    events: list[StoredEvent] = field(default_factory=list)
    operations: dict[str, StoredEvent] = field(default_factory=dict)
    holds: dict[str, HoldState] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    grants: dict[str, GrantRecord] = field(default_factory=dict)
    prices: PriceList = NO_PRICES


class MemoryStore:
    """The LedgerStore and LedgerReader ports. Nothing outlives the process."""

    def __init__(self) -> None:
        self._tables = _Tables()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryBatch]:
        """Let one batch in at a time; its changes count when the block ends without an error."""
        async with self._lock:
            batch = MemoryBatch(self._tables)
            yield batch
            batch.commit()

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists and the end of the chain."""
        return await MemoryBatch(self._tables).load(wanted)

    async def load_prices(self) -> PriceList:
        """Return the newest price list."""
        return self._tables.prices

    def prepare(self, changes: Changes) -> None:
        """Do nothing: there is nothing to encode."""

    async def append(self, changes: Changes) -> bool:
        """Write a batch, unless the chain has moved."""
        async with self.begin() as batch:
            return await batch.append(changes)

    async def account(self, account_id: str) -> Account | None:
        """Return one account."""
        return self._tables.accounts.get(account_id)

    async def accounts(self, *, after: str = "", limit: int = PAGE_MAX) -> list[Account]:
        """Return customers' accounts by id."""
        ids = sorted(name for name in self._tables.accounts if name > after and name not in RESERVED_ACCOUNTS)
        return [self._tables.accounts[name] for name in ids[:limit]]

    async def grants(self, account_id: str) -> list[GrantRecord]:
        """Return the grants of an account, oldest first."""
        mine = [grant for grant in self._tables.grants.values() if grant.account_id == account_id]
        return sorted(mine, key=lambda grant: grant.made_seq)[:PAGE_MAX]

    async def hold(self, hold_id: str) -> Hold | None:
        """Return one hold."""
        found = self._tables.holds.get(hold_id)
        return found.told(hold_id) if found is not None else None

    async def holds_of(self, account_id: str, *, limit: int = PAGE_MAX) -> list[Hold]:
        """Return an account's open holds, oldest first."""
        return self._holds(lambda hold: hold.is_open and hold.account_id == account_id, limit)

    async def open_holds(
        self, *, purpose_prefix: str, made_before: datetime, limit: int = OPEN_HOLDS_MAX
    ) -> list[Hold]:
        """Return open holds by purpose and age, oldest first."""
        return self._holds(
            lambda hold: hold.is_open and hold.purpose.startswith(purpose_prefix) and hold.made_at < made_before, limit
        )

    async def overdue_holds(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return holds whose lease has ended, longest ended first."""
        due = [
            (hold.expires_at, hold_id)
            for hold_id, hold in self._tables.holds.items()
            if hold.state == HELD and hold.expires_at is not None and hold.expires_at <= now
        ]
        return [hold_id for _, hold_id in sorted(due)[:limit]]

    async def overdue_grants(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return grants that have expired and are not closed, longest ended first."""
        due = [
            (grant.expires_at, grant.grant_id)
            for grant in self._tables.grants.values()
            if grant.closed_seq is None and grant.expires_at is not None and grant.expires_at <= now
        ]
        return [grant_id for _, grant_id in sorted(due)[:limit]]

    async def events_of(
        self, account_id: str, *, after_account_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return an account's events in order."""
        mine = (
            stored
            for stored in self._tables.events
            if stored.event.account_id == account_id and stored.event.account_seq > after_account_seq
        )
        return list(mine)[:limit]

    async def events_after(self, seq: int, *, limit: int = PAGE_MAX) -> list[StoredEvent]:
        """Return the ledger's events in order."""
        return self._tables.events[seq : seq + limit]

    async def head(self) -> Head:
        """Return the end of the chain."""
        return self._tables.head

    async def prices(self) -> PriceList:
        """Return the newest price list."""
        return self._tables.prices

    async def usage(self, *, start: datetime, end: datetime) -> list[UsageTotal]:
        """Return sums a column and service."""
        totals: dict[tuple[str, str], UsageTotal] = {}
        for stored in await self.usage_events(start=start, end=end, limit=len(self._tables.events)):
            usage = stored.event.usage
            assert usage is not None
            key = (usage.column, usage.service)
            known = totals.get(key) or UsageTotal(*key, 0, 0, 0, 0, 0, 0)
            totals[key] = replace(
                known,
                n=known.n + 1,
                cpu_ms=known.cpu_ms + usage.cpu_ms,
                gpu_ms=known.gpu_ms + usage.gpu_ms,
                n_bytes=known.n_bytes + usage.n_bytes,
                provider_cost_microusd=known.provider_cost_microusd + (usage.provider_cost_microusd or 0),
                n_cost_unknown=known.n_cost_unknown + (usage.provider_cost_microusd is None),
            )
        return [totals[key] for key in sorted(totals)]

    async def usage_events(
        self, *, start: datetime, end: datetime, after_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return usage events by the end of their work, in order of seq."""
        found = (
            stored
            for stored in self._tables.events[after_seq:]
            if stored.event.usage is not None and start <= stored.event.usage.ended_at < end
        )
        return list(found)[:limit]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[MemorySnapshot]:
        """Open a snapshot of everything."""
        yield MemorySnapshot(deepcopy(self._tables))

    def _holds(self, is_wanted: Callable[[HoldState], bool], limit: int) -> list[Hold]:
        found = [(hold.made_seq, hold_id, hold) for hold_id, hold in self._tables.holds.items() if is_wanted(hold)]
        return [hold.told(hold_id) for _, hold_id, hold in sorted(found, key=lambda it: it[0])[:limit]]


class MemoryBatch:
    """One transaction on the tables."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables
        self._changes: Changes | None = None

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists."""
        tables = self._tables
        operations = [tables.operations[name].event for name in wanted.operation_ids if name in tables.operations]
        holds = [(name, tables.holds[name]) for name in wanted.hold_ids if name in tables.holds]
        grants = [tables.grants[name] for name in wanted.grant_ids if name in tables.grants]
        account_ids = {*wanted.account_ids, *(h.account_id for _, h in holds), *(g.account_id for g in grants)}
        accounts = [tables.accounts[name] for name in sorted(account_ids) if name in tables.accounts]
        return Found(tables.head, operations, holds, accounts, grants)

    async def load_prices(self) -> PriceList:
        """Return the newest price list."""
        return self._tables.prices

    async def append(self, changes: Changes) -> bool:
        """Keep the changes until the transaction ends, unless the chain has moved."""
        tables = self._tables
        is_new = tables.operations.keys().isdisjoint(changes.absent_operation_ids)
        if tables.head != changes.base or not is_new or not tables.holds.keys().isdisjoint(changes.absent_hold_ids):
            return False
        self._changes = changes
        return True

    def commit(self) -> None:
        """Write what was appended."""
        changes, tables = self._changes, self._tables
        if changes is None:
            return
        for stored in changes.events:
            assert stored.event.operation_id not in tables.operations
            assert stored.event.seq == len(tables.events) + 1
            tables.events.append(stored)
            tables.operations[stored.event.operation_id] = stored
        tables.holds.update(changes.holds)
        tables.accounts.update({account.account_id: account for account in changes.accounts})
        tables.grants.update({grant.grant_id: grant for grant in changes.grants})
        if changes.prices:
            tables.prices = changes.prices[-1]
        tables.head = changes.head


class MemorySnapshot:
    """The Snapshot port on a copy of the tables."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def head(self) -> Head:
        """Return the end of the chain."""
        return self._tables.head

    async def events(self, *, after: int, limit: int) -> Sequence[EventRow]:
        """Return rows of events by seq."""
        return [_row(stored) for stored in self._tables.events[after : after + limit]]

    async def accounts(self, *, after: str, limit: int) -> Sequence[Account]:
        """Return accounts by id."""
        return [account for name, account in sorted(self._tables.accounts.items()) if name > after][:limit]

    async def holds(self, *, after: str, limit: int) -> Sequence[tuple[str, HoldState]]:
        """Return open holds by id."""
        return [(name, self._tables.holds[name]) for name in sorted(self._open()) if name > after][:limit]

    async def grants(self, *, after: str, limit: int) -> Sequence[GrantRecord]:
        """Return grants by id."""
        return [grant for name, grant in sorted(self._tables.grants.items()) if name > after][:limit]

    async def price_versions(self) -> Sequence[PriceList]:
        """Return every price list."""
        published = [stored.event for stored in self._tables.events if stored.event.rules]
        return [PriceList.of(event.price_version, event.rules) for event in published]

    async def resolutions(self, hold_ids: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Return the events that resolve the named holds."""
        wanted = set(hold_ids)
        rows = (_row(stored) for stored in self._tables.events)
        return [(row.hold_id, row.seq) for row in rows if row.kind in RESOLUTIONS and row.hold_id in wanted]

    async def repeated_operations(self, *, limit: int) -> Sequence[str]:
        """Return operation ids that more than one event has."""
        counts = Counter(stored.event.operation_id for stored in self._tables.events)
        return sorted(name for name, n in counts.items() if n > 1)[:limit]

    def _open(self) -> list[str]:
        return [hold_id for hold_id, hold in self._tables.holds.items() if hold.is_open]


def _row(stored: StoredEvent) -> EventRow:
    event = stored.event
    hold_id = event.hold_id if event.hold is not None else None
    return EventRow(
        event.seq,
        event.operation_id,
        event.kind,
        event.account_id,
        event.account_seq,
        hold_id,
        stored.body,
        stored.hash,
    )
