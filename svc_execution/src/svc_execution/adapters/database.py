"""The service's connections: some that commit events, others for the desk, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres import create_pool, is_open, migrate

SCHEMA: Final = "execution"
if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# One event at a time, the outbox relay, and a kill switch read beside them.
_N_TRADE: Final = 4
_N_DESK: Final = 2


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
        for name, size in (("trade", _N_TRADE), ("desk", _N_DESK)):
            self._pools[name] = await create_pool(self._dsn, max_size=size, application_name=f"svc_execution {name}")

    @asynccontextmanager
    async def hot(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """
        Lend the one connection of the hot path, to one user at a time.

        It is kept between uses: taking one from the pool and giving it back costs two round trips, of an event's
        five. After any error it is given back, and the next use takes another.
        """
        async with self._hot_lock:
            if self._hot is None or not is_open(self._hot):
                self._hot = None
                await self._hot_stack.aclose()
                self._hot = await self._hot_stack.enter_async_context(self.trade.acquire())
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
    def trade(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of the hot path. Raises Transient before `open`."""
        return self._pool("trade")

    @property
    def desk(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool of the desk's reads. Raises Transient before `open`."""
        return self._pool("desk")

    def _pool(self, name: str) -> asyncpg.Pool[asyncpg.Record]:
        pool = self._pools.get(name)
        if pool is None:
            raise Transient("starting", "the service is not connected to its database yet")
        return pool
