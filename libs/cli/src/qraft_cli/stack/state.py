"""What runs, written to a file so that another `qraft` command can find it, and stop it by pid."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil


class ProcessInfo(msgspec.Struct, frozen=True):
    """One process of ours. started_at (unix seconds) tells it from a later process with the same pid."""

    name: str
    pid: int
    started_at: float
    http_port: int = 0
    n_restarts: int = 0
    state: str = "running"  # running | restarting | failed | finished


class StackState(msgspec.Struct, frozen=True):
    """The running stack: addresses and processes. parts_done: those that serve or failed; problems says why."""

    supervisor: ProcessInfo
    nats_url: str
    nats_monitor_url: str
    postgres_dsn: str
    desk_url: str
    origin: str
    processes: tuple[ProcessInfo, ...]
    services_expected: tuple[str, ...] = ()
    gateway_url: str = ""
    billing_url: str = ""
    parts: tuple[str, ...] = ()
    parts_done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_started(self) -> bool:
        """Return whether every part serves or has failed."""
        return set(self.parts) <= set(self.parts_done)


def write_state(path: Path, state: StackState) -> None:
    """Replace the state file in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    temporary.rename(path)


def read_state(path: Path) -> StackState | None:
    """Return what the file says, or None if there is no readable one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def describe_process(name: str, pid: int, *, http_port: int = 0, n_restarts: int = 0) -> ProcessInfo:
    """Return the process's description; a process that is gone already has started_at 0."""
    try:
        started_at = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        started_at = 0.0
    return ProcessInfo(name, pid, started_at, http_port, n_restarts)


def is_alive(info: ProcessInfo) -> bool:
    """Return whether this very process still runs (same pid and same start)."""
    try:
        process = psutil.Process(info.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - info.started_at) < 1.0
    except psutil.NoSuchProcess:
        return False


def own_process(name: str) -> ProcessInfo:
    """Return the description of the calling process."""
    return describe_process(name, os.getpid())
