"""The service's connections: some that commit events, others for the desk, so that neither waits for the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg

from qraft_contracts.outcomes import Transient
from qraft_store.postgres import create_pool, migrate

SCHEMA: Final = "execution"
_MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
# One event at a time, the outbox relay, and a kill switch read beside them.
_N_TRADE: Final = 4
_N_DESK: Final = 2


class Database:
    """Two pools on one address, opened at start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}

    async def open(self) -> None:
        """
        Bring the schema up to date and connect.

        Raises:
            OSError: if the server cannot be reached.
        """
        await asyncio.to_thread(migrate, self._dsn, schema=SCHEMA, migrations=_MIGRATIONS)
        for name, size in (("trade", _N_TRADE), ("desk", _N_DESK)):
            self._pools[name] = await create_pool(self._dsn, max_size=size, application_name=f"svc_execution {name}")

    async def close(self) -> None:
        """Disconnect. Safe before `open`."""
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
