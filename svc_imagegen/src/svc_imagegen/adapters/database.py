"""The service's connections: some that commit jobs, some that read, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres import create_pool, is_open, migrate

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

SCHEMA: Final = "imagegen"
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# Accepting, steps of known and of locked jobs, the outbox relay, the sweeper's turn and the listener each hold one.
_N_WRITE: Final = 7
_N_READ: Final = 6


class Database:
    """Two pools on one address, opened at start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}
        self._kept: list[Kept] = []

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        for name, size in (("write", _N_WRITE), ("read", _N_READ)):
            # Who reads leaves nothing behind in a session that would have to be put back.
            self._pools[name] = await create_pool(
                self._dsn, max_size=size, application_name=f"svc_imagegen {name}", is_stateless=name == "read"
            )

    def kept(self) -> Kept:
        """Return a connection of the writing pool for one user, who keeps it until the end."""
        self._kept.append(Kept(self))
        return self._kept[-1]

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        for kept in self._kept:
            await kept.give_back()
        while self._pools:
            await self._pools.popitem()[1].close()

    @property
    def write(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool that commits. Raises Transient before `open`."""
        return self._pool("write")

    @property
    def read(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool that reads. Raises Transient before `open`."""
        return self._pool("read")

    def _pool(self, name: str) -> asyncpg.Pool[asyncpg.Record]:
        pool = self._pools.get(name)
        if pool is None:
            raise Transient("starting", "the service is not connected to its database yet")
        return pool


class Kept:
    """
    One connection, kept between uses: taking one from the pool and giving it back costs two round trips.

    After any error it is given back, and the next use takes another.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Lend the connection to one user at a time."""
        async with self._lock:
            if self._connection is None or not is_open(self._connection):
                await self.give_back()
                self._connection = await self._stack.enter_async_context(self._database.write.acquire())
            is_whole = False
            try:
                yield self._connection
                is_whole = True
            finally:
                if not is_whole:
                    await self.give_back()

    async def give_back(self) -> None:
        """Return the connection to the pool, if there is one."""
        self._connection = None
        await self._stack.aclose()
