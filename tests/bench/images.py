"""
The image gateway under load: accepting a job, and the compatible path with a picture, each against its yardstick.

Run: `python -m tests.bench accept` and `python -m tests.bench compat`. Everything is on this machine, on all its cores:
nats-server (sync always), PostgreSQL (fsync, synchronous commit), one process of svc_billing, one gateway, one worker,
the load generator (raw sockets, 64 kept connections, one request at a time on each, every prompt another one), the
upstream (a 12 kB PNG at once) and the yardstick. One account pays. Gateway and yardstick are loaded in turn, the best
round of each counts, and an answer that is not the expected one makes the run void. Afterwards jobs, holds and calls of
the upstream are counted against the answers.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from tests.bench import images_load, images_upstream
from tests.bench.images_load import LoadResult, LoadSpec
from tests.bench.images_peers import FASTAPI, LITELLM, PeerMissing, bare_fastapi, litellm_proxy
from tests.bench.images_stage import Line, line
from tests.bench.measure import ROOT, machine, verdict
from tests.kit.servers import nats_server, postgres_server

N_CONNECTIONS: Final = 64
ROUNDS: Final = 3
WARM_UP_S: Final = 2.0
RUN_S: Final = 6.0
ACCEPT_RATIO_MIN: Final = 0.2
COMPAT_RATIO_MIN: Final = 5.0
COMPAT_P50_RATIO_MAX: Final = 0.25
_JOBS: Final = "/api/jobs"
_IMAGES: Final = "/v1/images/generations"
_OURS: Final = "POST /v1/images/generations"  # stands in every prompt of our side, by which its calls are counted
_PICTURE: Final = "iVBORw0KGgo"  # how every PNG begins in base64


@dataclass(slots=True)
class Side:
    """One of two servers that are compared, and what was measured of it."""

    name: str
    port: int
    path: str
    status: int
    expect: str
    key: str = field(default="none", repr=False)
    rounds: list[LoadResult] = field(default_factory=list)
    cpu_ms: list[dict[str, float]] = field(default_factory=list)

    async def load(self, cpu_s: Callable[[], dict[str, float]]) -> None:
        """Measure one round."""
        spec = LoadSpec(
            port=self.port,
            path=self.path,
            key=self.key,
            run=f"{self.name} {len(self.rounds)}",
            status=self.status,
            expect=self.expect,
            n_connections=N_CONNECTIONS,
            warm_up_s=WARM_UP_S,
            run_s=RUN_S,
        )
        before = cpu_s()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", images_load.__name__, msgspec.json.encode(spec).decode(),
            stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, f"the load generator ended with {process.returncode}"
        found = msgspec.json.decode(out, type=LoadResult)
        self.rounds.append(found)
        spent = {name: (seconds - before[name]) * 1e3 / max(found.n_all, 1) for name, seconds in cpu_s().items()}
        self.cpu_ms.append({**spent, "load": found.cpu_us / 1e3})

    @property
    def best(self) -> LoadResult:
        """Return the round with the highest rate."""
        return max(self.rounds, key=lambda it: it.rate)

    @property
    def n_all(self) -> int:
        """Return the good answers of all rounds."""
        return sum(it.n_all for it in self.rounds)

    @property
    def n_errors(self) -> int:
        """Return the bad answers of all rounds."""
        return sum(it.n_errors for it in self.rounds)

    def say(self) -> None:
        """Print what was measured."""
        it, rates = self.best, ", ".join(f"{one.rate:,.0f}" for one in self.rounds)
        print(f"  {self.name}: {it.rate:,.0f} requests/s, p50 {it.p50_ms:.1f} ms, p99 {it.p99_ms:.1f} ms", flush=True)
        print(f"    rounds {rates} requests/s; {self.n_all:,} good answers, {self.n_errors} errors, expected 0")
        spent = ", ".join(f"{name} {ms:.2f}" for name, ms in self.cpu_ms[self.rounds.index(it)].items())
        print(f"    processor ms a request: {spent}")
        for fault in [fault for one in self.rounds for fault in one.faults][:3]:
            print(f"    ERROR: {fault}")


async def in_turn(ours: Side, theirs: Side | None, made: Line, their_pid: int = 0) -> None:
    """Load both, round after round."""
    for _ in range(ROUNDS):
        if theirs is not None:
            await theirs.load(Line(made.folder, made.dsn, {}, pids={"server": their_pid}).cpu_s)
        await ours.load(made.cpu_s)
    for side in (theirs, ours):
        if side is not None:
            side.say()
            assert side.n_errors == 0, f"{side.name}: {side.n_errors} answers were wrong; the run is void"


async def accept() -> None:
    """Measure `POST /api/jobs`."""
    async with _stage(has_worker=False) as (made, _):
        ours = Side("POST /api/jobs", made.gateway_port, _JOBS, 202, '"state":"pending"', made.key)
        try:
            async with bare_fastapi(made.folder) as (port, pid):
                bare = Side("bare FastAPI 202", port, _JOBS, 202, '"state":"pending"')
                await in_turn(ours, bare, made, pid)
        except PeerMissing as error:
            bare = None
            print(f"  SKIPPED: the yardstick cannot be installed: {error}")
            await in_turn(ours, None, made)
        n_jobs = await made.value("SELECT count(*) FROM imagegen.jobs WHERE state = 'pending' AND money = 'held'")
        n_holds = await made.value("SELECT count(*) FROM billing.holds")
        print(f"    {ours.n_all:,} answers, {n_jobs:,} pending jobs, {n_holds:,} open holds")
        assert n_jobs == n_holds == ours.n_all, "expected a job and a hold for every answer"
    if bare is not None:
        ratio = ours.best.rate / bare.best.rate
        print(f"  ratio {ratio:.2f}, target {ACCEPT_RATIO_MIN}: {verdict(ratio >= ACCEPT_RATIO_MIN)}")


async def compat() -> None:
    """Measure `POST /v1/images/generations`."""
    async with _stage(has_worker=True) as (made, upstream):
        ours = Side(_OURS, made.gateway_port, _IMAGES, 200, _PICTURE, made.key)
        try:
            async with litellm_proxy(made.folder, upstream_port=upstream.port) as (port, pid):
                proxy = Side("LiteLLM proxy", port, _IMAGES, 200, _PICTURE)
                await in_turn(ours, proxy, made, pid)
        except PeerMissing as error:
            proxy = None
            print(f"  SKIPPED: the yardstick cannot be installed: {error}")
            await in_turn(ours, None, made)
        await _check_settled(made, ours.n_all, await upstream.n_made())
    if proxy is not None:
        ratio, p50 = ours.best.rate / proxy.best.rate, ours.best.p50_ms / proxy.best.p50_ms
        print(f"  requests/s: ratio {ratio:.1f}, target {COMPAT_RATIO_MIN}: {verdict(ratio >= COMPAT_RATIO_MIN)}")
        print(f"  p50: ratio {p50:.2f}, target {COMPAT_P50_RATIO_MAX}: {verdict(p50 <= COMPAT_P50_RATIO_MAX)}")


async def _check_settled(made: Line, n_answers: int, n_made: int) -> None:
    n_settled = await made.value("SELECT count(*) FROM imagegen.jobs WHERE state = 'succeeded' AND money = 'settled'")
    n_jobs = await made.value("SELECT count(*) FROM imagegen.jobs")
    n_open = await made.value("SELECT count(*) FROM billing.holds")
    print(f"    {n_answers:,} answers, {n_settled:,} of {n_jobs:,} jobs settled, {n_made:,} calls, {n_open} open holds")
    assert n_answers == n_settled == n_jobs == n_made and n_open == 0, "expected each answer called and settled once"
    print(f"    ledger: {(await made.command('svc_billing', 'verify')).strip().splitlines()[-1]}")


class Upstream:
    """The trivial provider as a process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    @classmethod
    async def start(cls) -> Upstream:
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", images_upstream.__name__, _OURS, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        return cls(process, int(await process.stdout.readline()))

    async def n_made(self) -> int:
        """Return how many pictures it has made for our gateway."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return int(await self._process.stdout.readline())

    async def stop(self) -> None:
        """End it."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def _stage(*, has_worker: bool) -> AsyncIterator[tuple[Line, Upstream]]:
    upstream = await Upstream.start()
    try:
        with (
            nats_server(is_durable=True) as broker,
            postgres_server(is_durable=True) as postgres,
            tempfile.TemporaryDirectory(prefix="qb-") as folder,
        ):
            async with line(broker, postgres, Path(folder), upstream_port=upstream.port, has_worker=has_worker) as made:
                yield made, upstream
    finally:
        await upstream.stop()


def main_accept() -> None:
    """Measure accepting and print."""
    print(f"method: {' '.join((__doc__ or '').split())}")
    print(f"  no worker runs, so that only accepting is measured; yardstick {' '.join(FASTAPI)}, body not even read")
    print(f"  {machine()}, {N_CONNECTIONS} connections")
    asyncio.run(accept())


def main_compat() -> None:
    """Measure the compatible path and print."""
    print(f"method: {' '.join((__doc__ or '').split())}")
    print(f"  yardstick {' '.join(LITELLM)}, one worker, without database, keys, logs and telemetry")
    print(f"  {machine()}, {N_CONNECTIONS} connections")
    asyncio.run(compat())
