"""Killing the image service between every two durable steps of a job, with the real ledger, bus and database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from tests.kit.servers import NatsServer, PostgresServer
from tests.svc_imagegen.jobs.checks import check_everything
from tests.svc_imagegen.jobs.stage import Stage, stage

from qraft_contracts import headers
from qraft_contracts.billing import VoidHold
from qraft_contracts.codec import encode
from svc_imagegen.domain import failpoints
from svc_imagegen.domain.job import hold_id_of

pytestmark = [pytest.mark.nats, pytest.mark.postgres]

# Fail point → the prompt of the job that leads there.
_WAYS: dict[str, str] = {
    failpoints.AFTER_RESERVE: "paint",
    failpoints.AFTER_ACCEPT: "paint",
    failpoints.AFTER_CLAIM: "paint",
    failpoints.AFTER_ANSWER: "paint",
    failpoints.AFTER_STORE: "paint",
    failpoints.AFTER_SUCCESS: "paint",
    failpoints.AFTER_SETTLE: "paint",
    failpoints.AFTER_FINISH: "paint",
    failpoints.AFTER_RELEASE: "throttle",
    failpoints.AFTER_FAILURE: "reject",
    failpoints.AFTER_VOID: "reject",
    failpoints.AFTER_UNCERTAIN: "fail",
    failpoints.AFTER_DISPUTE: "fail",
    failpoints.AFTER_LOOK_UP: "task",
    failpoints.AFTER_LATE_SUCCESS: "wait",
}
_GATE = (failpoints.AFTER_RESERVE, failpoints.AFTER_CLAIM, failpoints.AFTER_SUCCESS, failpoints.AFTER_SETTLE)


@pytest.fixture
async def found(
    tmp_path: Path, nats_session: NatsServer, nats_url: str, postgres_session: PostgresServer, postgres_dsn: str
) -> AsyncIterator[Stage]:
    async with stage(tmp_path, nats_session, postgres_session, postgres_dsn) as running:
        yield running


def test_every_fail_point_has_a_way_to_it() -> None:
    assert set(_WAYS) == set(failpoints.FAILPOINTS)


async def test_a_kill_between_two_steps_of_a_job_costs_nobody_anything(found: Stage) -> None:
    await _kill_at(found, _GATE)


@pytest.mark.soak
async def test_a_kill_at_every_fail_point_costs_nobody_anything(found: Stage) -> None:
    await _kill_at(found, tuple(_WAYS))


async def _kill_at(found: Stage, names: tuple[str, ...]) -> None:
    """Let one process after the other end at its fail point, then let a last one clean up."""
    prompts = []
    for name in names:
        found.start_images(failpoint=name)
        prompts.append(f"{_WAYS[name]} {name}")
        await _post_until_killed(found, prompts[-1], name)
    found.start_images()
    await found.ready()
    for prompt in prompts:  # a client that never heard of its job asks again
        assert await found.ask(prompt) is not None
    await found.settled(within_s=60)
    await check_everything(found)
    assert len(found.jobs()) == len(prompts), "a client's repetition is the same job"


async def _post_until_killed(found: Stage, prompt: str, name: str) -> None:
    posting = asyncio.create_task(_post(found, prompt))
    was_killed = await found.ended("images", within_s=60)
    posting.cancel()
    await asyncio.wait({posting})
    assert was_killed, f"{name} was not reached\n{found.log()}"


async def _post(found: Stage, prompt: str) -> None:
    await found.ready()
    job_id = await found.ask(prompt)
    if prompt.startswith("wait") and job_id is not None:
        # The hold is gone before the picture comes.
        await found.upstream.waiting.wait()
        await _void(found, job_id)
        found.upstream.release.set()


async def _void(found: Stage, job_id: str) -> None:
    command = VoidHold(operation_id=f"test:{job_id}", hold_id=hold_id_of(job_id), account_id="acme", reason="test")
    client = await nats.connect(found.nats.url)
    reply = await client.request(
        VoidHold.SUBJECT, encode(command), timeout=5, headers={headers.SCHEMA: VoidHold.SCHEMA}
    )
    assert json.loads(reply.data)["outcome"] == "ok"
    await client.close()
