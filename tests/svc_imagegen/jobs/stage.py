"""The image service and the ledger as processes, on real servers, with a provider that outlives them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from tests.kit.servers import NatsServer, PostgresServer, free_port
from tests.kit.servers import _spawn as spawn
from tests.svc_imagegen.jobs.upstream import Upstream

from qraft_runtime.settings import CommonSettings
from svc_billing.__main__ import open_books
from svc_billing.api.arguments import parse
from svc_billing.api.console import execute
from svc_billing.settings import BillingSettings
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.keys_postgres import PostgresKeyStore
from svc_imagegen.ports import ApiKey
from svc_imagegen.usecases.authenticate import READ, WRITE, new_key_text, sha256_of_key

ACCOUNT = "acme"
PRICE_MICROCREDITS = 40_000
_PROVIDERS = """
[[provider]]
id = "paid"
kind = "openai"
base_url = "{url}"
api_key_env = "PAID_KEY"
allow_private = true
n_concurrent = 8
task_path = "tasks/{{id}}"
models = [{{ name = "painter" }}]
"""
_PRICES = """
[[price]]
provider = "paid"
model = "painter"
operation = "generation"
size = "auto"
quality = "auto"
per_image = "0.04"
per_reference = "0"
"""
_END_STATES = ("succeeded", "failed", "canceled")


@dataclass
class Stage:
    """Everything that runs. Time in the service is short, so that recovery takes seconds."""

    folder: Path
    nats: NatsServer
    postgres: PostgresServer
    dsn: str
    upstream: Upstream
    http: aiohttp.ClientSession
    port: int = field(default_factory=free_port)
    key: str = ""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "QRAFT_NATS_URL": self.nats.url,
            "QRAFT_POSTGRES_DSN": self.dsn,
            "QRAFT_HOME": str(self.folder / "home"),
            "QRAFT_IMAGEGEN_PROVIDERS": str(self.folder / "providers.toml"),
            "QRAFT_IMAGEGEN_DEFAULT_MODEL": "painter",
            "QRAFT_IMAGEGEN_LEASE_S": "1.5",
            "QRAFT_IMAGEGEN_SWEEP_INTERVAL_S": "0.3",
            "QRAFT_IMAGEGEN_ACK_WAIT_S": "2",
            "QRAFT_IMAGEGEN_CHECK_FIRST_S": "1",
            "QRAFT_IMAGEGEN_ORPHAN_AFTER_S": "6",
            "QRAFT_IMAGEGEN_UNCERTAIN_DEADLINE_S": "8",
            "PAID_KEY": "secret",
        }

    def start(self, name: str, module: str, **env: str) -> subprocess.Popen[bytes]:
        """Start one process; it ends with the test."""
        with _environment(self.env | env):
            process = spawn(
                [sys.executable, "-m", module], log=self.folder / f"{name}.log", death_signal=signal.SIGKILL
            )
        self.running[name] = process
        return process

    def start_images(self, name: str = "images", *, failpoint: str = "", roles: str = "gateway,worker") -> None:
        """Start the image service, to be ended by itself at a fail point."""
        env = {"QRAFT_IMAGEGEN_ROLES": roles, "QRAFT_FAILPOINT": failpoint}
        if "gateway" in roles:
            env["QRAFT_HTTP_PORT"] = str(self.port)
        self.start(name, "svc_imagegen", **env)

    def kill(self, name: str) -> None:
        """End one process as a crash would."""
        process = self.running.pop(name)
        process.kill()
        process.wait(10)

    def command(self, module: str, *arguments: str) -> str:
        """Run one operator's command and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    async def ready(self) -> None:
        """Wait until the gateway serves."""
        async with asyncio.timeout(60):  # a busy machine starts it in half of that
            while True:
                try:
                    async with self.http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.05)

    async def ask(self, prompt: str) -> str | None:
        """Post a job as a patient client does, with a key of its own; None if the gateway is gone."""
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": prompt}
        try:
            async with self.http.post(
                f"http://127.0.0.1:{self.port}/api/jobs", json={"prompt": prompt}, headers=headers
            ) as answer:
                body = await answer.json()
                if answer.status >= 500:
                    return None
                assert answer.status == 202, body
                return str(body["id"] if "id" in body else body["job_id"])
        except (aiohttp.ClientError, OSError):
            return None

    async def ended(self, name: str, *, within_s: float) -> bool:
        """Wait until a process has ended by itself."""
        process = self.running[name]
        try:
            async with asyncio.timeout(within_s):
                while process.poll() is None:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        del self.running[name]
        assert process.returncode == -signal.SIGKILL, (self.folder / f"{name}.log").read_text()[-3_000:]
        return True

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job, newest first."""
        rows = self.sql("SELECT coalesce(json_agg(to_jsonb(j) - 'request' ORDER BY created_at DESC), '[]') "
                        "FROM imagegen.jobs j")  # fmt: skip
        found: list[dict[str, Any]] = json.loads(rows)
        return found

    def sql(self, statement: str) -> str:
        """Run one statement on the services' database."""
        return self.postgres.execute(statement, database=urlsplit(self.dsn).path.removeprefix("/"))

    async def settled(self, *, within_s: float) -> None:
        """Wait until every job has ended and no credits are held."""
        open_holds = "SELECT count(*) FROM billing.holds"
        try:
            async with asyncio.timeout(within_s):
                while any(it["state"] not in _END_STATES for it in self.jobs()) or self.sql(open_holds) != "0":
                    await asyncio.sleep(0.2)
        except TimeoutError:
            unfinished = [it for it in self.jobs() if it["state"] not in _END_STATES]
            raise AssertionError(f"not ended: {unfinished}, open holds {self.sql(open_holds)}\n{self.log()}") from None

    def log(self, name: str = "images") -> str:
        """Return the end of a process's log."""
        return (self.folder / f"{name}.log").read_text()[-3_000:]


@asynccontextmanager
async def stage(folder: Path, nats: NatsServer, postgres: PostgresServer, dsn: str) -> AsyncIterator[Stage]:
    """Run the ledger with a funded account, a price and a key; the image service is started by the test."""
    async with Upstream().serve() as upstream, aiohttp.ClientSession() as http:
        found = Stage(folder, nats, postgres, dsn, upstream, http)
        (folder / "providers.toml").write_text(_PROVIDERS.format(url=upstream.url))
        (folder / "prices.toml").write_text(_PRICES)
        try:
            await _fund(dsn, folder / "prices.toml")
            found.key = await _make_key(dsn)
            found.start("billing", "svc_billing")
            yield found
        finally:
            for name in list(found.running):
                found.kill(name)


async def _fund(dsn: str, prices: Path) -> None:
    """Do what an operator's commands do, in this process: four that start cost more than the test's own."""
    async with open_books(CommonSettings(postgres_dsn=dsn), BillingSettings()) as books:
        for command in (["open", ACCOUNT], ["grant", ACCOUNT, "1000", "--id", "g1"], ["prices", str(prices)]):
            assert await execute(books, parse(command)) == 0, command


async def _make_key(dsn: str) -> str:
    database, text = Database(dsn), new_key_text()
    await database.open()
    try:
        key = ApiKey("k1", ACCOUNT, "test", frozenset({WRITE, READ}), datetime.now(UTC), None)
        await PostgresKeyStore(database).create(key, sha256_of_key(text))
    finally:
        await database.close()
    return text


@contextmanager
def _environment(env: dict[str, str]) -> Iterator[None]:
    """The kit starts children with this process's environment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
