"""What a `qraft` command needs of the running stack: its addresses, a bus connection, a database connection."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import nats
import nats.errors
from nats.aio.client import Client

from qraft_cli.stack.home import find_home
from qraft_cli.stack.state import StackState, is_alive, read_state

_CONNECT_TIMEOUT_S = 3


class NotRunning(RuntimeError):
    """There is nothing to talk to; the message says what to start."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are. local: the stack of this home, if it runs."""

    nats_url: str
    postgres_dsn: str
    desk_url: str
    local: StackState | None


def find_addresses() -> Addresses:
    """
    Return the addresses from QRAFT_NATS_URL and QRAFT_POSTGRES_DSN, else those of the stack of this home.

    Raises:
        NotRunning: if neither names a bus.
    """
    home = find_home()
    state = read_state(home.state_file)
    local = state if state is not None and is_alive(state.supervisor) else None
    nats_url = os.environ.get("QRAFT_NATS_URL") or (local.nats_url if local else "")
    dsn = os.environ.get("QRAFT_POSTGRES_DSN") or (local.postgres_dsn if local else "")
    if not nats_url:
        raise NotRunning(
            f"no stack runs in {home.root} and QRAFT_NATS_URL is not set: start one with `qraft up`, "
            "or name the servers by QRAFT_NATS_URL and QRAFT_POSTGRES_DSN"
        )
    return Addresses(nats_url, dsn, local.desk_url if local else "", local)


async def connect_bus(nats_url: str) -> Client:
    """
    Return a connection to the bus.

    Raises:
        NotRunning: if nothing answers there.
    """
    try:
        return await nats.connect(
            nats_url, connect_timeout=_CONNECT_TIMEOUT_S, allow_reconnect=False, error_cb=_ignore_late_error
        )
    except (OSError, nats.errors.Error) as error:
        raise NotRunning(f"no bus answers at {nats_url} ({error}); `qraft doctor` tells more") from error


async def _ignore_late_error(_error: Exception) -> None:
    """The caller's own await reports what matters; the library's default would print a trace as well."""


@asynccontextmanager
async def database() -> AsyncIterator[asyncpg.Connection]:
    """
    Open a connection to PostgreSQL while the block runs.

    Raises:
        NotRunning: if there is no server to connect to.
    """
    dsn = find_addresses().postgres_dsn
    if not dsn:
        raise NotRunning("no PostgreSQL is known: start the stack with `qraft up` or set QRAFT_POSTGRES_DSN")
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise NotRunning(f"PostgreSQL does not answer ({error}); `qraft doctor` tells more") from error
    try:
        yield connection
    finally:
        await connection.close()
