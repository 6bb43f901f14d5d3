"""The service's connections: some that commit events, others for the desk, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_store.postgres import migrate
from qraft_store.postgres_pools import Pools

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

SCHEMA: Final = "execution"
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# One event at a time, the outbox relay, and a kill switch read beside them.
_N_TRADE: Final = 4
_N_DESK: Final = 2


class Database:
    """Two pools on one address, opened at start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools = Pools(dsn, service="svc_execution")
        self._hot = self._pools.keep("trade")

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        await self._pools.open("trade", max_size=_N_TRADE)
        await self._pools.open("desk", max_size=_N_DESK)

    def hot(self) -> AbstractAsyncContextManager[PoolConnectionProxy[asyncpg.Record]]:
        """Lend the one connection of the hot path; an event has five round trips, taking it anew would add two."""
        return self._hot.use()

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        await self._pools.close()

    @property
    def trade(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of the hot path. Raises Transient before `open`."""
        return self._pools["trade"]

    @property
    def desk(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of the desk's reads. Raises Transient before `open`."""
        return self._pools["desk"]
