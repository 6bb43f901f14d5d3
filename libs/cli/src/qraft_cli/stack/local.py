"""The local stack: embedded servers and the services as processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nats
import psutil

from qraft_bus.streams import apply_streams
from qraft_cli.stack.home import Home
from qraft_cli.stack.ports import HOST, pick_port
from qraft_cli.stack.servers import (
    ServerCommand,
    nats_command,
    postgres_command,
    postgres_dsn,
    wait_for_nats,
    wait_for_postgres,
)
from qraft_cli.stack.services import ALL_SERVICES, OF_PART, QUANT
from qraft_cli.stack.state import StackState, is_alive, own_process, read_state, write_state
from qraft_cli.stack.supervisor import Supervisor
from qraft_cli.stack.tend import tend_nats

_NATS_PORT = 4222
_NATS_MONITOR_PORT = 8222


class AlreadyRunning(RuntimeError):
    """Another stack runs in this home."""


@dataclass(slots=True)
class LocalStack:
    """
    One home's servers and services.

    environment: QRAFT_* settings handed to every service beside the addresses. parts: what is meant to run.
    problems: what did not start; `qraft status` shows it.
    """

    home: Home
    environment: Mapping[str, str] = field(default_factory=dict)
    origin: str = "unknown"
    max_file_store: str = "16GB"
    parts: tuple[str, ...] = (QUANT,)
    problems: list[str] = field(default_factory=list)
    parts_done: list[str] = field(default_factory=list)
    supervisor: Supervisor = field(init=False)
    nats_port: int = field(init=False, default=0)
    monitor_port: int = field(init=False, default=0)
    http_ports: dict[str, int] = field(init=False, default_factory=dict)
    _tending: asyncio.Task[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Claim the home and choose ports."""
        running = read_state(self.home.state_file)
        if running is not None and is_alive(running.supervisor):
            raise AlreadyRunning(
                f"a stack runs in {self.home.root} already (pid {running.supervisor.pid}): "
                "look at it with `qraft status`, end it with `qraft down`"
            )
        self.home.create()
        taken: set[int] = set()
        self.nats_port = pick_port(_NATS_PORT, taken=taken)
        self.monitor_port = pick_port(_NATS_MONITOR_PORT, taken=taken)
        services = (service for part in self.parts for service in OF_PART[part])
        self.http_ports = {it.name: pick_port(it.port, taken=taken) for it in services}
        self.supervisor = Supervisor(self.home.logs, on_change=self.write_state)

    @property
    def nats_url(self) -> str:
        """Return the address of the bus."""
        return f"nats://{HOST}:{self.nats_port}"

    @property
    def desk_url(self) -> str:
        """Return the address of the paper desk, "" without the quant line."""
        return self._url("svc_execution", "/desk")

    @property
    def gateway_url(self) -> str:
        """Return the base URL for OpenAI clients, "" without the studio."""
        return self._url("svc_imagegen", "/v1")

    @property
    def billing_url(self) -> str:
        """Return the address of svc_billing, "" without the studio."""
        return self._url("svc_billing", "")

    def _url(self, service: str, path: str) -> str:
        port = self.http_ports.get(service)
        return f"http://{HOST}:{port}{path}" if port else ""

    def service_env(self, name: str = "") -> dict[str, str]:
        """Return the environment of one service; without a name, that of a job."""
        service = ALL_SERVICES.get(name)
        return {
            **self.environment,
            **(service.settings if service else {}),
            "QRAFT_HOME": str(self.home.root),
            "QRAFT_NATS_URL": self.nats_url,
            "QRAFT_POSTGRES_DSN": postgres_dsn(self.home),
            "QRAFT_HTTP_PORT": str(self.http_ports.get(name, 0)),
            # Each service is one event loop; idle thread pools only take the cores from the others.
            "OMP_NUM_THREADS": "2",
            "POLARS_MAX_THREADS": "2",
        }

    async def start_servers(self) -> None:
        """Start nats-server and PostgreSQL, after ending what an earlier stack left behind; apply the streams."""
        await end_leftovers(self.home)
        nats_server = nats_command(
            self.home, port=self.nats_port, monitor_port=self.monitor_port, max_file_store=self.max_file_store
        )
        await self.supervisor.start(nats_server, env={})
        await self.supervisor.start(postgres_command(self.home), env={}, stop_signal=signal.SIGINT)
        await wait_for_nats(self.nats_port)
        await wait_for_postgres(self.home)
        connection = await nats.connect(self.nats_url)
        try:
            await apply_streams(connection.jetstream())
        finally:
            await connection.close()
        self._tending = asyncio.create_task(tend_nats(self.supervisor, self.home.nats, monitor_port=self.monitor_port))

    async def start_service(self, name: str, *, secrets: Mapping[str, str] | None = None) -> None:
        """Start one service and keep it running. secrets: settings that only this service may see."""
        command = ServerCommand(name, (sys.executable, "-m", ALL_SERVICES[name].module))
        environment = self.service_env(name) | dict(secrets or {})
        await self.supervisor.start(command, env=environment, http_port=self.http_ports[name])

    def report_part(self, part: str, *, problem: str = "") -> None:
        """Note in the state file that a part serves, or why it does not."""
        self.parts_done.append(part)
        if problem:
            self.problems.append(problem)
        self.write_state()

    async def stop(self) -> None:
        """Stop the services (they drain), then the servers."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait({self._tending})
        await self.supervisor.stop_all()
        self.home.state_file.unlink(missing_ok=True)

    def write_state(self) -> None:
        """Write what runs to the state file."""
        state = StackState(
            supervisor=own_process("supervisor"),
            nats_url=self.nats_url,
            nats_monitor_url=f"http://{HOST}:{self.monitor_port}",
            postgres_dsn=postgres_dsn(self.home),
            desk_url=self.desk_url,
            origin=self.origin,
            processes=tuple(self.supervisor.processes()),
            services_expected=tuple(self.http_ports),
            gateway_url=self.gateway_url,
            billing_url=self.billing_url,
            parts=self.parts,
            parts_done=tuple(self.parts_done),
            problems=tuple(self.problems),
        )
        write_state(self.home.state_file, state)


async def end_leftovers(home: Home) -> None:
    """End processes that a killed supervisor left running: by pid, and only if it is still the same process."""
    state = read_state(home.state_file)
    if state is None:
        return
    left = [psutil.Process(info.pid) for info in state.processes if is_alive(info)]
    for process in left:
        process.send_signal(signal.SIGINT if "postgres" in process.name() else signal.SIGTERM)
    _gone, alive = psutil.wait_procs(left, timeout=15)
    for process in alive:
        process.kill()
    home.state_file.unlink(missing_ok=True)


def dataset_folder() -> Path | None:
    """Return the folder of the stored bars, or None where there are none."""
    configured = os.environ.get("QRAFT_DATA")
    candidates = [Path(configured)] if configured else [Path("../shared/data")]
    for root in candidates:
        folder = root / "bars" / os.environ.get("QRAFT_DATASET", "perp_5m_2025")
        if any(folder.glob("*.parquet")):
            return folder.resolve()
    return None
