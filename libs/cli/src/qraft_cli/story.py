"""
The quant half of `qraft run`, step by step: bars into the lake, a first model through the gates, the services.

The demonstration acts as the operator under the name `demo`, and every decision it takes is recorded as such.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qraft_cli.registry_session import open_registry
from qraft_cli.stack.local import LocalStack, dataset_folder
from qraft_cli.stack.ready import wait_until_ready
from qraft_cli.stack.servers import ServerCommand, ServerFailed
from qraft_cli.stack.services import SERVICES
from qraft_contracts.outcomes import Refused
from qraft_contracts.times import format_instant

# The last days of the stored bars are replayed; the model never sees them.
REPLAY_DAYS = 29
DEMO_ACTOR = "demo"
_READY_TIMEOUT_S = 60.0

Progress = Callable[[str, int, int], None]  # what, steps done, of how many


def silent(_step: str, _done: int, _of: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the bars come from and from when on they are played. replay_from None: the source decides."""

    source: str  # files | exchange | simulated
    origin: str
    described: str
    replay_from: datetime | None
    environment: Mapping[str, str]


def make_plan(*, speed: float, profile: str, replay_from: datetime | None = None) -> Plan:
    """Choose the source of bars: stored ones first, then an exchange, else the simulator (decided by svc_ingest)."""
    environment = {"QRAFT_ALLOCATOR_PROFILE": profile, "QRAFT_INGEST_SPEED": str(speed)}
    folder = dataset_folder()
    if folder is None:
        environment["QRAFT_INGEST_SOURCE"] = "auto"
        return Plan("auto", "unknown", "no stored bars: an exchange if one answers, else simulated", None, environment)
    start = replay_from or _replay_start(folder)
    environment |= {
        "QRAFT_INGEST_SOURCE": "files",
        "QRAFT_INGEST_DATASET": str(folder),
        "QRAFT_INGEST_REPLAY_FROM": format_instant(start),
        "QRAFT_TRAIN_UNTIL": format_instant(start),
    }
    described = f"stored bars {folder.name}, replayed from {start:%Y-%m-%d}"
    return Plan("files", "replay", described, start, environment)


def stored_range(folder: Path) -> tuple[datetime, datetime]:
    """Return the opening times of the first and the last stored bar of a data set."""
    columns = [pq.read_table(path, columns=["open_time"])["open_time"] for path in folder.glob("*.parquet")]
    first, last = min(pc.min(column).as_py() for column in columns), max(pc.max(column).as_py() for column in columns)
    assert isinstance(first, datetime) and isinstance(last, datetime), (first, last)
    return first.astimezone(UTC), last.astimezone(UTC)


def _replay_start(folder: Path) -> datetime:
    _, newest = stored_range(folder)
    return newest.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=REPLAY_DAYS)


async def prepare(stack: LocalStack, progress: Progress) -> str:
    """
    Bring running servers to the point where bars may be played: history in the lake, a model active for paper.

    Returns:
        One sentence on the active model, or on why there is none.

    Raises:
        ServerFailed: if a job fails; the message names its log.
    """
    loaded = await run_job(stack, "svc_ingest", ("load",), progress)
    stack.origin = str(loaded.get("origin", stack.origin))
    stack.write_state()
    async with open_registry() as session:
        active = await session.registry.active()
    if active:
        models = sorted({decision.model_id for decision in active.values()})
        return f"model {', '.join(models)} is active since an earlier run"
    result = await run_job(stack, "svc_train", (), progress)
    model_id = str(result.get("model_id", ""))
    return await promote_as_demo(model_id)


async def promote_as_demo(model_id: str) -> str:
    """Give the operator's command for the first model; the gates decide. Return one sentence on the result."""
    async with open_registry() as session:
        try:
            await session.registry.promote(
                model_id, actor=DEMO_ACTOR, reason="first model of the demonstration, after its integrity gates"
            )
        except Refused as error:
            return f"model {model_id} was refused by the gates, so no signals: {error}"
        finally:
            await session.publish_decisions()
    return f"model {model_id} passed the integrity gates and is active for paper (actor {DEMO_ACTOR})"


async def start_services(stack: LocalStack) -> None:
    """
    Start every service of the line; the bars begin when their readers are ready.

    svc_ingest paces itself by the consumers that exist, so it comes last. A reader that does not get ready in time does
    not hold up the rest: its messages wait on the stream, and `qraft status` shows it.
    """
    *readers, source = SERVICES
    for name in readers:
        await stack.start_service(name)
    await asyncio.gather(*(wait_until_ready(stack.http_ports[it], timeout_s=_READY_TIMEOUT_S) for it in readers))
    await stack.start_service(source)


async def run_job(stack: LocalStack, module: str, arguments: tuple[str, ...], progress: Progress) -> dict[str, Any]:
    """
    Run `python -m module arguments` to its end, showing the JSON progress lines of its standard output.

    Returns:
        The last line that was a result (`event` ending in `.finished` or `.loaded`), or {}.

    Raises:
        ServerFailed: if the job exits with a failure.
    """
    name = "-".join((module, *arguments))
    command = ServerCommand(name, (sys.executable, "-m", module, *arguments))
    process = await stack.supervisor.run_job(command, env=stack.service_env())
    assert process.stdout is not None
    result: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            event = _parse(line)
            if event.get("event", "").endswith(".progress"):
                progress(module, *_steps(event))
            elif event.get("event", "").endswith((".finished", ".loaded")):
                result = event
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code != 0:
        log = stack.home.logs / f"{name}.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise ServerFailed(f"{name} ended with exit code {code}: {' '.join(last)[:600]} (whole log: {log})")
    return result


def _steps(event: dict[str, Any]) -> tuple[int, int]:
    """Return (done, of) from a job's progress line, which counts steps or tells a fraction."""
    if "n_steps" in event:
        return int(event["step"]), int(event["n_steps"])
    return round(100 * (event.get("done_frac") or 0.0)), 100


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
