"""A kept connection comes back by itself after the server was away, and an absent server is one word to its users."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest
from tests.kit.servers import postgres_server

from qraft_contracts.outcomes import Transient
from qraft_store.postgres_pools import Pools, as_transient

pytestmark = pytest.mark.postgres


async def test_kept_connection_comes_back_with_its_session_after_uses_in_vain_while_the_server_was_away():
    with postgres_server() as server, server.fresh_database() as dsn:
        pools = Pools(dsn, service="svc_test")
        kept = pools.keep("write", prelude="SET enable_seqscan = off")
        with pytest.raises(Transient, match="starting"):
            async with kept.use():
                pass
        await pools.open("write", max_size=1)
        async with kept.use() as connection:
            assert await connection.fetchval("SHOW enable_seqscan") == "off"

        server.crash()
        for _ in range(3):  # each finds the idle connection closed and no server to connect to
            await asyncio.sleep(0.1)
            with pytest.raises(Transient, match="postgres_away"), as_transient():
                async with kept.use() as connection:
                    await connection.execute("select 1")
        server.start()

        async with kept.use() as connection:
            assert await connection.fetchval("SHOW enable_seqscan") == "off"
        await pools.close()


async def test_session_that_could_not_be_set_up_is_not_used(postgres_dsn: str):
    pools = Pools(postgres_dsn, service="svc_test")
    await pools.open("write", max_size=1)
    kept = pools.keep("write", prelude="SELECT 1 FROM prepared")
    for _ in range(2):
        with pytest.raises(asyncpg.UndefinedTableError):
            async with kept.use():
                raise AssertionError("lent without what its session needs")
    async with pools["write"].acquire() as connection:  # the only one was given back
        await connection.execute("CREATE TABLE prepared ()")
    async with kept.use() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await pools.close()


async def test_session_ended_from_outside_is_a_transient_however_it_is_told(postgres_dsn: str):
    """The farewell and the next statement may cross; asyncpg then tells of its own confusion."""
    pools = Pools(postgres_dsn, service="svc_test")
    await pools.open("read", max_size=4)
    ended = 0
    for _ in range(20):
        async with pools["read"].acquire() as other:
            with suppress(Transient), as_transient():
                async with pools["read"].acquire() as connection:
                    pid = await connection.fetchval("SELECT pg_backend_pid()")
                    asking = asyncio.create_task(connection.fetchval("SELECT 1"))
                    await other.execute("SELECT pg_terminate_backend($1)", pid)
                    await asking
                    await connection.fetchval("SELECT 1")
                    ended -= 1
            ended += 1
    assert ended > 10
    await pools.close()
