"""The service's connections: one that appends, others that read, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres import create_pool, is_open, migrate

SCHEMA: Final = "billing"
if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

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
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}
        self._hot: PoolConnectionProxy[asyncpg.Record] | None = None
        self._hot_stack = AsyncExitStack()
        self._hot_lock = asyncio.Lock()

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        for name, size in (("write", _N_WRITE), ("read", _N_READ)):
            self._pools[name] = await create_pool(self._dsn, max_size=size, application_name=f"svc_billing {name}")

    @asynccontextmanager
    async def hot(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """
        Lend the appending connection, to one user at a time.

        It is kept between uses: taking one from the pool and giving it back costs two round trips. After any error it
        is given back, which ends its transaction, and the next use takes another.
        """
        async with self._hot_lock:
            if self._hot is None or not is_open(self._hot):
                self._hot = None
                await self._hot_stack.aclose()
                self._hot = await self._hot_stack.enter_async_context(self._pool("write").acquire())
                await self._hot.execute(_PLANS)
            is_whole = False
            try:
                yield self._hot
                is_whole = True
            finally:
                if not is_whole:
                    self._hot = None
                    await self._hot_stack.aclose()

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        self._hot = None
        await self._hot_stack.aclose()
        while self._pools:
            await self._pools.popitem()[1].close()

    @property
    def read(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of reads. Raises Transient before `open`."""
        return self._pool("read")

    def _pool(self, name: str) -> asyncpg.Pool[asyncpg.Record]:
        pool = self._pools.get(name)
        if pool is None:
            raise Transient("starting", "the service is not connected to its database yet")
        return pool
