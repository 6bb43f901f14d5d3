"""The whole ledger at one instant, page by page, for its verification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_store.postgres_pools import as_transient
from svc_billing.adapters import postgres_sql
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres_rows import account_of, grant_of, lines, open_hold_of, prices_of
from svc_billing.domain.prices import PriceList
from svc_billing.domain.replay import EventRow
from svc_billing.domain.state import Account, GrantRecord, HoldState
from svc_billing.ports import Head

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

_EVENTS: Final = """
SELECT seq, operation_id, kind, account_id, account_seq, hold_id, body, hash FROM billing.events
WHERE seq > $1 ORDER BY seq LIMIT $2
"""
_RESOLUTIONS: Final = """
SELECT hold_id, seq FROM billing.events
WHERE hold_id = ANY(string_to_array($1, E'\\n')) AND kind IN ('hold_settled', 'hold_voided', 'hold_expired')
"""
_REPEATED: Final = "SELECT operation_id FROM billing.events GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT $1"


def _by_key(columns: Sequence[str], table: str) -> str:
    return f"SELECT {', '.join(columns)} FROM billing.{table} WHERE {columns[0]} > $1 ORDER BY 1 LIMIT $2"  # noqa: S608


_ACCOUNTS: Final = _by_key(postgres_sql.ACCOUNT_COLUMNS, "accounts")
_HOLDS: Final = _by_key(postgres_sql.OPEN_HOLD_COLUMNS, "holds")
_GRANTS: Final = _by_key(postgres_sql.GRANT_COLUMNS, "grants")


class PostgresSnapshots:
    """The SnapshotStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        """Open a snapshot: one read-only transaction."""
        with as_transient():
            async with (
                self._database.read.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield PostgresSnapshot(connection)


class PostgresSnapshot:
    """The Snapshot port on a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def head(self) -> Head:
        """Return the end of the chain as it is stored."""
        row = await self._connection.fetchrow("SELECT seq, hash, price_version FROM billing.head")
        assert row is not None, "billing.head has no row: the first migration inserts it"
        return Head(*row)

    async def events(self, *, after: int, limit: int) -> Sequence[EventRow]:
        """Return rows of events by seq, as they stand."""
        return [EventRow(*row) for row in await self._connection.fetch(_EVENTS, after, limit)]

    async def accounts(self, *, after: str, limit: int) -> Sequence[Account]:
        """Return accounts by id, reserved ones too."""
        return [account_of(row) for row in await self._connection.fetch(_ACCOUNTS, after, limit)]

    async def holds(self, *, after: str, limit: int) -> Sequence[tuple[str, HoldState]]:
        """Return open holds by id."""
        return [open_hold_of(row) for row in await self._connection.fetch(_HOLDS, after, limit)]

    async def grants(self, *, after: str, limit: int) -> Sequence[GrantRecord]:
        """Return grants by id."""
        return [grant_of(row) for row in await self._connection.fetch(_GRANTS, after, limit)]

    async def price_versions(self) -> Sequence[PriceList]:
        """Return every price list."""
        rows = await self._connection.fetch("SELECT version, rules FROM billing.price_versions ORDER BY version")
        return [prices_of(row) for row in rows]

    async def resolutions(self, hold_ids: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Return the events that resolve the named holds."""
        if not hold_ids:
            return []
        return [(row[0], row[1]) for row in await self._connection.fetch(_RESOLUTIONS, lines(hold_ids))]

    async def repeated_operations(self, *, limit: int) -> Sequence[str]:
        """Return operation ids that more than one event has."""
        # A grouping of the whole table may take longer than any statement of the service may.
        await self._connection.execute("SET LOCAL statement_timeout = 0")
        return [row[0] for row in await self._connection.fetch(_REPEATED, limit, timeout=_REPEATED_TIMEOUT_S)]


_REPEATED_TIMEOUT_S: Final = 3_600.0
