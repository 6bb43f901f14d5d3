"""The ledger in PostgreSQL: a batch is written by one statement, which is its own transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from qraft_store.postgres_pools import as_transient
from svc_billing.adapters import postgres_sql
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres_rows import (
    append_arguments,
    found_of,
    grant_columns,
    lines,
    prices_of,
    rules_text,
)
from svc_billing.domain.prices import NO_PRICES, PriceList
from svc_billing.ports import Changes, Found, Wanted

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


class PostgresStore:
    """The LedgerStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prepared: tuple[Changes, list[Any]] | None = None

    def prepare(self, changes: Changes) -> None:
        """Encode a batch, which takes a quarter of its time in this process, while the one before is being written."""
        self._prepared = (changes, append_arguments(changes))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[PostgresBatch]:
        """Let one batch in at a time, over all replicas. Raises Transient: postgres_away."""
        with as_transient():
            async with self._database.hot() as connection, connection.transaction():
                await connection.execute(postgres_sql.ENTER)
                yield PostgresBatch(connection)

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists and the end of the chain, in one snapshot. Raises Transient: postgres_away."""
        with as_transient():
            async with self._database.hot() as connection:
                return await PostgresBatch(connection).load(wanted)

    async def load_prices(self) -> PriceList:
        """Return the newest price list. Raises Transient: postgres_away."""
        with as_transient():
            async with self._database.hot() as connection:
                return await PostgresBatch(connection).load_prices()

    async def append(self, changes: Changes) -> bool:
        """Write a batch and commit it, unless the chain has moved. Raises Transient: postgres_away."""
        prepared, self._prepared = self._prepared, None
        arguments = prepared[1] if prepared is not None and prepared[0] is changes else None
        with as_transient():
            async with self._database.hot() as connection:
                batch = PostgresBatch(connection, arguments)
                if not (changes.grants or changes.prices):
                    return await batch.append(changes)
                async with connection.transaction():
                    return await batch.append(changes)


class PostgresBatch:
    """The Writing port on one connection."""

    def __init__(self, connection: Connection, arguments: list[Any] | None = None) -> None:
        self._connection = connection
        self._arguments = arguments  # of the batch to be appended, if they are prepared

    async def load(self, wanted: Wanted) -> Found:
        """Return what exists, with the accounts of the holds and grants that were found."""
        rows = await self._connection.fetch(
            postgres_sql.LOAD,
            lines(wanted.operation_ids),
            lines(wanted.hold_ids),
            lines(wanted.account_ids),
            lines(wanted.grant_ids),
        )
        return found_of(rows)

    async def load_prices(self) -> PriceList:
        """Return the newest price list."""
        row = await self._connection.fetchrow(postgres_sql.PRICES)
        return prices_of(row) if row is not None else NO_PRICES

    async def append(self, changes: Changes) -> bool:
        """Write the events and what they changed, unless the chain has moved. What is rare is written behind that."""
        connection = self._connection
        arguments = self._arguments or append_arguments(changes)
        if await connection.fetchval(postgres_sql.APPEND, *arguments) != 1:
            return False
        if changes.grants:
            await connection.execute(postgres_sql.WRITE_GRANTS, *grant_columns(changes.grants))
        for prices in changes.prices:
            seq = next(it.event.seq for it in changes.events if it.event.price_version == prices.version)
            await connection.execute(postgres_sql.WRITE_PRICES, prices.version, seq, rules_text(prices))
        return True
