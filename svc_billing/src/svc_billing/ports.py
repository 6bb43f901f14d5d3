"""What the use cases need from outside: a store that appends batches of events, and one that reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from qraft_contracts.billing import Hold
from svc_billing.domain.events import Event, StoredEvent
from svc_billing.domain.prices import PriceList
from svc_billing.domain.replay import EventRow
from svc_billing.domain.state import Account, GrantRecord, HoldState

# The longest answer of one read.
PAGE_MAX: Final = 1_000
OPEN_HOLDS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain. price_version: of the newest price list, 0 before the first."""

    seq: int
    hash: bytes
    price_version: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, without repeats. The accounts of found holds and grants come unasked."""

    operation_ids: Sequence[str] = ()
    hold_ids: Sequence[str] = ()
    account_ids: Sequence[str] = ()
    grant_ids: Sequence[str] = ()

    @property
    def is_something(self) -> bool:
        """Return whether anything is asked for."""
        return bool(self.operation_ids or self.hold_ids or self.account_ids or self.grant_ids)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of it, and the end of the chain, at one instant."""

    head: Head
    operations: Sequence[Event] = ()
    holds: Sequence[tuple[str, HoldState]] = ()
    accounts: Sequence[Account] = ()
    grants: Sequence[GrantRecord] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """
    New events in order, all of one instant, and what they changed, as it is now.

    base: the end of the chain that they were decided on. head: the end behind them. absent_operation_ids,
    absent_hold_ids: what the decision took for new without looking; if one of them exists, the decision is void.
    """

    base: Head
    head: Head
    absent_operation_ids: Sequence[str]
    absent_hold_ids: Sequence[str]
    events: Sequence[StoredEvent]
    holds: Sequence[tuple[str, HoldState]]
    accounts: Sequence[Account]
    grants: Sequence[GrantRecord]
    prices: Sequence[PriceList]


class Writing(Protocol):
    """Looks up and appends."""

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists of the named things. Raises Transient if the store is away."""
        ...

    async def load_prices(self) -> PriceList:
        """Return the newest price list. Raises Transient if the store is away."""
        ...

    async def append(self, changes: Changes) -> bool:
        """
        Write the events and what they changed, all or nothing, and return whether that was done.

        It is not done if the chain does not end at `changes.base`, or something exists that was taken for new.

        Raises:
            Transient: if the store is away; it may then have been done or not.
        """
        ...


class LedgerStore(Writing, Protocol):
    """The writing side. `append` is a transaction of its own, durable when it returns."""

    def prepare(self, changes: Changes) -> None:
        """Do ahead what `append` of these changes would do before it leaves the process. They may never be appended."""
        ...

    def begin(self) -> AbstractAsyncContextManager[Writing]:
        """
        Begin a transaction that is alone on the ledger; durable when the block ends, undone when the block raises.

        Raises:
            Transient: if the store is away; a transaction whose end raises it may have been committed or not.
        """
        ...


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """One column's sums over a span of time. n_cost_unknown: pieces of work whose provider told no cost."""

    column: str
    service: str
    n: int
    cpu_ms: int
    gpu_ms: int
    n_bytes: int
    provider_cost_microusd: int
    n_cost_unknown: int


class LedgerReader(Protocol):
    """The reading side. Every call is one consistent read; all raise Transient if the store is away."""

    async def account(self, account_id: str) -> Account | None:
        """Return one account, or None if there is none."""
        ...

    async def accounts(self, *, after: str = "", limit: int = PAGE_MAX) -> list[Account]:
        """Return customers' accounts by id, from behind `after`."""
        ...

    async def grants(self, account_id: str) -> list[GrantRecord]:
        """Return the grants of an account as they were made, oldest first, at most PAGE_MAX."""
        ...

    async def hold(self, hold_id: str) -> Hold | None:
        """Return one hold, or None if there is none."""
        ...

    async def holds_of(self, account_id: str, *, limit: int = PAGE_MAX) -> list[Hold]:
        """Return an account's open holds, oldest first."""
        ...

    async def open_holds(
        self, *, purpose_prefix: str, made_before: datetime, limit: int = OPEN_HOLDS_MAX
    ) -> list[Hold]:
        """Return open holds whose purpose starts with the prefix, made before an instant, oldest first."""
        ...

    async def overdue_holds(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return the ids of holds whose lease has ended, longest ended first."""
        ...

    async def overdue_grants(self, now: datetime, *, limit: int = OPEN_HOLDS_MAX) -> list[str]:
        """Return the ids of grants that have expired and are not closed, longest ended first."""
        ...

    async def events_of(
        self, account_id: str, *, after_account_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return an account's events in order, from behind `after_account_seq`."""
        ...

    async def events_after(self, seq: int, *, limit: int = PAGE_MAX) -> list[StoredEvent]:
        """Return the ledger's events in order, from behind `seq`."""
        ...

    async def head(self) -> Head:
        """Return the end of the chain."""
        ...

    async def prices(self) -> PriceList:
        """Return the newest price list; the empty version 0 before the first."""
        ...

    async def usage(self, *, start: datetime, end: datetime) -> list[UsageTotal]:
        """Return sums a column and service over usage whose work ended in [start, end)."""
        ...

    async def usage_events(
        self, *, start: datetime, end: datetime, after_seq: int = 0, limit: int = PAGE_MAX
    ) -> list[StoredEvent]:
        """Return usage events whose work ended in [start, end), in order of seq, from behind `after_seq`."""
        ...


class Snapshot(Protocol):
    """The whole store at one instant, in pages by key from behind `after`."""

    async def head(self) -> Head:
        """Return the end of the chain as it is stored."""
        ...

    async def events(self, *, after: int, limit: int) -> Sequence[EventRow]:
        """Return rows of events by seq, as they stand."""
        ...

    async def accounts(self, *, after: str, limit: int) -> Sequence[Account]:
        """Return accounts by id, reserved ones too."""
        ...

    async def holds(self, *, after: str, limit: int) -> Sequence[tuple[str, HoldState]]:
        """Return open holds by id."""
        ...

    async def grants(self, *, after: str, limit: int) -> Sequence[GrantRecord]:
        """Return grants by id."""
        ...

    async def price_versions(self) -> Sequence[PriceList]:
        """Return every price list."""
        ...

    async def resolutions(self, hold_ids: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Return the events that settle, void or expire the named holds, as hold id and seq."""
        ...

    async def repeated_operations(self, *, limit: int) -> Sequence[str]:
        """Return operation ids that more than one event has."""
        ...


class SnapshotStore(Protocol):
    """The verifying side."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Open a snapshot. Raises Transient if the store is away."""
        ...
