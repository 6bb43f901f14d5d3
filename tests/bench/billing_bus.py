"""
Pairs of reserve and settle through the bus, 512 in flight, against the bare request/reply rate of nats-py.

Method: one nats-server, one PostgreSQL with synchronous commit and fsync, one `python -m svc_billing`, and the asking
process, all on this machine. 512 loops each ask reserve, then settle, on one of N accounts in turn, for a fixed time
after a warm-up; an answer that is not ok ends the run. The bare rate is the same asking process against a process that
answers at once with bytes of the same length, 512 in flight, in the same run: before and after, the better one counts.
The relay publishes the entries meanwhile, as it does in service.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import nats
import psutil
from tests.bench.measure import ROOT, Quantiles, machine, verdict
from tests.kit.servers import NatsServer, PostgresServer, nats_server, postgres_server
from tests.svc_billing.edge_kit import (
    PER_IMAGE,
    Service,
    ask,
    ask_until_decided,
    bus_client,
    fund,
    reserve,
    settle,
    start_service,
)

from qraft_bus.nats import NatsBus
from qraft_contracts.billing import ReadBalance
from qraft_contracts.codec import encode
from svc_billing.app import spare_collections

N_IN_FLIGHT = 512
WARM_UP_S = 2.0
RUN_S = 8.0
BARE_S = 3.0
N_ACCOUNTS = 1_000
TARGET_SPREAD = 4_000
TARGET_HOT = 3_000
BARE_RATIO = 2.5
P99_MS_MAX = 150.0
_SUBJECT = "bench.echo"
_ANSWER_BYTES = 420  # what the answer to a settle is long

_RESPONDER = f"""
import asyncio, sys, nats
async def main():
    client = await nats.connect(sys.argv[1])
    answer = b"x" * {_ANSWER_BYTES}
    async def reply(message):
        await client.publish(message.reply, answer)
    await client.subscribe("{_SUBJECT}", queue="bench", cb=reply)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Load:
    """Loops that each do one thing after the other until the time is over; latencies in ms by name."""

    def __init__(self) -> None:
        self.latencies_ms: dict[str, list[float]] = {}
        self.n_done = 0
        self._is_measuring = False

    async def timed(self, name: str, work: Awaitable[object]) -> object:
        """Do one piece of work and remember how long it took."""
        began = time.perf_counter()
        result = await work
        if self._is_measuring:
            self.latencies_ms.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
        return result

    async def run(self, once: Callable[[], Awaitable[None]], *, seconds: float, warm_up_s: float) -> float:
        """Return how often `once` was done a second, by all loops together."""
        stop = False

        async def loop() -> None:
            while not stop:
                await once()
                self.n_done += self._is_measuring

        loops = [asyncio.create_task(loop()) for _ in range(N_IN_FLIGHT)]
        await asyncio.sleep(warm_up_s)
        self._is_measuring, began = True, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = self.n_done / (time.perf_counter() - began)
        self._is_measuring, stop = False, True
        await asyncio.gather(*loops)
        return rate


async def bare_rate(url: str) -> float:
    """Return the requests a second of nats-py alone, with a question and an answer as long as ours."""
    responder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RESPONDER, url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert responder.stdout is not None
        await responder.stdout.readline()
        client = await nats.connect(url)
        question = encode(reserve("x" * 20))

        async def once() -> None:
            await client.request(_SUBJECT, question, timeout=10.0)

        rate = await Load().run(once, seconds=BARE_S, warm_up_s=0.5)
        await client.close()
    finally:
        responder.kill()
        await responder.wait()
    return rate


@dataclass(frozen=True, slots=True)
class Pairs:
    """One run: pairs a second, latencies by step, and how long each process computed for a pair."""

    rate: float
    latencies_ms: dict[str, Quantiles]
    computed_us: dict[str, float]


async def pairs(bus: NatsBus, accounts: list[str], *, run: str, processes: dict[str, list[psutil.Process]]) -> Pairs:
    """Measure one run."""
    load, numbers, turns = Load(), itertools.count(), itertools.cycle(accounts)
    before = {name: computed_s(process) for name, process in processes.items()}

    async def pair() -> None:
        name = f"{run}/{next(numbers)}"
        for step in (reserve(name, account=next(turns)), settle(name, 2 * PER_IMAGE)):
            reply = await load.timed(type(step).__name__, ask(bus, step, timeout_s=30.0))
            assert reply.outcome == "ok", reply  # type: ignore[attr-defined]

    async def once() -> None:
        await load.timed("pair", pair())

    rate = await load.run(once, seconds=RUN_S, warm_up_s=WARM_UP_S)
    n_pairs = next(numbers)
    computed_us = {name: (computed_s(it) - before[name]) / n_pairs * 1e6 for name, it in processes.items()}
    latencies_ms = {name: Quantiles.of(values) for name, values in load.latencies_ms.items()}
    return Pairs(rate, latencies_ms, computed_us)


def computed_s(processes: list[psutil.Process]) -> float:
    """Return the processor time of processes so far."""
    return sum(sum(it.cpu_times()[:2]) for it in processes)


async def backends(dsn: str) -> list[psutil.Process]:
    """Return the processes of the PostgreSQL server behind an address on this machine."""
    connection = await asyncpg.connect(dsn)
    backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
    server = backend.parent()
    assert server is not None, "a backend is a child of its server"
    found = [it for it in server.children() if it != backend]
    await connection.close()
    return found


def say(name: str, run: Pairs, *, target: float, bare: float) -> None:
    """Print one run against its target."""
    target = min(target, bare / BARE_RATIO)
    print(f"  {name}: {run.rate:,.0f} pairs/s, target {target:,.0f}: {verdict(run.rate >= target)}")
    for step, it in run.latencies_ms.items():
        print(f"    {step}: p50 {it.p50:.1f} ms, p99 {it.p99:.1f} ms (n = {it.n})")
    worst = max(run.latencies_ms[step].p99 for step in ("ReserveCredits", "SettleHold"))
    print(f"    p99 of a command {worst:.1f} ms, target {P99_MS_MAX:.0f}: {verdict(worst <= P99_MS_MAX)}")
    times = ", ".join(f"{name} {value:.0f}" for name, value in run.computed_us.items())
    print(f"    processor time a pair in µs: {times}")


async def measure(broker: NatsServer, postgres: PostgresServer, folder: Path) -> None:
    """Run everything once."""
    accounts = [f"acct-{i:04d}" for i in range(N_ACCOUNTS)]
    with postgres.fresh_database() as dsn:
        await fund(dsn, "hot", *accounts, amount=10**13)
        before = await bare_rate(broker.url)
        service: Service = await start_service(broker.url, dsn, folder)
        try:
            async with bus_client(broker.url) as bus:
                await ask_until_decided(bus, ReadBalance("hot"))
                spare_collections()  # the asking process's own pauses are no latency of the service
                processes = {
                    "service": [psutil.Process(service.process.pid)],
                    "PostgreSQL": await backends(dsn),
                    "nats-server": [psutil.Process(broker.pid)],
                    "asking process": [psutil.Process()],
                }
                spread = await pairs(bus, accounts, run="spread", processes=processes)
                hot = await pairs(bus, ["hot"], run="hot", processes=processes)
            code = await service.terminate()
            assert code == 0, service.said()
        finally:
            if service.process.returncode is None:
                await service.kill()
        bare = max(before, await bare_rate(broker.url))
    print(f"  bare nats-py request/reply: {bare:,.0f}/s, ÷ {BARE_RATIO} = {bare / BARE_RATIO:,.0f}")
    say(f"{N_ACCOUNTS:,} accounts", spread, target=TARGET_SPREAD, bare=bare)
    say("one hot account", hot, target=TARGET_HOT, bare=bare)


def main() -> None:
    """Measure and print."""
    print(f"method: {' '.join((__doc__ or '').split())}")
    print(f"  {machine()}, {N_IN_FLIGHT} in flight")
    with (
        nats_server(is_durable=True) as broker,
        postgres_server(is_durable=True) as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        asyncio.run(measure(broker, postgres, Path(folder)))


if __name__ == "__main__":
    main()
