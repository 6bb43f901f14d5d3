"""The hot connection comes back by itself after the server was away."""

import asyncio

import asyncpg
import pytest
from tests.kit.servers import postgres_server

from svc_execution.adapters.database import Database

pytestmark = pytest.mark.postgres

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def test_hot_connection_comes_back_after_uses_in_vain_while_the_server_was_away():
    with postgres_server() as server, server.fresh_database() as dsn:
        database = Database(dsn)
        await database.open()
        async with database.hot() as connection:
            await connection.execute("select 1")

        server.crash()
        for _ in range(3):  # each finds the idle connection closed and no server to connect to
            await asyncio.sleep(0.1)
            with pytest.raises(AWAY):
                async with database.hot() as connection:
                    await connection.execute("select 1")
        server.start()

        async with database.hot() as connection:
            assert await connection.fetchval("select 1") == 1
        await database.close()
