"""A ledger on a store of one's choice, with short ways to send it commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

from qraft_contracts.billing import (
    Balance,
    BillingReply,
    DisputeHold,
    PricedItem,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_runtime.clock import FixedClock
from svc_billing.adapters.database import Database
from svc_billing.adapters.memory import MemoryStore
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.adapters.postgres_reader import PostgresReader
from svc_billing.adapters.postgres_verify import PostgresSnapshots
from svc_billing.domain.commands import GrantCredits, OpenAccount, PublishPrices, RefundSettlement
from svc_billing.domain.prices import PriceRule
from svc_billing.ports import LedgerReader, LedgerStore, SnapshotStore
from svc_billing.usecases.ledger import Ledger
from svc_billing.usecases.verify import Report, Verify

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SHA = "a" * 64
ITEM = PricedItem("simulated", "m", "generation", "1024x1024", "low", 1)
# One micro-credit a picture, so that n is the amount.
RULES = (
    PriceRule("simulated", "m", "generation", "1024x1024", "low", 1),
    PriceRule("simulated", "m", "edit", "1024x1024", "low", 7, 2),
)


def item(amount: int) -> PricedItem:
    """Return a call that costs at most 10,000 micro-credits, by rules that `Books.publish` publishes."""
    return PricedItem("simulated", f"m{amount}", "generation", "1024x1024", "low", 1)


def rules(*amounts: int) -> tuple[PriceRule, ...]:
    """Return a price list with a model a price."""
    return RULES + tuple(
        PriceRule("simulated", f"m{amount}", "generation", "1024x1024", "low", amount) for amount in amounts
    )


PRICES = (0, 5, 10, 20, 30, 40, 50, 60, 100, 250, 1000)


@dataclass(slots=True)
class Books:
    """A ledger that runs, its store and its clock."""

    ledger: Ledger
    store: LedgerStore
    reader: LedgerReader
    snapshots: SnapshotStore
    clock: FixedClock
    numbers: count[int]
    dsn: str | None = None

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self.numbers)}"

    async def account(self, account_id: str = "acme", *, granted: int = 0, prices: tuple[int, ...] = PRICES) -> str:
        """Open an account with one paid grant and publish prices."""
        await self.ok(OpenAccount(f"open/{account_id}", account_id, "test", "ann"))
        if granted:
            await self.grant(account_id, granted)
        if (await self.reader.prices()).version == 0:
            await self.ok(PublishPrices(self.new_id("prices"), rules(*prices), "ann"))
        return account_id

    async def grant(
        self,
        account_id: str,
        amount: int,
        *,
        grant_id: str | None = None,
        category: str = "paid",
        priority: int = 0,
        expires_in_s: float | None = None,
    ) -> str:
        grant_id = grant_id or self.new_id("grant")
        ends = self.clock.at + timedelta(seconds=expires_in_s) if expires_in_s is not None else None
        await self.ok(
            GrantCredits(f"give/{grant_id}", account_id, grant_id, category, amount, priority, ends, "test", "ann")
        )
        return grant_id

    async def send(self, command: object) -> BillingReply:
        return await self.ledger.submit(command)  # type: ignore[arg-type]

    async def ok(self, command: object) -> BillingReply:
        reply = await self.send(command)
        assert reply.outcome == "ok", reply
        return reply

    async def reserve(self, hold_id: str, amount: int, account_id: str = "acme", *, lease_s: int = 600) -> BillingReply:
        return await self.send(reserve(hold_id, amount, account_id, lease_s=lease_s))

    async def settle(self, hold_id: str, amount: int, *, operation_id: str | None = None) -> BillingReply:
        return await self.send(settle(hold_id, amount, operation_id=operation_id))

    async def void(self, hold_id: str, account_id: str = "acme", *, operation_id: str | None = None) -> BillingReply:
        return await self.send(void(hold_id, account_id, operation_id=operation_id))

    async def balance(self, account_id: str = "acme") -> tuple[int, int, int, int]:
        """Return available, held, spent, shortfall."""
        account = await self.reader.account(account_id)
        assert account is not None
        it = account.balances
        return it.available, it.held, it.spent, it.shortfall

    async def verify(self) -> Report:
        return await Verify(self.snapshots)()

    async def check(self) -> None:
        report = await self.verify()
        assert report.holds, report.violations


def reserve(hold_id: str, amount: int, account_id: str = "acme", *, lease_s: int = 600) -> ReserveCredits:
    return ReserveCredits(f"reserve/{hold_id}", account_id, hold_id, item(amount), lease_s, f"job/{hold_id}")


def settle(hold_id: str, amount: int, *, operation_id: str | None = None) -> SettleHold:
    return SettleHold(operation_id or f"settle/{hold_id}", hold_id, amount, (SHA,))


def void(hold_id: str, account_id: str = "acme", *, operation_id: str | None = None) -> VoidHold:
    return VoidHold(operation_id or f"void/{hold_id}", hold_id, account_id, "test")


def dispute(hold_id: str) -> DisputeHold:
    return DisputeHold(f"dispute/{hold_id}", hold_id, "the provider did not answer")


def late(hold_id: str, amount: int) -> RecordLateSuccess:
    return RecordLateSuccess(f"late/{hold_id}", hold_id, amount, (SHA,))


def failing(hold_id: str, n_attempts: int = 3) -> RecordRefundFailure:
    return RecordRefundFailure(f"failing/{hold_id}/{n_attempts}", hold_id, n_attempts, "billing was away")


def refund(hold_id: str, amount: int, *, operation_id: str | None = None) -> RefundSettlement:
    return RefundSettlement(operation_id or f"refund/{hold_id}", hold_id, amount, "unhappy", "ann")


def told(balance: Balance | None) -> tuple[int, int, int, int]:
    assert balance is not None
    return (
        balance.available_microcredits, balance.held_microcredits, balance.spent_microcredits,
        balance.shortfall_microcredits,
    )  # fmt: skip


@asynccontextmanager
async def memory_books(**options: int) -> AsyncIterator[Books]:
    """A ledger on the twin."""
    store, clock = MemoryStore(), FixedClock(NOW)
    ledger = Ledger(store, clock=clock, **options)
    async with running(ledger):
        yield Books(ledger, store, store, store, clock, count(1))


@asynccontextmanager
async def postgres_books(dsn: str, **options: int) -> AsyncIterator[Books]:
    """A ledger on a real PostgreSQL."""
    database, clock = Database(dsn), FixedClock(NOW)
    await database.open()
    store = PostgresStore(database)
    ledger = Ledger(store, clock=clock, **options)
    try:
        async with running(ledger):
            yield Books(ledger, store, PostgresReader(database), PostgresSnapshots(database), clock, count(1), dsn)
    finally:
        await database.close()


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[None]:
    """Run a ledger's loop, and show what ended it if that was no cancellation."""
    task = asyncio.create_task(ledger.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()
