"""The service as a process or in this one, questions to it, and what it needs to have before it can answer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import nats
from tests.kit.servers import free_port

from qraft_bus.nats import NatsBus
from qraft_bus.settings import BusSettings
from qraft_contracts.billing import BillingReply, PricedItem, ReserveCredits, SettleHold, VoidHold
from qraft_contracts.codec import encode
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app, serve_http
from qraft_runtime.settings import CommonSettings
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.app import Application
from svc_billing.domain.commands import PAID, Command, GrantCredits, OpenAccount, PublishPrices
from svc_billing.domain.prices import PriceRule
from svc_billing.settings import BillingSettings
from svc_billing.usecases.ledger import Ledger

DEADLINE_S = 30.0
TOKEN = "test-admin-token-0123456789"
PER_IMAGE = 4_000_000
RULE = PriceRule("simulated", "simulated-1", "generation", "1024x1024", "high", PER_IMAGE, 1_000_000)
ITEM = PricedItem("simulated", "simulated-1", "generation", "1024x1024", "high", n=2)
ASSET = "a" * 64
BUS_SETTINGS = BusSettings(drain_timeout_s=2.0, connect_timeout_s=10.0)


def reserve(name: str, *, account: str = "acme", lease_s: int = 600, item: PricedItem = ITEM) -> ReserveCredits:
    return ReserveCredits(
        operation_id=f"reserve/{name}",
        account_id=account,
        hold_id=f"hold/{name}",
        item=item,
        lease_s=lease_s,
        purpose=f"job/{name}",
    )


def settle(name: str, amount: int = 2 * PER_IMAGE) -> SettleHold:
    return SettleHold(f"settle/{name}", f"hold/{name}", amount, (ASSET,))


def void(name: str, *, account: str = "acme") -> VoidHold:
    return VoidHold(f"void/{name}", f"hold/{name}", account, "test")


def funding(accounts: Sequence[str], *, amount: int = 1_000 * PER_IMAGE) -> list[Command]:
    """Return the commands that give accounts credits and calls a price."""
    found: list[Command] = [PublishPrices("prices/1", (RULE,), "test")]
    for account in accounts:
        found.append(OpenAccount(f"open/{account}", account, "", "test"))
        found.append(GrantCredits(f"grant/{account}", account, f"grant/{account}", PAID, amount, 100, None, "", "test"))
    return found


@asynccontextmanager
async def ledger_on(dsn: str, *, clock: Clock | None = None) -> AsyncIterator[tuple[Ledger, Database]]:
    """A ledger of our own on the database, as the operator's commands use it. clock None = the machine's."""
    database = Database(dsn)
    await database.open()
    ledger = Ledger(PostgresStore(database), clock=clock or SystemClock())
    running = asyncio.create_task(ledger.run())
    try:
        yield ledger, database
    finally:
        running.cancel()
        await asyncio.wait({running})
        await database.close()


async def fund(dsn: str, *accounts: str, amount: int = 1_000 * PER_IMAGE) -> None:
    async with ledger_on(dsn) as (ledger, _):
        for reply in await asyncio.gather(*map(ledger.submit, funding(accounts, amount=amount))):
            assert reply.outcome == "ok", reply


@asynccontextmanager
async def bus_client(nats_url: str) -> AsyncIterator[NatsBus]:
    bus = NatsBus(nats_url, name="svc_test", settings=BUS_SETTINGS)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.drain()


async def ask(bus: NatsBus, command: Any, *, timeout_s: float = 5.0) -> BillingReply:
    data = await bus.request(command.SUBJECT, encode(command), schema=command.SCHEMA, timeout_s=timeout_s)
    return msgspec.json.decode(data, type=BillingReply)


async def ask_until_decided(bus: NatsBus, command: Any, *, deadline_s: float = DEADLINE_S) -> BillingReply:
    """Ask as a caller does that must know: the same command again while there is no answer, or it says retry."""
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                reply = await ask(bus, command, timeout_s=1.0)
            except Transient:
                await asyncio.sleep(0.05)
                continue
            if reply.outcome != "retry":
                return reply
            await asyncio.sleep(0.02)


@dataclass
class Service:
    """`python -m svc_billing` as a child."""

    process: asyncio.subprocess.Process
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()

    def said(self) -> str:
        return self.log.read_text()[-3000:]


def environment(dsn: str, *, nats_url: str = "nats://127.0.0.1:1", **settings: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("QRAFT_")}
    return own | {"QRAFT_NATS_URL": nats_url, "QRAFT_POSTGRES_DSN": dsn} | settings


async def start_service(nats_url: str, dsn: str, folder: Path, *, port: int = 0, **settings: str) -> Service:
    """Start the service; returns before it is ready."""
    log = folder / "service.log"
    variables = environment(
        dsn, nats_url=nats_url, QRAFT_HTTP_PORT=str(port), QRAFT_BILLING_ADMIN_TOKEN=TOKEN, **settings
    )
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "svc_billing", env=variables, stdout=out, stderr=out
        )
    return Service(process, log, port)


async def run_cli(dsn: str, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run one sub-command to its end; returns exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "svc_billing", *arguments, env=environment(dsn, **settings),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def until_published(dsn: str, *, deadline_s: float = DEADLINE_S) -> int:
    """Wait until the relay's cursor stands at the end of the chain; return that end."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                head, cursor = await connection.fetchrow(
                    "SELECT (SELECT seq FROM billing.head), (SELECT seq FROM billing.relay_cursor)"
                )
                if head == cursor:
                    return int(head)
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def ledger_stream(nats_url: str) -> list[tuple[str, dict[str, str], bytes]]:
    """Return every stored message of the ledger's stream in order: subject, headers, payload."""
    client = await nats.connect(nats_url)
    found: list[tuple[str, dict[str, str], bytes]] = []
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info("LEDGER")).state
        for seq in range(state.first_seq, state.last_seq + 1):
            message = await jetstream.get_msg("LEDGER", seq, direct=False)
            found.append((message.subject or "", dict(message.headers or {}), message.data or b""))
    finally:
        await client.close()
    return found


@asynccontextmanager
async def running(nats_url: str, dsn: str, *, token: str | None = TOKEN, **settings: Any) -> AsyncIterator[Application]:
    """The service in this process, with its bus and background work, stopped in the order of the runtime."""
    common = CommonSettings(nats_url=nats_url, postgres_dsn=dsn)
    billing = BillingSettings(admin_token=token, **settings)
    bus = NatsBus(nats_url, name="svc_billing", settings=BUS_SETTINGS)
    application = Application(common, billing, bus=bus, clock=SystemClock())
    await application.start()
    await bus.start()
    background = [asyncio.create_task(make()) for make in application.background]
    try:
        yield application
        for task in background:
            assert not task.done() or task.exception() is None, task.exception()
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        await bus.drain()
        await application.stop()


@asynccontextmanager
async def http_client(application: Application, *, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application's HTTP edge, served on a real socket."""
    port = free_port()
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    async with (
        serve_http(build_http_app(Health(), application.routes), host="127.0.0.1", port=port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10.0) as client,
    ):
        yield client
