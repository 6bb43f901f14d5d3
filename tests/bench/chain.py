"""
Closed bar of 500 symbols → all its orders stored, five processes, against a bare nats-py chain of the same hops.

Method: both run on the same kind of nats-server (file storage, sync always), one after the other, with the same Arrow
batch of bars at the head and the same rate. A bar's latency is the time from the head's publish (its stamp) to the
moment at which the stream stored the last message of that bar at the tail; bars without orders are not counted. The
500 symbols are the five stored ones, each from 100 different periods moved onto one calendar: a load, not a market.
The rebalance band is narrowed so that hundreds of small weights give orders at every bar. Pure compute is what the
services measured of themselves in the run.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import nats
import polars as pl
from tests.bench.measure import ROOT, Quantiles, machine, temporary_home, verdict

from qraft_cli import line, story
from qraft_cli.stack.home import Home
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.ports import pick_port
from qraft_cli.stack.servers import nats_command, wait_for_nats
from qraft_cli.stack.session import connect_bus
from qraft_cli.stack.supervisor import Supervisor
from qraft_contracts.headers import HOPS, parse_hops

N_SYMBOLS = 500
N_BARS = 480
WARM_UP = 40  # not counted: compilation, caches, first connections
BARS_PER_S = 2.0  # a real bar comes every 300 s; faster, one slow bar would be counted as many
SHIFT = timedelta(days=2)
_ENVIRONMENT = {"QRAFT_EXECUTION_REBALANCE_BAND": "0.0002"}
TARGET_RATIO = 1.3
_SUBJECTS = ("bare.bars", "bare.features", "bare.signals", "bare.targets", "bare.orders")


def build_dataset(source: Path, folder: Path, *, days: int) -> None:
    """
    Write 500 symbols of the stored ones, each copy from an earlier period.

    Copies of the same days would be one cluster of full correlation, which the allocator shrinks to no order at all.
    """
    frames = [pl.read_parquet(path) for path in sorted(source.glob("*.parquet"))]
    folder.mkdir(parents=True)
    for i in range(N_SYMBOLS):
        frame, shift = frames[i % len(frames)], SHIFT * (i // len(frames))
        end = frame["open_time"].max() - shift  # type: ignore[operator]
        period = frame.filter((pl.col("open_time") > end - timedelta(days=days)) & (pl.col("open_time") <= end))
        period.with_columns(pl.col("open_time") + shift).write_parquet(folder / f"L{i:03d}USDT.parquet")


async def bare_chain(payload: bytes, home: Home) -> Quantiles:
    """Return the latency in ms of the bare chain carrying the payload."""
    home.create()
    taken: set[int] = set()
    port, monitor = pick_port(4222, taken=taken), pick_port(8222, taken=taken)
    servers = Supervisor(home.logs, on_change=lambda: None)
    await servers.start(nats_command(home, port=port, monitor_port=monitor), env={})
    workers = []
    try:
        await wait_for_nats(port)
        url = f"nats://127.0.0.1:{port}"
        connection = await nats.connect(url)
        jetstream = connection.jetstream()
        for subject in _SUBJECTS:
            await jetstream.add_stream(name=subject.replace(".", "_").upper(), subjects=[subject])
        for source, target in itertools.pairwise(_SUBJECTS):
            argv = (sys.executable, "-m", "tests.bench.bare_chain", url, source, target, str(N_BARS))
            worker = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
            assert worker.stdout is not None
            await worker.stdout.readline()
            workers.append(worker)
        for i in range(N_BARS):
            head = {"Nats-Msg-Id": f"bare.bars/{i}", "Head-Ns": str(time.time_ns())}
            await jetstream.publish(_SUBJECTS[0], payload, headers=head)
            await asyncio.sleep(1 / BARS_PER_S)
        await asyncio.gather(*(worker.wait() for worker in workers))
        tail = await _stored(connection, _SUBJECTS[-1])
        await connection.close()
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
        await servers.stop_all()
    return Quantiles.of([(at - int(headers["Head-Ns"])) / 1e6 for at, headers, _ in tail[WARM_UP:]])


async def _stored(connection: nats.NATS, subject: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Return (stored at in unix ns, headers, payload) of all messages of a subject."""
    return [
        (int(message.metadata.timestamp.timestamp() * 1e6) * 1000, dict(message.headers or {}), message.data)
        for message in await line.stored_messages(connection, subject)
    ]


async def service_chain(home: Home, dataset: Path, model_id: str, artefacts: str) -> tuple[Quantiles, bytes, str]:
    """Return the latency in ms of the five services, one bars payload, and a text on compute and orders."""
    newest = pl.scan_parquet(dataset / "L000USDT.parquet").select(pl.col("open_time").max()).collect().item()
    end = newest
    start = end - timedelta(minutes=5 * N_BARS)
    stretch = line.Stretch(dataset, start, end, model_id, artefacts, speed=BARS_PER_S)
    texts: list[str] = []
    found: list[tuple[Quantiles, bytes]] = []

    async def look(stack: LocalStack) -> None:
        await line.wait_for_end(home, stretch, story.silent)
        await line.wait_for_outbox(home)
        connection = await connect_bus(stack.nats_url)
        try:
            bars = await _stored(connection, "bars.5m")
            orders = await _stored(connection, "orders.paper")
        finally:
            await connection.close()
        heads = {headers["Qraft-As-Of"]: dict(parse_hops(headers[HOPS]))["svc_ingest"] for _, headers, _ in bars}
        last: dict[str, int] = {}
        for at, headers, _ in orders:
            last[headers["Qraft-As-Of"]] = max(at, last.get(headers["Qraft-As-Of"], 0))
        warm = set(sorted(heads)[:WARM_UP])
        counted = [as_of for as_of in last if as_of not in warm]
        found.append((Quantiles.of([(last[as_of] - heads[as_of]) / 1e6 for as_of in counted]), bars[-1][2]))
        texts.append(f"{len(orders) / max(1, len(last)):.1f} orders a bar in {len(counted)} counted bars")
        texts.extend(_hops(orders, warm, last))
        texts.extend(await _compute(stack))
        texts.extend(_memory(stack))

    await line.play(home, stretch, timeout_s=600, progress=story.silent, disturb=look, environment=_ENVIRONMENT)
    return found[0][0], found[0][1], "\n  ".join(texts)


def _hops(orders: list[tuple[int, dict[str, str], bytes]], warm: set[str], last: dict[str, int]) -> list[str]:
    """Return one line a hop: from one service's publish to the next one's, the last order's storage at the end."""
    stamps = {headers["Qraft-As-Of"]: parse_hops(headers[HOPS]) for _, headers, _ in orders}
    spans: dict[str, list[float]] = {}
    for as_of, hops in stamps.items():
        if as_of in warm:
            continue
        ends = [*hops[1:], ("stored", last[as_of])]
        for (_, begun), (name, ended) in zip(hops, ends, strict=True):
            spans.setdefault(name, []).append((ended - begun) / 1e6)
    return [
        f"hop to {name}: p50 {q.p50:.2f} ms, p99 {q.p99:.2f} ms"
        for name, q in ((name, Quantiles.of(values)) for name, values in spans.items())
    ]


async def _compute(stack: LocalStack) -> list[str]:
    """Return one line a stage: mean pure compute in ms, from the services' own histograms."""
    lines, total = [], 0.0
    async with httpx.AsyncClient(timeout=5) as client:
        for name, port in stack.http_ports.items():
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            for stage, seconds in re.findall(r'^qraft_stage_seconds_sum\{stage="(\w+)"\} (\S+)', text, re.M):
                count = re.search(rf'^qraft_stage_seconds_count\{{stage="{stage}"\}} (\S+)', text, re.M)
                if count is None or float(count.group(1)) == 0:
                    continue
                mean_ms = float(seconds) / float(count.group(1)) * 1e3
                total += mean_ms
                lines.append(f"compute {name} {stage}: mean {mean_ms:.3f} ms over {float(count.group(1)):.0f}")
    return [*lines, f"compute total: {total:.3f} ms"]


def _memory(stack: LocalStack) -> list[str]:
    import psutil

    return [
        f"memory {info.name}: {psutil.Process(info.pid).memory_info().rss / 1e6:.0f} MB"
        for info in stack.supervisor.processes()
        if info.name.startswith("svc_")
    ]


def run(data: Path, model_id: str, artefacts: str) -> None:
    """Measure and print."""
    folder = temporary_home()
    try:
        dataset = folder / "load500"
        build_dataset(data / "bars" / "perp_5m_2025", dataset, days=line.HISTORY_DAYS + 3)
        ours, payload, text = asyncio.run(service_chain(Home(folder / "line"), dataset, model_id, artefacts))
        bare = asyncio.run(bare_chain(payload, Home(folder / "bare")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    compute_ms = float(re.search(r"compute total: (\S+) ms", text).group(1))  # type: ignore[union-attr]
    allowed = TARGET_RATIO * bare.p99 + compute_ms
    print(__doc__)
    print(f"  {machine()}; payload {len(payload):,} bytes")
    print(f"  bare chain: p50 {bare.p50:.2f} ms, p99 {bare.p99:.2f} ms (n {bare.n})")
    print(f"  services:   p50 {ours.p50:.2f} ms, p99 {ours.p99:.2f} ms (n {ours.n})")
    print(f"  {text}")
    print(
        f"  figure: p99 {ours.p99:.2f} ms against 1.3 × {bare.p99:.2f} + {compute_ms:.2f} = {allowed:.2f} ms: "
        f"{verdict(ours.p99 <= allowed)} (ratio to the bare chain, compute taken off: "
        f"{(ours.p99 - compute_ms) / bare.p99:.2f})"
    )
