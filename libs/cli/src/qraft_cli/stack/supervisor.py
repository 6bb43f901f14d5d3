"""Start processes, keep them alive within bounds, stop them in order. Knows nothing about what they do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qraft_cli.stack.servers import ServerCommand
from qraft_cli.stack.state import ProcessInfo, describe_process

# A crash loop ends here: after so many restarts within the window the process stays down and status says so.
MAX_RESTARTS = 10
RESTART_WINDOW_S = 300.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
# Longer than a service's own drain timeout (30 s).
STOP_TIMEOUT_S = 40.0
_LOG_BYTES_MAX = 20_000_000


@dataclass(slots=True)
class Child:
    """One supervised process."""

    command: ServerCommand
    env: Mapping[str, str]
    http_port: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    process: asyncio.subprocess.Process | None = None
    restarts: list[float] = field(default_factory=list)
    state: str = "stopped"
    watcher: asyncio.Task[None] | None = None


class Supervisor:
    """Runs named children. Restarts the ones that end by themselves, with backoff and a bound."""

    def __init__(self, logs: Path, *, on_change: Callable[[], None]) -> None:
        """Keep one log file a child in `logs`; call `on_change` whenever a child starts or ends."""
        self._logs = logs
        self._on_change = on_change
        self._children: dict[str, Child] = {}

    async def start(
        self,
        command: ServerCommand,
        *,
        env: Mapping[str, str],
        http_port: int = 0,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start a child and keep it running until `stop`."""
        assert command.name not in self._children, command.name
        child = Child(command, env, http_port, stop_signal)
        self._children[command.name] = child
        await self._spawn(child)
        child.watcher = asyncio.create_task(self._watch(child))

    async def run_job(self, command: ServerCommand, *, env: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Start a process that ends by itself; its standard output is a pipe, the rest goes to its log."""
        return await asyncio.create_subprocess_exec(
            *command.argv,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._open_log(command.name),
            start_new_session=True,
        )

    def processes(self) -> list[ProcessInfo]:
        """Return the state of every child."""
        found = []
        for name, child in self._children.items():
            pid = child.process.pid if child.process else 0
            info = describe_process(name, pid, http_port=child.http_port, n_restarts=len(child.restarts))
            found.append(
                ProcessInfo(info.name, info.pid, info.started_at, info.http_port, info.n_restarts, child.state)
            )
        return found

    def restart(self, name: str) -> None:
        """Ask one child to end; it is started again like one that ended by itself."""
        process = self._children[name].process
        if process is not None and process.returncode is None:
            process.send_signal(self._children[name].stop_signal)

    async def stop(self, name: str) -> None:
        """End one child: its stop signal first, SIGKILL after the timeout."""
        child = self._children.pop(name)
        if child.watcher is not None:
            child.watcher.cancel()
        process = child.process
        if process is not None and process.returncode is None:
            process.send_signal(child.stop_signal)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._on_change()

    async def stop_all(self) -> None:
        """End every child, the last started first; services of one kind stop together."""
        names = list(reversed(self._children))
        services = [name for name in names if name.startswith("svc_")]
        await asyncio.gather(*(self.stop(name) for name in services))
        for name in [name for name in names if name in self._children]:
            await self.stop(name)

    async def _spawn(self, child: Child) -> None:
        log = self._open_log(child.command.name)
        try:
            child.process = await asyncio.create_subprocess_exec(
                *child.command.argv,
                env={**os.environ, **child.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=child.command.user,
                cwd="/" if child.command.user else None,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            )
        finally:
            os.close(log)
        child.state = "running"
        self._on_change()

    async def _watch(self, child: Child) -> None:
        while True:
            assert child.process is not None
            await child.process.wait()
            now = time.monotonic()
            child.restarts = [at for at in child.restarts if now - at < RESTART_WINDOW_S]
            if len(child.restarts) >= MAX_RESTARTS:
                child.state = "failed"
                self._on_change()
                return
            child.state = "restarting"
            self._on_change()
            await asyncio.sleep(_BACKOFF_S[min(len(child.restarts), len(_BACKOFF_S) - 1)])
            child.restarts.append(now)
            await self._spawn(child)

    def _open_log(self, name: str) -> int:
        path = self._logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
