"""The image line on real servers: nats-server, PostgreSQL, svc_billing, svc_imagegen as gateway and as worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import psutil
from tests.bench.images_peers import until_answered
from tests.bench.measure import ROOT
from tests.kit.servers import NatsServer, PostgresServer

from qraft_cli.stack.ports import free_port

ACCOUNT: Final = "bench"
_STOP_TIMEOUT_S: Final = 60.0
_PROVIDERS: Final = """
[[provider]]
id = "bench"
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
allow_private = true
n_concurrent = 64
models = [{{name = "bench-image"}}]
"""
_PRICES: Final = """
[[price]]
provider = "bench"
model = "bench-image"
operation = "generation"
size = "auto"
quality = "low"
per_image = "0.01"
"""


@dataclass(slots=True)
class Line:
    """What runs. pids: by the name of the part."""

    folder: Path
    dsn: str
    environment: dict[str, str]
    gateway_port: int = 0
    key: str = field(default="", repr=False)
    pids: dict[str, int] = field(default_factory=dict)

    async def value(self, query: str) -> int:
        """Return the one number that a query finds."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    async def command(self, module: str, *arguments: str) -> str:
        """Run a sub-command of a service to its end and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, env=self.environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, f"{module} {arguments[0]}: {err.decode()[-2000:]}"
        return out.decode()

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each part so far, its children included."""
        return {name: _cpu_s(psutil.Process(pid)) for name, pid in self.pids.items()}


@asynccontextmanager
async def line(
    broker: NatsServer, postgres: PostgresServer, folder: Path, *, upstream_port: int, has_worker: bool
) -> AsyncIterator[Line]:
    """Run the line with a funded account on a fresh database while the block runs."""
    with postgres.fresh_database() as dsn:
        providers, prices = folder / "providers.toml", folder / "prices.toml"
        providers.write_text(_PROVIDERS.format(port=upstream_port))
        prices.write_text(_PRICES)
        own = {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")}
        own |= {
            "QRAFT_NATS_URL": broker.url,
            "QRAFT_POSTGRES_DSN": dsn,
            "QRAFT_HOME": str(folder),
            "QRAFT_IMAGEGEN_PROVIDERS": str(providers),
            "QRAFT_IMAGEGEN_DEFAULT_MODEL": "bench-image",
        }
        made = Line(folder, dsn, own)
        await made.command("svc_billing", "prices", str(prices))
        await made.command("svc_billing", "open", ACCOUNT)
        await made.command("svc_billing", "grant", ACCOUNT, "1000000", "--id", "bench")
        await made.command("svc_imagegen", "keys", "create", ACCOUNT, "--key-file", str(folder / "key"))
        made.key = (folder / "key").read_text().strip()
        made.gateway_port = free_port()
        async with (
            _service(made, "billing", "svc_billing", port=free_port()),
            _service(made, "gateway", "svc_imagegen", port=made.gateway_port, QRAFT_IMAGEGEN_ROLES="gateway"),
            _service(
                made, "worker" if has_worker else "", "svc_imagegen", port=free_port(), QRAFT_IMAGEGEN_ROLES="worker"
            ),
        ):
            made.pids |= {"nats": broker.pid, "postgres": _postmaster(postgres)}
            yield made


@asynccontextmanager
async def _service(made: Line, name: str, module: str, *, port: int, **settings: str) -> AsyncIterator[None]:
    """Run one service, ready, while the block runs; "" runs none."""
    if not name:
        yield
        return
    log = made.folder / f"{name}.log"
    variables = made.environment | {"QRAFT_HTTP_PORT": str(port)} | settings
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *service_command(name, module), env=variables, stdout=out, stderr=out, cwd=ROOT
        )
    try:
        await until_answered(f"http://127.0.0.1:{port}/readyz", process, log)
        made.pids[name] = process.pid
        yield
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            code = await process.wait()
        assert code == 0, f"{name} ended with {code}: {log.read_text()[-2000:]}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def service_command(_name: str, module: str) -> list[str]:
    """Return how a service is started."""
    return [sys.executable, "-m", module]


def _postmaster(postgres: PostgresServer) -> int:
    return int(postgres.execute("SELECT pg_read_file('postmaster.pid', 0, 20)").split()[0])


def _cpu_s(process: psutil.Process) -> float:
    """Return user and system time of a process and those that it started and that still run."""
    times = [process.cpu_times(), *(it.cpu_times() for it in process.children(recursive=True))]
    return float(sum(it.user + it.system for it in times))
