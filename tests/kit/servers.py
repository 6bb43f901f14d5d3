"""Real servers for tests, as supervised children: nats-server and PostgreSQL, out of their wheels."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qraft_cli.stack.ports import free_port
from qraft_cli.stack.servers import nats_binary, postgres_binaries

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
SOCKET_PATH_LENGTH_MAX = 100  # of a unix socket; the kernel takes 107
_PR_SET_PDEATHSIG = 1


class NatsServer:
    """
    One nats-server with JetStream on disk. It keeps its port and store over kill and start.

    is_durable: every message is synced to disk before it is acknowledged (`sync_interval: always`).
    """

    def __init__(self, folder: Path, *, is_durable: bool = False) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._log = folder / "nats-server.log"
        self._config = folder / "nats-server.conf"
        sync = "\n  sync_interval: always" if is_durable else ""
        self._config.write_text(
            f"""listen: 127.0.0.1:{self.port}
max_payload: 8MB
jetstream {{
  store_dir: {str(folder / "jetstream")!r}
  max_file_store: 8GB
  max_memory_store: 64MB{sync}
}}
"""
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it greets clients."""
        self._process = _spawn([nats_binary(), "-c", str(self._config)], log=self._log, death_signal=signal.SIGKILL)
        _wait_until(self._is_greeting, self._process, log=self._log)

    def kill(self) -> None:
        """Kill the server as a crash would, with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server in order, if it runs."""
        if self._process is not None:
            self.thaw()
            self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the server's clock: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def _is_greeting(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                return client.recv(4) == b"INFO"
        except OSError:
            return False


class PostgresServer:
    """
    One PostgreSQL cluster on a unix socket, trusting every local user (for tests only).

    is_durable False turns fsync off: a crash of the server loses nothing then, a power cut would.
    """

    USER = "qraft"

    def __init__(self, folder: Path, *, is_durable: bool = False) -> None:
        assert len(str(folder)) < SOCKET_PATH_LENGTH_MAX, f"expected a short folder, received {folder}"
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._bin = postgres_binaries()
        self._n_databases = 0
        self._options = [] if is_durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str) -> str:
        """Return the address of one database of this cluster."""
        return f"postgresql://{self.USER}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Make the cluster if there is none, start it and wait until it takes connections."""
        if not self._data.exists():
            self._initialize()
        command = [
            str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._folder),
            "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=64MB",
            *self._options,
        ]  # fmt: skip
        self._process = _spawn(
            command,
            log=self._log,
            death_signal=signal.SIGQUIT,
            user=_unprivileged_user(),
            cwd=self._folder,
        )
        _wait_until(self._is_ready, self._process, log=self._log)

    def crash(self) -> None:
        """End all its processes at once, without a checkpoint; the next start recovers from the log."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self._process is not None:
            self.crash()

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """Make an empty database, give its address, and drop it afterwards with all connections to it."""
        self._n_databases += 1
        database = f"test_{self._n_databases}"
        self.execute(f"CREATE DATABASE {database}")
        try:
            yield self.dsn(database)
        finally:
            self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def execute(self, statement: str, *, database: str = "postgres") -> str:
        """Run one SQL statement and return what psql prints, without headings."""
        command = [
            str(self._bin / "psql"), "-h", str(self._folder), "-U", self.USER, "-d", database,
            "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S)
        assert done.returncode == 0, f"{statement}: {done.stderr}"
        return done.stdout.strip()

    def _initialize(self) -> None:
        user = _unprivileged_user()
        if user is not None:
            shutil.chown(self._folder, user)
        command = [
            str(self._bin / "initdb"), "-D", str(self._data), "-U", self.USER, "-A", "trust",
            "-E", "UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, user=user, cwd=self._folder, timeout=START_TIMEOUT_S * 2
        )
        assert done.returncode == 0, f"initdb failed: {done.stdout}{done.stderr}"

    def _is_ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", str(self._folder), "-t", "1"]
        return subprocess.run(command, timeout=START_TIMEOUT_S).returncode == 0


@contextmanager
def nats_server(*, is_durable: bool = False) -> Iterator[NatsServer]:
    """Run a nats-server on a free port with its store in a fresh folder; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="qraft-nats-") as folder:
        server = NatsServer(Path(folder), is_durable=is_durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server(*, is_durable: bool = False) -> Iterator[PostgresServer]:
    """Run a PostgreSQL cluster in a fresh folder; it is gone afterwards."""
    # The parent folder must be open to the user that PostgreSQL runs as, and short: sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="qraft-pg-") as folder:
        server = PostgresServer(Path(folder), is_durable=is_durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; everyone else keeps their own user."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None


def _spawn(
    command: list[str],
    *,
    log: Path,
    death_signal: signal.Signals,
    user: str | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that gets a signal when this process ends, even by SIGKILL."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def follow_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)

    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            user=user,
            cwd=cwd,
            preexec_fn=follow_parent,
        )


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        alive = process.poll() is None
        assert alive, f"{process.args} ended with {process.returncode}: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"{process.args} not ready: {log.read_text()[-2000:]}"
        time.sleep(0.01)
