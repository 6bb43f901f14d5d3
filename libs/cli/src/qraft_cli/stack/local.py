"""The local stack: embedded servers and the quant services as processes of this machine."""

from __future__ import annotations

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
from qraft_cli.stack.state import StackState, is_alive, own_process, read_state, write_state
from qraft_cli.stack.supervisor import Supervisor

# In the order of the flow, so that a consumer is there before its producer.
SERVICES = ("svc_execution", "svc_allocator", "svc_inference", "svc_features", "svc_ingest")
_NATS_PORT = 4222
_NATS_MONITOR_PORT = 8222
_HTTP_PORTS = {name: 8700 + i for i, name in enumerate(SERVICES)}


class AlreadyRunning(RuntimeError):
    """Another stack runs in this home."""


@dataclass(slots=True)
class LocalStack:
    """
    One home's servers and services.

    environment: QRAFT_* settings handed to every service beside the addresses.
    """

    home: Home
    environment: Mapping[str, str] = field(default_factory=dict)
    origin: str = "unknown"
    max_file_store: str = "16GB"
    supervisor: Supervisor = field(init=False)
    nats_port: int = field(init=False, default=0)
    monitor_port: int = field(init=False, default=0)
    http_ports: dict[str, int] = field(init=False, default_factory=dict)

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
        self.http_ports = {name: pick_port(port, taken=taken) for name, port in _HTTP_PORTS.items()}
        self.supervisor = Supervisor(self.home.logs, on_change=self.write_state)

    @property
    def nats_url(self) -> str:
        """Return the address of the bus."""
        return f"nats://{HOST}:{self.nats_port}"

    @property
    def desk_url(self) -> str:
        """Return the address of the paper desk."""
        return f"http://{HOST}:{self.http_ports['svc_execution']}/desk"

    def service_env(self, name: str = "") -> dict[str, str]:
        """Return the environment of one service."""
        return {
            **self.environment,
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

    async def start_service(self, name: str) -> None:
        """Start one service and keep it running."""
        command = ServerCommand(name, (sys.executable, "-m", name))
        await self.supervisor.start(command, env=self.service_env(name), http_port=self.http_ports[name])

    async def stop(self) -> None:
        """Stop the services (they drain), then the servers."""
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
            services_expected=SERVICES,
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
