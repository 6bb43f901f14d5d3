"""`qraft doctor`: check this machine and the running stack, and say how to mend what is wrong."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import asyncpg
import httpx
import typer
from nats.js.errors import NotFoundError

from qraft_bus.streams import STREAMS
from qraft_cli.console import OUT
from qraft_cli.stack.home import Home, find_home
from qraft_cli.stack.local import dataset_folder
from qraft_cli.stack.ports import HOST, is_free
from qraft_cli.stack.session import NotRunning, connect_bus, find_addresses
from qraft_cli.stack.state import StackState, is_alive, read_state

_DISK_FREE_GB_MIN = 5.0
_LAG_WARN = 200
_PORTS = {
    4222: "nats-server",
    8222: "nats-server monitoring",
    8700: "the paper desk",
    8710: "the image gateway",
    8711: "the ledger",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. ok: None = a remark that needs nothing."""

    what: str
    ok: bool | None
    detail: str
    mend: str = ""


def doctor() -> None:
    """Check versions, disk, ports, data, servers, streams and consumers."""
    home = find_home()
    findings = [*_machine(home), *_ports(home), *asyncio.run(_servers())]
    marks = {True: "[green]ok[/]  ", False: "[bold red]FAIL[/]", None: "[yellow]note[/]"}
    for finding in findings:
        OUT.print(f"{marks[finding.ok]} {finding.what}: {finding.detail}", highlight=False)
        if finding.mend:
            OUT.print(f"      → {finding.mend}", style="bold", highlight=False)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _machine(home: Home) -> Iterator[Finding]:
    is_supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        "python", is_supported, platform.python_version(), "" if is_supported else "install Python 3.11 or 3.12"
    )
    for package in ("qraft-cli", "faststream", "nats-py", "onnxruntime", "numba", "Pillow"):
        try:
            yield Finding(package, True, version(package))
        except PackageNotFoundError:
            yield Finding(package, False, "not installed", "make install")
    existing = next(path for path in (home.root, *home.root.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    yield Finding(
        "disk",
        free_gb >= _DISK_FREE_GB_MIN,
        f"{free_gb:.1f} GB free under {home.root}",
        "" if free_gb >= _DISK_FREE_GB_MIN else f"free {_DISK_FREE_GB_MIN:.0f} GB or set QRAFT_HOME to another disk",
    )
    folder = dataset_folder()
    if folder is None:
        yield Finding("data", None, "no stored bars", "set QRAFT_DATA; without it an exchange or the simulator is used")
    else:
        yield Finding("data", True, str(folder))


def _ports(home: Home) -> Iterator[Finding]:
    state = read_state(home.state_file)
    if state is not None and is_alive(state.supervisor):
        yield Finding("stack", True, f"runs in {home.root}, supervisor pid {state.supervisor.pid}")
        for process in state.processes:
            if process.state == "failed":
                log = home.logs / f"{process.name}.log"
                yield Finding(process.name, False, "crashed too often and stays down", f"read the end of {log}")
        for problem in state.problems:
            yield Finding("start", False, problem, f"read the logs in {home.logs}, then `qraft down` and `make run`")
        missing = sorted(set(state.services_expected) - {process.name for process in state.processes})
        if missing:
            yield Finding("services", None, f"not started: {', '.join(missing)}", "still starting? else `make run`")
        return
    yield Finding("stack", None, f"none runs in {home.root}", "start it with `make run` or `qraft up`")
    for port, owner in _PORTS.items():
        if not is_free(port):
            yield Finding(f"port {port}", None, f"taken; {owner} will use another one, `qraft status` tells which")


async def _servers() -> list[Finding]:
    try:
        addresses = find_addresses()
        connection = await connect_bus(addresses.nats_url)
    except NotRunning as error:
        return [Finding("bus", None, str(error))]
    found = [Finding("bus", True, f"nats-server {connection.connected_server_version} at {addresses.nats_url}")]
    try:
        jetstream = connection.jetstream()
        for spec in STREAMS:
            try:
                info = await jetstream.stream_info(spec.name)
            except NotFoundError:
                found.append(
                    Finding(f"stream {spec.name}", False, "missing", "restart the stack: it makes its streams")
                )
                continue
            consumers = await jetstream.consumers_info(spec.name)
            behind = {c.name: c.num_pending or 0 for c in consumers if (c.num_pending or 0) > _LAG_WARN}
            detail = f"{info.state.messages:,} messages, {len(consumers)} consumers"
            if behind:
                names = ", ".join(f"{name} by {n:,}" for name, n in behind.items())
                found.append(Finding(f"stream {spec.name}", None, f"{detail}; behind: {names}", "is the service up?"))
            else:
                found.append(Finding(f"stream {spec.name}", True, detail))
    finally:
        await connection.close()
    if addresses.local is not None:
        found += [*await _store_health(addresses.local), *await _readiness(addresses.local)]
    return [*found, await _postgres(addresses.postgres_dsn)]


async def _store_health(state: StackState) -> list[Finding]:
    """Return what nats-server says of its own streams: after a full disk one may be given up until a restart."""
    try:
        async with httpx.AsyncClient(timeout=3.0) as client:
            response = await client.get(f"{state.nats_monitor_url}/healthz")
            error = str(response.json().get("error", "")) if response.is_error else ""
    except (httpx.HTTPError, ValueError) as problem:
        error = repr(problem)
    mend = "free space on its disk; the stack then restarts nats-server by itself (elsewhere: restart it)"
    return [Finding("stream store", not error, error or "writes", mend if error else "")]


async def _readiness(state: StackState) -> list[Finding]:
    """Return every service's own word on whether it can serve."""
    found = []
    async with httpx.AsyncClient(timeout=3.0) as client:
        for process in state.processes:
            if not process.http_port or process.state != "running":
                continue
            found.append(await _ready(client, process.name, process.http_port))
    return found


async def _ready(client: httpx.AsyncClient, name: str, port: int) -> Finding:
    try:
        response = await client.get(f"http://{HOST}:{port}/readyz")
    except httpx.HTTPError as error:
        return Finding(name, False, f"does not answer: {error!r}", f"see logs/{name}.log")
    if response.status_code == httpx.codes.OK:
        return Finding(name, True, "ready")
    return Finding(name, None, " ".join(response.text.split()), f"still starting? else see logs/{name}.log")


async def _postgres(dsn: str) -> Finding:
    if not dsn:
        return Finding("postgres", None, "no address known", "set QRAFT_POSTGRES_DSN")
    try:
        connection = await asyncpg.connect(dsn, timeout=3)
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        return Finding("postgres", False, f"does not answer: {error}", "see logs/postgres.log")
    try:
        text = await connection.fetchval("show server_version")
        synchronous = await connection.fetchval("show synchronous_commit")
    finally:
        await connection.close()
    is_safe = synchronous == "on"
    mend = "" if is_safe else "set synchronous_commit = on: the journal is the truth about orders"
    return Finding("postgres", is_safe, f"{text}, synchronous_commit {synchronous}", mend)
