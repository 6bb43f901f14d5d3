"""What a service that lives on PostgreSQL needs beside a pool: several pools, a kept connection, an absent server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres import create_pool, is_open

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# A server that stops, starts, fails over or is overloaded. Anything else it says is a bug of ours and surfaces.
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    # What asyncpg says when the server's farewell and our next statement cross (seen after pg_terminate_backend).
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


@contextmanager
def as_transient(reason: str = "postgres_away") -> Iterator[None]:
    """
    Translate the errors of an absent database.

    Raises:
        Transient: with the reason.
    """
    try:
        yield
    except _AWAY as error:
        raise Transient(reason, f"{type(error).__name__}: {error}") from error


class Pools:
    """Named pools on one address, so that users of one do not wait for users of another."""

    def __init__(self, dsn: str, *, service: str) -> None:
        self._dsn = dsn
        self._service = service
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}
        self._kept: list[Kept] = []

    async def open(self, name: str, *, max_size: int, is_stateless: bool = False) -> None:
        """
        Connect one pool; is_stateless as `create_pool` has it.

        Raises:
            OSError: if the server cannot be reached.
        """
        self._pools[name] = await create_pool(
            self._dsn, max_size=max_size, application_name=f"{self._service} {name}", is_stateless=is_stateless
        )

    def __getitem__(self, name: str) -> asyncpg.Pool[asyncpg.Record]:
        """Return an open pool. Raises Transient before `open`."""
        pool = self._pools.get(name)
        if pool is None:
            raise Transient("starting", "the service is not connected to its database yet")
        return pool

    def keep(self, name: str, *, prelude: str = "") -> Kept:
        """Return a connection of the pool for one user, who keeps it until `close`. prelude: SQL of its session."""
        self._kept.append(Kept(self, name, prelude))
        return self._kept[-1]

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        for kept in self._kept:
            await kept.give_back()
        while self._pools:
            await self._pools.popitem()[1].close()


class Kept:
    """
    One connection, kept between uses: taking one from the pool and giving it back costs two round trips.

    After any error it is given back, which ends its transaction, and the next use takes another.
    """

    def __init__(self, pools: Pools, name: str, prelude: str) -> None:
        self._pools = pools
        self._name = name
        self._prelude = prelude
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Lend the connection to one user at a time."""
        async with self._lock:
            is_whole = False
            try:
                if self._connection is None or not is_open(self._connection):
                    await self.give_back()
                    self._connection = await self._stack.enter_async_context(self._pools[self._name].acquire())
                    if self._prelude:
                        await self._connection.execute(self._prelude)
                yield self._connection
                is_whole = True
            finally:
                if not is_whole:
                    await self.give_back()

    async def give_back(self) -> None:
        """Return the connection to its pool, if there is one."""
        self._connection = None
        await self._stack.aclose()
