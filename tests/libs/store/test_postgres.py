"""Pools and migrations on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import psycopg
import pytest

from qraft_store.postgres import create_pool, migrate

pytestmark = pytest.mark.postgres

ORDERS = """
CREATE TABLE orders (id text PRIMARY KEY);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append only; % refused', TG_OP;
END $$;
CREATE TRIGGER orders_append_only BEFORE UPDATE ON orders EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_orders.sql").write_text(ORDERS)
    return folder


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT schemaname || '.' || tablename FROM pg_tables").fetchall()
    return {row[0] for row in rows if not row[0].startswith(("pg_catalog.", "information_schema."))}


def test_tables_and_bookkeeping_stay_inside_the_schema(postgres_dsn: str, migrations: Path) -> None:
    applied = migrate(postgres_dsn, schema="execution", migrations=migrations)

    assert applied == ("0001_orders",)
    assert "execution.orders" in tables(postgres_dsn)
    assert all(name.startswith("execution.") for name in tables(postgres_dsn))


def test_second_run_applies_only_what_is_new(postgres_dsn: str, migrations: Path) -> None:
    migrate(postgres_dsn, schema="execution", migrations=migrations)
    (migrations / "0002_fills.sql").write_text("CREATE TABLE fills (id text PRIMARY KEY);")

    assert migrate(postgres_dsn, schema="execution", migrations=migrations) == ("0002_fills",)
    assert migrate(postgres_dsn, schema="execution", migrations=migrations) == ()


def test_two_schemas_with_equal_file_names_do_not_see_each_other(postgres_dsn: str, migrations: Path) -> None:
    migrate(postgres_dsn, schema="execution", migrations=migrations)

    assert migrate(postgres_dsn, schema="registry", migrations=migrations) == ("0001_orders",)
    assert {"execution.orders", "registry.orders"} <= tables(postgres_dsn)


async def test_processes_that_migrate_at_once_apply_each_file_once(postgres_dsn: str, migrations: Path) -> None:
    runs = await asyncio.gather(
        *(asyncio.to_thread(migrate, postgres_dsn, schema="execution", migrations=migrations) for _ in range(4))
    )

    assert sorted(runs) == [(), (), (), ("0001_orders",)]


def test_failed_file_leaves_nothing_behind_and_is_tried_again(postgres_dsn: str, migrations: Path) -> None:
    bad = migrations / "0002_bad.sql"
    bad.write_text("CREATE TABLE half (id int);\nCREATE TABEL typo (id int);")
    with pytest.raises(psycopg.errors.SyntaxError):
        migrate(postgres_dsn, schema="execution", migrations=migrations)
    assert "execution.half" not in tables(postgres_dsn)

    bad.write_text("CREATE TABLE half (id int);")

    assert migrate(postgres_dsn, schema="execution", migrations=migrations) == ("0002_bad",)


def test_lock_row_of_a_killed_process_does_not_block(postgres_dsn: str, migrations: Path) -> None:
    migrate(postgres_dsn, schema="execution", migrations=migrations)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("INSERT INTO execution.yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")

    assert migrate(postgres_dsn, schema="execution", migrations=migrations) == ()


def test_folder_without_migrations_and_odd_schema_names_are_refused(postgres_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found none"):
        migrate(postgres_dsn, schema="execution", migrations=tmp_path)
    with pytest.raises(ValueError, match="schema name"):
        migrate(postgres_dsn, schema='x"; DROP', migrations=tmp_path)


async def test_pool_names_itself_and_ends_statements_that_hang(postgres_dsn: str) -> None:
    async with await create_pool(postgres_dsn, max_size=2, application_name="svc_execution") as pool:
        assert await pool.fetchval("SHOW application_name") == "svc_execution"
        assert await pool.fetchval("SHOW statement_timeout") == "30s"
        assert await pool.fetchval("SHOW lock_timeout") == "10s"
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = '20ms'")
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute("SELECT pg_sleep(5)")


async def test_a_stateless_pool_saves_the_reset_and_still_rolls_back(postgres_dsn: str) -> None:
    for is_stateless in (True, False):
        pool = await create_pool(postgres_dsn, max_size=1, is_stateless=is_stateless)
        connection = await pool.acquire()
        await connection.execute("SET search_path = elsewhere")
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE public.lost (id text)")
        await pool.release(connection)

        assert await pool.fetchval("SELECT to_regclass('public.lost')") is None
        assert (await pool.fetchval("SHOW search_path") == "elsewhere") == is_stateless
        await pool.close()
