"""
The ledger's group commit against the bare set-based batch and against one transaction a command, on one server.

Run: `python -m tests.bench ledger`. PostgreSQL with fsync and synchronous commit on, uvloop as in the service. A
command is a reserve or a settle of 512 callers, each of which waits for its answer. The bare batch is 512 rows a
transaction of what no ledger can do without: an event with its unique id and as many bytes as ours, and the balances of
the accounts; it decides nothing, checks nothing and answers nobody. Engines run in turn, the best round of each counts.
Commands are made before the clock starts, as the bodies of the bare batch are. Processor times are those of the best
round, of this process (callers included) and of the server's processes.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from time import perf_counter, process_time

import asyncpg
import psutil
import uvloop
from tests.bench.measure import machine, verdict
from tests.kit.servers import postgres_server

from qraft_contracts.billing import OK, BillingReply, PricedItem, ReserveCredits, SettleHold
from qraft_runtime.clock import SystemClock
from svc_billing.adapters.database import Database
from svc_billing.adapters.postgres import PostgresStore
from svc_billing.adapters.postgres_reader import PostgresReader
from svc_billing.app import spare_collections
from svc_billing.domain.commands import Command, GrantCredits, OpenAccount, PublishPrices
from svc_billing.domain.prices import PriceRule
from svc_billing.usecases.ledger import BATCH_MAX, Ledger

ROUNDS = 3
N_CALLERS = 512
BARE_BATCH = 512
N_COMMANDS = 20_480
N_SINGLE = 1_536
N_CONNECTIONS = 32
RATIO_MIN = 0.5
SPEED_UP_MIN = 20.0
PRICE = 20
ITEM = PricedItem("simulated", "m", "generation", "1024x1024", "low", 1)
_BARE = """
DROP TABLE IF EXISTS bare_events, bare_accounts;
CREATE TABLE bare_events (
    seq bigint PRIMARY KEY, operation_id text NOT NULL UNIQUE, account_id text NOT NULL, amount bigint NOT NULL,
    body bytea NOT NULL
);
CREATE TABLE bare_accounts (account_id text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0))
WITH (fillfactor = 50);
"""
_BARE_EVENTS = """
INSERT INTO bare_events SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
"""
_BARE_BALANCES = """
UPDATE bare_accounts a SET available = a.available + d.amount
FROM unnest($1::text[], $2::bigint[]) d (account_id, amount) WHERE a.account_id = d.account_id
"""


async def bare_batches(dsn: str, *, n_accounts: int, n_body_bytes: int) -> float:
    """Return the commands a second of the bare batch."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_BARE)
    names = [f"acct-{n}" for n in range(n_accounts)]
    await connection.execute("INSERT INTO bare_accounts SELECT unnest($1::text[]), 1000000000000", names)
    body, amounts = os.urandom(n_body_bytes), [-PRICE] * BARE_BATCH
    started = perf_counter()
    for start in range(0, N_COMMANDS, BARE_BATCH):
        seqs = list(range(start, start + BARE_BATCH))
        accounts = [names[seq % n_accounts] for seq in seqs]
        sums = Counter(accounts)
        async with connection.transaction():
            ids = [f"reserve/job-{seq:012d}" for seq in seqs]
            await connection.execute(_BARE_EVENTS, seqs, ids, accounts, amounts, [body] * BARE_BATCH)
            await connection.execute(_BARE_BALANCES, list(sums), [-PRICE * n for n in sums.values()])
    elapsed = perf_counter() - started
    await connection.close()
    return N_COMMANDS / elapsed


class Measured:
    """The shipped ledger on a database of its own."""

    def __init__(self, ledger: Ledger, reader: PostgresReader, *, server: psutil.Process) -> None:
        self.ledger = ledger
        self.reader = reader
        self._numbers = count(int(perf_counter() * 1e3) % 10**6 * 1_000)
        self._server = server
        self._best = 0.0
        self.python_us = 0.0
        self.postgres_us = 0.0

    async def open_accounts(self, n_accounts: int) -> list[str]:
        """Open funded accounts and publish a price."""
        rule = PriceRule("simulated", "m", "generation", "1024x1024", "low", PRICE)
        await self.ok(PublishPrices(f"prices/{next(self._numbers)}", (rule,), "bench"))
        names = [f"a{next(self._numbers)}" for _ in range(n_accounts)]
        await asyncio.gather(*[self.ok(OpenAccount(f"open/{name}", name, "bench", "bench")) for name in names])
        await asyncio.gather(
            *[
                self.ok(GrantCredits(f"give/{name}", name, f"g/{name}", "paid", 10**12, 0, None, "bench", "bench"))
                for name in names
            ]
        )
        return names

    async def ok(self, command: Command) -> None:
        """Send a command that must be accepted."""
        reply = await self.ledger.enqueue(command, told_as=_itself)
        assert reply.outcome == OK, reply

    async def pairs(self, accounts: list[str], n_commands: int) -> float:
        """Return the commands a second of reserve and settle by 512 callers."""
        base = next(self._numbers) * 10_000_000
        ready = [
            [step for n in range(base + caller, base + n_commands // 2, N_CALLERS) for step in pair(n, accounts)]
            for caller in range(N_CALLERS)
        ]

        async def call(commands: list[Command]) -> None:
            for command in commands:
                await self.ok(command)

        started, python_s, postgres_s = perf_counter(), process_time(), self._postgres_s()
        await asyncio.gather(*map(call, ready))
        rate = n_commands / (perf_counter() - started)
        if rate > self._best:
            self._best = rate
            self.python_us = (process_time() - python_s) / n_commands * 1e6
            self.postgres_us = (self._postgres_s() - postgres_s) / n_commands * 1e6
        return rate

    def begin(self) -> None:
        """Forget the best round so far."""
        self._best = 0.0

    def _postgres_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._server.children())


def pair(n: int, accounts: list[str]) -> tuple[Command, Command]:
    """Return the two commands of one call."""
    hold_id = f"hold-{n:012d}"
    reserve = ReserveCredits(f"reserve/{hold_id}", accounts[n % len(accounts)], hold_id, ITEM, 600, f"job/{n:012d}")
    return reserve, SettleHold(f"settle/{hold_id}", hold_id, PRICE, (f"{n:064x}",))


def _itself(reply: BillingReply) -> BillingReply:
    return reply


@asynccontextmanager
async def measured(dsn: str, *, batch_max: int) -> AsyncIterator[Measured]:
    """Run the shipped ledger."""
    database = Database(dsn)
    await database.open()
    spare_collections()  # as the service does
    ledger = Ledger(PostgresStore(database), clock=SystemClock(), batch_max=batch_max)
    task = asyncio.create_task(ledger.run())
    try:
        backend = psutil.Process(await database.read.fetchval("SELECT pg_backend_pid()"))
        server = backend.parent()
        assert server is not None, "a backend is a child of its server"
        yield Measured(ledger, PostgresReader(database), server=server)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()


async def five_round_trips(dsn: str, *, n_commands: int) -> float:
    """Return the commands a second of the classic transaction on one account: lock, look, insert, update, commit."""
    pool = await asyncpg.create_pool(dsn, min_size=N_CONNECTIONS, max_size=N_CONNECTIONS)
    await pool.execute(_BARE)
    await pool.execute("INSERT INTO bare_accounts VALUES ('hot', 1000000000000)")
    body = os.urandom(500)
    numbers = iter(range(n_commands))

    async def call() -> None:
        for n in numbers:
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchrow("SELECT available FROM bare_accounts WHERE account_id = 'hot' FOR UPDATE")
                await connection.fetchrow("SELECT seq FROM bare_events WHERE operation_id = $1", f"reserve/{n}")
                insert = "INSERT INTO bare_events VALUES ($1, $2, 'hot', $3, $4)"
                await connection.execute(insert, n, f"reserve/{n}", -PRICE, body)
                update = "UPDATE bare_accounts SET available = available - $1 WHERE account_id = 'hot'"
                await connection.execute(update, PRICE)

    started = perf_counter()
    await asyncio.gather(*[call() for _ in range(N_CONNECTIONS)])
    elapsed = perf_counter() - started
    await pool.close()
    return n_commands / elapsed


async def body_bytes(reader: PostgresReader) -> int:
    """Return the mean size of the newest events."""
    head = await reader.head()
    page = await reader.events_after(head.seq - 1_000)
    return sum(len(stored.body) for stored in page) // len(page)


async def best(run: Callable[[], Awaitable[float]], *others: Callable[[], Awaitable[float]]) -> list[float]:
    """Return the best of some rounds of each, run in turn."""
    runs = (run, *others)
    found = [0.0] * len(runs)
    for _ in range(ROUNDS):
        for n, one in enumerate(runs):
            found[n] = max(found[n], await one())
    return found


async def compare(dsn: str) -> None:
    """Measure and print."""
    hot = 0.0
    async with measured(dsn, batch_max=BATCH_MAX) as ours:
        for n_accounts in (1_000, 1):
            accounts = await ours.open_accounts(n_accounts)
            await ours.pairs(accounts, 4_096)
            n_bytes = await body_bytes(ours.reader)
            ours.begin()
            found, bare = await best(
                lambda accounts=accounts: ours.pairs(accounts, N_COMMANDS),  # type: ignore[misc]
                lambda n=n_accounts, b=n_bytes: bare_batches(dsn, n_accounts=n, n_body_bytes=b),  # type: ignore[misc]
            )
            ratio, hot = found / bare, found
            print(
                f"  {n_accounts:>5} accounts: group commit {found:,.0f}/s (a command {ours.python_us:.0f} µs of Python,"
                f" {ours.postgres_us:.0f} µs of PostgreSQL),"
                f" bare batch with {n_bytes} bytes an event {bare:,.0f}/s, ratio {ratio:.2f},"
                f" target {RATIO_MIN}: {verdict(ratio >= RATIO_MIN)}",
                flush=True,
            )
    async with measured(dsn, batch_max=1) as one_by_one:
        accounts = await one_by_one.open_accounts(1)
        single, classic = await best(
            lambda: one_by_one.pairs(accounts, N_SINGLE), lambda: five_round_trips(dsn, n_commands=N_SINGLE)
        )
    for name, figure in (("the same code, batches of one", single), ("five round trips, 32 connections", classic)):
        speed_up = hot / figure
        print(
            f"  one hot account, {name}: {figure:,.0f}/s, group commit is {speed_up:.0f} x,"
            f" target {SPEED_UP_MIN:.0f} x: {verdict(speed_up >= SPEED_UP_MIN)}"
        )


def main() -> None:
    """Run on a fresh server."""
    print(f"method: {N_CALLERS} callers, reserve and settle in turn, {N_COMMANDS:,} commands a round, best of {ROUNDS}")
    print(f"  {machine()}")
    with (
        postgres_server(is_durable=True) as server,
        server.fresh_database() as dsn,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(compare(dsn))


if __name__ == "__main__":
    main()
