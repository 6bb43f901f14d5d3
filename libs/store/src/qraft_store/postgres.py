"""PostgreSQL: connection pools with timeouts, and versioned SQL migrations, one schema a service."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import asyncpg
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

CONNECT_TIMEOUT_S: Final = 10
# The longest statement of any service writes one bar's journal (milliseconds); 30 s means the server is stuck.
STATEMENT_TIMEOUT_S: Final = 30
LOCK_TIMEOUT_S: Final = 10
# A transaction is one event; one that idles holds locks that the next event needs.
IDLE_TRANSACTION_TIMEOUT_S: Final = 60
# Migrations of several services start together on a fresh machine and wait for one another.
MIGRATION_LOCK_TIMEOUT_S: Final = 120

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


async def create_pool(
    dsn: str, *, max_size: int, application_name: str = "qraft", is_stateless: bool = False
) -> asyncpg.Pool[asyncpg.Record]:
    """
    Open a pool whose every statement, lock wait and idle transaction ends in bounded time.

    The caller closes it. Connections open on first use beyond the first one.

    is_stateless: no user changes its session (SET, LISTEN, session locks, WITH HOLD), so that a connection needs no
    round trip to put it back, which costs more than a read by key.

    Raises:
        OSError: if the server cannot be reached.
        asyncpg.PostgresError: if it refuses the log-in.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_S,
        # The server's own timeout ends a statement first, with an error that names it.
        command_timeout=STATEMENT_TIMEOUT_S + 5,
        server_settings={
            "application_name": application_name,
            "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_TIMEOUT_S}s",
            "timezone": "UTC",
        },
        reset=_leave_as_it_is if is_stateless else None,
    )


async def _leave_as_it_is(_connection: object) -> None:
    """Stand in for the reset of a session; an open transaction is rolled back all the same."""


def is_open(connection: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]) -> bool:
    """Return whether a kept connection can be used. The pool takes back one whose server went away while it idled."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False


def migrate(dsn: str, *, schema: str, migrations: Path) -> tuple[str, ...]:
    """
    Bring a schema up to date and return the ids of the migrations that were applied now, in order.

    Statements run with the schema as their search path; yoyo's own tables live in the schema too. Safe to call
    from several processes at once: one works, the others wait and then find nothing to do.

    Args:
        dsn: any libpq form, such as `postgresql://postgres@/db?host=/run/pg`.
        schema: created when missing.
        migrations: folder of `NNNN_name.sql` files; an applied file is never edited, a new one is added.

    Raises:
        ValueError: if the schema name is no plain identifier or the folder holds no migration.
        psycopg.Error: if the server cannot be reached or a statement fails; that file's changes are rolled back.
    """
    if not _SCHEMA_NAME.fullmatch(schema):
        raise ValueError(f"expected a schema name such as execution, received {schema!r}")
    found = read_migrations(str(migrations))
    if not found:
        raise ValueError(f"expected .sql migrations in {migrations}, found none: is the package installed whole?")
    with psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as guard:
        # An advisory lock ends with its connection. yoyo's own lock is a row that outlives a killed process, so
        # whatever row is found under our lock is such a leftover.
        guard.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{MIGRATION_LOCK_TIMEOUT_S}s")))
        guard.execute("SELECT pg_advisory_lock(hashtext('qraft.migrate'))")
        guard.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        return _apply(_backend(dsn, schema), found)


def _apply(backend: _Backend, found: Any) -> tuple[str, ...]:
    with backend:
        backend.init_database()
        backend.break_lock()
        with backend.lock():
            pending = backend.to_apply(found)
            ids = tuple(migration.id for migration in pending)
            backend.apply_migrations(pending)
            # yoyo passes over a file that it cannot load.
            left = [migration.id for migration in backend.to_apply(found)]
        if left:
            raise ValueError(f"expected loadable migrations, could not load {left}: see the files' syntax")
    return ids


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo carries no types
    """yoyo's backend for psycopg 3, without its look-up of the user's and the machine's name."""

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, object]:
        """
        Return the row of yoyo's log.

        getpass.getuser fails for a container's user without a passwd entry, and getfqdn waits for a name server.
        """
        return {
            "id": str(uuid4()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": "qraft",
            "hostname": "",
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


def _backend(dsn: str, schema: str) -> _Backend:
    """Return a backend of the DSN as libpq reads it; yoyo's own parser keeps escapes in passwords."""
    parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    uri = DatabaseURI(
        scheme="postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        hostname=parts.pop("host", None),
        port=parts.pop("port", None),
        database=parts.pop("dbname", None),
        args={"connect_timeout": str(CONNECT_TIMEOUT_S)} | parts | {"schema": schema},
    )
    return _Backend(uri, "_yoyo_migration")
