"""The service's connections: some that commit jobs, some that read, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg

from qraft_store.postgres import migrate
from qraft_store.postgres_pools import Kept, Pools

SCHEMA: Final = "imagegen"
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# Accepting, steps of known and of locked jobs, the outbox relay, the sweeper's turn and the listener each hold one.
_N_WRITE: Final = 7
_N_READ: Final = 6


class Database:
    """Two pools on one address, opened at start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools = Pools(dsn, service="svc_imagegen")

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        await self._pools.open("write", max_size=_N_WRITE)
        # Who reads leaves nothing behind in a session that would have to be put back.
        await self._pools.open("read", max_size=_N_READ, is_stateless=True)

    def kept(self) -> Kept:
        """Return a connection of the writing pool for one user, who keeps it until the end."""
        return self._pools.keep("write")

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
        await self._pools.close()

    @property
    def write(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool that commits. Raises Transient before `open`."""
        return self._pools["write"]

    @property
    def read(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool that reads. Raises Transient before `open`."""
        return self._pools["read"]
