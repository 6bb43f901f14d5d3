"""The whole service in this process: memory bus, real journal, and a fuse that ends it between any two steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from tests.svc_execution.kit import deliver_bar, deliver_targets

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Delivery, OutMessage, PublishAck, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts import headers
from qraft_contracts.targets import Targets
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.memory import MemoryBarStore
from svc_execution.app import BARS_DURABLE, TARGETS_DURABLE, Application
from svc_execution.settings import ExecutionSettings

DEADLINE_S = 20.0
QUICK = BusSettings(
    backoff_first_s=0.01, backoff_max_s=0.05, transient_budget_s=10.0, drain_timeout_s=0.05, max_deliveries=1_000
)
TABLES = {
    "orders": "decided_at, symbol",
    "fills": "filled_at, symbol",
    "expiries": "expired_at, symbol",
    "marks": "closed_at",
    "targets": "as_of",
    "refusals": "as_of, reason, sha256",
    "targets_latest": "as_of",
    "progress": "market",
}


class Crash(Exception):
    """The process ends here."""


class Fuse:
    """Counts the durable steps and burns through at one of them. n_steps 0 = never."""

    def __init__(self, n_steps: int = 0) -> None:
        self.n_seen = 0
        self._n_steps = n_steps

    def step(self) -> None:
        self.n_seen += 1
        if self.n_seen == self._n_steps:
            raise Crash(f"step {self.n_seen}")


class FusedConnection:
    """A connection that may crash before and after each statement and each commit."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
            return self._around(found)
        return found

    def _around(self, call: Any) -> Any:
        async def fused(*args: Any, **kwargs: Any) -> Any:
            self._fuse.step()
            result = await call(*args, **kwargs)
            self._fuse.step()
            return result

        return fused

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[None]:
        async with self._inner.transaction(**options):
            yield
            self._fuse.step()  # everything done, nothing committed
        self._fuse.step()  # committed, nobody knows


class FusedPool(FusedConnection):
    """A pool of such connections."""

    @asynccontextmanager
    async def acquire(self, **options: Any) -> AsyncIterator[FusedConnection]:
        async with self._inner.acquire(**options) as connection:
            yield FusedConnection(connection, self._fuse)

    async def close(self) -> None:
        await self._inner.close()


class FusedBus:
    """A memory bus that may crash before and after each publish."""

    def __init__(self, broker: MemoryBroker, fuse: Fuse) -> None:
        self._inner = MemoryBus(broker, name="svc_execution", settings=QUICK)
        self._fuse = fuse

    async def publish(self, message: OutMessage) -> PublishAck:
        return (await self.publish_many([message]))[0]

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        self._fuse.step()
        receipts = await self._inner.publish_many(messages)
        self._fuse.step()
        return receipts

    def subscribe(self, subscription: Subscription) -> None:
        self._inner.subscribe(subscription)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Stage:
    """What outlives the process: the stream, the lake and the database, for one market."""

    def __init__(self, dsn: str, *, market: str = "crypto") -> None:
        self.common = CommonSettings(postgres_dsn=dsn, market=market)
        self.broker = MemoryBroker()
        self.lake = MemoryBarStore()

    async def publish(self, messages: Sequence[BarBatch | Targets]) -> None:
        """Publish as the services upstream do: bars are in the lake before they are told of."""
        for message in messages:
            if isinstance(message, BarBatch):
                self.lake.append([message])
                delivery = deliver_bar(message)
            else:
                delivery = deliver_targets(message)
            await self.publish_raw(delivery)

    async def publish_raw(self, delivery: Delivery) -> None:
        """Publish a message as it is."""
        await self.broker.store(delivery.subject, delivery.data, dict(delivery.headers))

    @asynccontextmanager
    async def running(
        self, fuse: Fuse | None = None, *, clock: Clock | None = None, settings: ExecutionSettings | None = None
    ) -> AsyncIterator[Application]:
        """Run the service until the block ends; a crash inside it is raised here."""
        fuse = fuse or Fuse()
        bus = FusedBus(self.broker, fuse)
        application = Application(
            self.common, settings or ExecutionSettings(), bus=bus, store=self.lake, clock=clock or SystemClock()
        )
        loops: list[asyncio.Task[Any]] = []
        try:
            await application.start()
            pools = application._database._pools._pools
            pools["trade"] = FusedPool(pools["trade"], fuse)
            await bus.start()
            loops = [asyncio.create_task(loop()) for loop in application.background]
            application.crashed = asyncio.create_task(self._crashed(bus, loops))  # type: ignore[attr-defined]
            yield application
        finally:
            watching = getattr(application, "crashed", None)
            for task in [*loops, *([watching] if watching else [])]:
                task.cancel()
            await asyncio.gather(*loops, *([watching] if watching else []), return_exceptions=True)
            await bus.drain()
            # A process that crashed closes nothing: what was under way on its connections is the server's to undo.
            has_crashed = watching is not None and watching.done() and not watching.cancelled()
            with suppress(*([asyncpg.InterfaceError] if has_crashed else [])):
                await application.stop()

    async def _crashed(self, bus: FusedBus, loops: Sequence[asyncio.Task[Any]]) -> None:
        fatal = asyncio.create_task(bus.wait_fatal())
        try:
            await asyncio.wait({fatal, *loops}, return_when=asyncio.FIRST_COMPLETED)
            raise Crash(fatal.result() if fatal.done() else "background loop ended")
        finally:
            fatal.cancel()

    async def run_to_end(self, fuse: Fuse | None = None, **options: Any) -> None:
        """Run the service until it has handled everything, and everything it decided is on the stream."""
        async with self.running(fuse, **options) as application:
            await self.settle(application)

    async def settle(self, application: Application) -> None:
        """Wait until everything published so far has taken effect. Raises Crash if the process ends before that."""
        crashed: asyncio.Task[None] = application.crashed  # type: ignore[attr-defined]
        connection = await asyncpg.connect(self.common.postgres_dsn)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await self._is_idle(connection):
                    done, _ = await asyncio.wait({crashed}, timeout=0.005)
                    for task in done:
                        task.result()
        finally:
            await connection.close()

    async def _is_idle(self, connection: Any) -> bool:
        lags = {**self.broker.lags("BARS"), **self.broker.lags("TARGETS")}
        if any(lags.get(name, 0) for name in (BARS_DURABLE, TARGETS_DURABLE)):
            return False
        return await connection.fetchval("SELECT count(*) FROM execution.outbox WHERE published_at IS NULL") == 0

    def told(self, subject: str) -> list[tuple[str, bytes]]:
        """Return (id, data) of what is on the stream under a subject, in order."""
        stream = self.broker._streams["EXECUTION"].messages
        return [(m.headers[headers.MESSAGE_ID], m.data) for m in stream if m.subject == subject]

    def told_in_order(self) -> list[str]:
        """Return the ids on the stream EXECUTION, in order."""
        return [m.headers[headers.MESSAGE_ID] for m in self.broker._streams["EXECUTION"].messages]

    async def journal(self) -> dict[str, list[str]]:
        """
        Return every row of the journal as text; equal journals are equal text, bit for bit.

        Left out: wall time, and the hashes of messages, which name the market.
        """
        connection = await asyncpg.connect(self.common.postgres_dsn)
        try:
            return {
                table: [
                    json.dumps(
                        {k: repr(v) for k, v in row.items() if k not in ("committed_at", "sha256", "market")},
                        sort_keys=True,
                    ).replace(self.common.market, "MARKET")
                    for row in await connection.fetch(
                        f"SELECT * FROM execution.{table} WHERE market = $1 ORDER BY {order}", self.common.market
                    )
                ]
                for table, order in TABLES.items()
            }
        finally:
            await connection.close()
