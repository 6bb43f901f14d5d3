"""The ledger in PostgreSQL: one transaction a batch, loaded and written set by set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from qraft_contracts.outcomes import Transient
from svc_billing.adapters import postgres_sql
from svc_billing.adapters.database import SCHEMA, Database
from svc_billing.adapters.postgres_errors import as_transient
from svc_billing.adapters.postgres_rows import (
    account_columns,
    account_of,
    event_rows,
    grant_columns,
    grant_of,
    hold_rows,
    lines,
    open_hold_of,
    prices_of,
    resolved_hold_of,
    rules_text,
)
from svc_billing.domain.events import decode_event
from svc_billing.domain.prices import NO_PRICES, PriceList
from svc_billing.ports import Changes, Found, Head, Wanted

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


class PostgresStore:
    """The LedgerStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[PostgresBatch]:
        """Let one batch in at a time, over all replicas. Raises Transient: postgres_away."""
        with as_transient():
            async with self._database.hot() as connection, connection.transaction():
                row = await connection.fetchrow(postgres_sql.ENTER)
                assert row is not None, "billing.head has no row: the first migration inserts it"
                yield PostgresBatch(connection, Head(row["seq"], row["hash"], row["price_version"]))


class PostgresBatch:
    """One transaction, which holds the lock on the head of the chain."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._head = head

    @property
    def head(self) -> Head:
        """Return the end of the chain."""
        return self._head

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists, with the accounts of the holds and grants that were found."""
        operations = await self._rows(postgres_sql.OPERATIONS, wanted.operation_ids)
        holds = [open_hold_of(row) for row in await self._rows(postgres_sql.HOLDS, wanted.hold_ids)]
        are_open = {hold_id for hold_id, _ in holds}
        others = [hold_id for hold_id in wanted.hold_ids if hold_id not in are_open]
        holds += [resolved_hold_of(row) for row in await self._rows(postgres_sql.RESOLVED_HOLDS, others)]
        grants = [grant_of(row) for row in await self._rows(postgres_sql.GRANTS, wanted.grant_ids)]
        account_ids = {*wanted.account_ids}
        account_ids.update([hold.account_id for _, hold in holds], [grant.account_id for grant in grants])
        accounts = await self._rows(postgres_sql.ACCOUNTS, tuple(account_ids))
        return Found(
            operations=[decode_event(row[0]) for row in operations],
            holds=holds,
            accounts=[account_of(row) for row in accounts],
            grants=grants,
        )

    async def load_prices(self) -> PriceList:
        """Return the newest price list."""
        row = await self._connection.fetchrow(postgres_sql.PRICES)
        return prices_of(row) if row is not None else NO_PRICES

    async def append(self, changes: Changes) -> None:
        """Write the events and what they changed."""
        connection, head = self._connection, changes.head
        # Rows of holds that were there before this batch go, those of holds that are open now come.
        gone = [hold_id for hold_id, hold in changes.holds if hold.made_seq <= self._head.seq]
        left = [(hold_id, hold) for hold_id, hold in changes.holds if hold.is_open]
        n_moved = await connection.fetchval(
            postgres_sql.MOVE,
            head.seq,
            head.hash,
            head.price_version,
            self._head.seq,
            *account_columns(changes.accounts),
            lines(gone),
        )
        if n_moved != 1:
            raise Transient("ledger_moved", f"expected the chain to end at event {self._head.seq}")
        await self._copy("events", postgres_sql.EVENT_COLUMNS, event_rows(changes.events))
        if left:
            await self._copy("holds", postgres_sql.OPEN_HOLD_COLUMNS, hold_rows(left))
        if changes.grants:
            await connection.execute(postgres_sql.WRITE_GRANTS, *grant_columns(changes.grants))
        for prices in changes.prices:
            seq = next(it.event.seq for it in changes.events if it.event.price_version == prices.version)
            await connection.execute(postgres_sql.WRITE_PRICES, prices.version, seq, rules_text(prices))

    async def _rows(self, statement: str, ids: Sequence[str]) -> list[asyncpg.Record]:
        return await self._connection.fetch(statement, lines(ids)) if ids else []

    async def _copy(self, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        await self._connection.copy_records_to_table(table, schema_name=SCHEMA, columns=columns, records=rows)
