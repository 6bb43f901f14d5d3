"""What only the database can promise: the history cannot be changed, not even by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.libs.registry.kit import NOW

from qraft_bus.outbox import TABLE_SQL
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_registry.domain import Action, Slot, Stage
from qraft_registry.ports import Draft
from qraft_registry.postgres import MIGRATIONS, SCHEMA, PostgresRegistryStore
from qraft_store.postgres import create_pool, migrate

pytestmark = pytest.mark.postgres


def draft(action: Action = Action.CANDIDATE, stage: Stage = Stage.CANDIDATE, origin: Origin = Origin.REPLAY) -> Draft:
    return Draft(action, "m" + "0" * 16, Slot("all", "1h"), stage, "ada", "because", NOW, origin)


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    await asyncio.to_thread(migrate, postgres_dsn, schema=SCHEMA, migrations=MIGRATIONS)
    pool = await create_pool(postgres_dsn, max_size=2)
    yield pool
    await pool.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE registry.history SET actor = 'eve'",
        "DELETE FROM registry.history",
        "TRUNCATE registry.history",
    ],
)
async def test_history_cannot_be_changed(pool: asyncpg.Pool[asyncpg.Record], statement: str) -> None:
    store = PostgresRegistryStore(pool)
    await store.append([draft()], expected_seq=0)
    before = await store.decisions()

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await pool.execute(statement)

    assert await store.decisions() == before


@pytest.mark.parametrize(
    "forged",
    [
        draft(Action.ACTIVATED, Stage.QUALIFIED),
        draft(Action.ACTIVATED, Stage.PAPER, Origin.SIMULATED),
        draft(Action.ROLLED_BACK, Stage.PAPER, Origin.SIMULATED),
        draft(Action.REFUSED),
    ],
)
async def test_row_that_the_rules_forbid_is_refused_by_the_table(
    pool: asyncpg.Pool[asyncpg.Record], forged: Draft
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await PostgresRegistryStore(pool).append([forged], expected_seq=0)


async def test_closed_pool_is_transient(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.close()

    with pytest.raises(Transient, match="registry_unavailable"):
        await PostgresRegistryStore(pool).decisions()


async def test_outbox_table_is_that_of_the_bus(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute("CREATE SCHEMA fresh; " + TABLE_SQL.format(schema="fresh"))
    columns = """SELECT column_name, data_type, is_nullable, replace(column_default, table_schema || '.', '')
        FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'outbox' ORDER BY ordinal_position"""

    ours, theirs = await pool.fetch(columns, SCHEMA), await pool.fetch(columns, "fresh")

    assert ours == theirs and ours
