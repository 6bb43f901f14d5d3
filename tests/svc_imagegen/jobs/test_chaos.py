"""Jobs keep coming while every process and every server is killed, one after the other or at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.kit.servers import nats_server, postgres_server
from tests.svc_imagegen.jobs.checks import check_everything
from tests.svc_imagegen.jobs.stage import Stage, stage

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

_WORDS = ("paint", "paint", "paint", "throttle", "reject", "fail", "task")
_N_CLIENTS = 4


@pytest.fixture
async def found(tmp_path: Path) -> AsyncIterator[Stage]:
    """Servers of this test's own: they are killed."""
    with nats_server(is_durable=True) as nats, postgres_server() as postgres, postgres.fresh_database() as dsn:
        async with stage(tmp_path, nats, postgres, dsn) as running:
            yield running


async def test_no_kill_of_any_part_costs_anybody_anything(found: Stage) -> None:
    await _survive(found, [*_killers(found)])


@pytest.mark.soak
async def test_forty_random_kills_cost_nobody_anything(found: Stage) -> None:
    rng = random.Random(3)
    await _survive(found, [rng.choice(_killers(found)) for _ in range(40)])


def _killers(found: Stage) -> list[Callable[[], None]]:
    def service(name: str) -> Callable[[], None]:
        def kill() -> None:
            if name in found.running:
                found.kill(name)

        return kill

    return [service("worker"), service("gateway"), service("billing"), found.nats.kill, found.postgres.crash]


async def _survive(found: Stage, kills: list[Callable[[], None]]) -> None:
    supervising = asyncio.create_task(_supervise(found))
    await found.ready()
    clients = [asyncio.create_task(_client(found, n)) for n in range(_N_CLIENTS)]
    rng = random.Random(5)
    for kill in kills:
        await found.ready()
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        kill()
        await asyncio.sleep(0.3)
        if kill == found.nats.kill:
            found.nats.start()
        if kill == found.postgres.crash:
            found.postgres.start()
    await found.ready()
    prompts = [prompt for client in clients for prompt in await _stop(client)]
    for prompt in prompts:
        await _insist(found, prompt)
    await found.settled(within_s=60)
    supervising.cancel()
    await asyncio.wait({supervising})
    assert len(found.jobs()) == len(prompts) > len(kills) / 2
    await check_everything(found)


async def _supervise(found: Stage) -> None:
    """Start what is not running, as any supervisor does."""
    while True:
        for name in ("billing", "gateway", "worker"):
            process = found.running.get(name)
            if process is not None and process.poll() is None:
                continue
            if name == "billing":
                found.start("billing", "svc_billing")
            else:
                found.start_images(name, roles=name)
        await asyncio.sleep(0.2)


async def _client(found: Stage, n: int) -> list[str]:
    """Ask for one picture after another until canceled; return all that was ever asked for."""
    rng = random.Random(n)
    prompts: list[str] = []
    try:
        while True:
            prompts.append(f"{rng.choice(_WORDS)} {n}-{len(prompts)}")
            await _insist(found, prompts[-1])
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return prompts


async def _insist(found: Stage, prompt: str) -> None:
    while await found.ask(prompt) is None:
        await asyncio.sleep(0.1)


async def _stop(client: asyncio.Task[list[str]]) -> list[str]:
    client.cancel()
    return await client
