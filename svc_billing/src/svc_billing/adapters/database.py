"""The service's connections: one that appends, others that read, so that neither waits for the other."""

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

SCHEMA: Final = "billing"
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# One batch at a time.
_N_WRITE: Final = 1
# Statements, sweeps, the relay, a verification.
_N_READ: Final = 6

# Every statement looks up by keys. A plan made while the tables were empty would scan them until statistics come.
_PLANS: Final = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan"


class Database:
    """Two pools on one address, opened at start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools = Pools(dsn, service="svc_billing")
        self._hot = self._pools.keep("write", prelude=_PLANS)

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        await self._pools.open("write", max_size=_N_WRITE)
        await self._pools.open("read", max_size=_N_READ)

    def hot(self) -> AbstractAsyncContextManager[PoolConnectionProxy[asyncpg.Record]]:
        """Lend the appending connection, to one user at a time."""
        return self._hot.use()

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        await self._pools.close()

    @property
    def read(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of reads. Raises Transient before `open`."""
        return self._pools["read"]
