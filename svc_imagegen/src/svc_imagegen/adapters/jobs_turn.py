"""The right to sweep, as an advisory lock: it ends with its connection, so no crash can keep it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from qraft_store.postgres import is_open
from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters.database import Database

_TAKE: Final = "SELECT pg_try_advisory_lock(hashtext('imagegen.sweep'))"
_GIVE: Final = "SELECT pg_advisory_unlock(hashtext('imagegen.sweep'))"


class PostgresTurn:
    """The Turn port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def take(self) -> AsyncIterator[bool]:
        """Hold the turn while the block runs; False: another process has it."""
        async with AsyncExitStack() as stack:
            with as_transient():
                connection = await stack.enter_async_context(self._database.write.acquire())
                is_ours = bool(await connection.fetchval(_TAKE))
            try:
                yield is_ours
            finally:
                # A connection that was lost meanwhile took the lock with it.
                if is_ours and is_open(connection):
                    with as_transient():
                        await connection.execute(_GIVE)
