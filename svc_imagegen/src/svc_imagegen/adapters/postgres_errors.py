"""When the database is away, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from qraft_contracts.outcomes import Transient

# A server that stops, starts, fails over or is overloaded. Anything else it says is a bug of ours and surfaces.
_AWAY = (
    OSError,
    TimeoutError,
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
def as_transient() -> Iterator[None]:
    """
    Translate the errors of an absent database.

    Raises:
        Transient: postgres_away.
    """
    try:
        yield
    except _AWAY as error:
        raise Transient("postgres_away", f"{type(error).__name__}: {error}") from error
