"""The disk of the streams is full in the middle of a day: that is said, and nothing is lost once there is space."""

import asyncio
import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import httpx
import nats
import pytest
from nats.js.api import DiscardPolicy
from tests.e2e.same_day import SPEED, same

from qraft_bus.streams import STREAMS, stream_config

pytestmark = [pytest.mark.stack, pytest.mark.data]

N_BARS_BEFORE = 30
FULL_S = 6.0
SAID_WITHIN_S = 20.0
DISK = "24m"
LINE_STREAMS = ("BARS", "FEATURES", "SIGNALS", "TARGETS", "EXECUTION")


async def _until_bars_flow(stack):
    connection = await nats.connect(stack.nats_url)
    async with asyncio.timeout(60):
        while (await connection.jetstream().stream_info("BARS")).state.messages < N_BARS_BEFORE:
            await asyncio.sleep(0.1)
    await connection.close()


async def _until_bus_not_ready(stack, name):
    """Return what the service says of the bus on /readyz once it is not ready."""
    async with asyncio.timeout(SAID_WITHIN_S), httpx.AsyncClient(timeout=5) as client:
        while True:
            response = await client.get(f"http://127.0.0.1:{stack.http_ports[name]}/readyz")
            if response.json()["bus"] != "ready":
                return response.json()["bus"]
            await asyncio.sleep(0.1)


def _restarts(stack):
    return {it.name: it.n_restarts for it in stack.supervisor.processes() if it.name.startswith("svc_")}


def _events(stack, name):
    lines = (stack.home.logs / f"{name}.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


async def _limit_streams(stack, *, is_full):
    """Let the streams of the line take nothing more, or everything again."""
    connection = await nats.connect(stack.nats_url)
    jetstream = connection.jetstream()
    for spec in STREAMS:
        if spec.name in LINE_STREAMS:
            config = stream_config(spec)
            if is_full:
                n_bytes = (await jetstream.stream_info(spec.name)).state.bytes
                config = replace(config, max_bytes=n_bytes + 1, discard=DiscardPolicy.NEW)
            await jetstream.update_stream(config)
    await connection.close()


def test_streams_at_their_limit_are_said_and_nothing_is_lost(play_day, undisturbed):
    seen = {}

    async def disturb(stack):
        await _until_bars_flow(stack)
        await _limit_streams(stack, is_full=True)
        seen["said"] = await _until_bus_not_ready(stack, "svc_ingest")
        await asyncio.sleep(FULL_S)
        await _limit_streams(stack, is_full=False)
        seen["restarts"] = _restarts(stack)
        seen["events"] = _events(stack, "svc_ingest")

    played = play_day(speed=SPEED, disturb=disturb)

    assert "maximum bytes exceeded" in seen["said"]
    assert "publish.retried" in seen["events"]
    assert set(seen["restarts"].values()) == {0}
    same(played, undisturbed)


@contextmanager
def small_disk(home):
    """Give nats-server a file system of its own that is soon full."""
    home.nats.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(home.nats)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"this account cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(home.nats)], check=True)


def _fill(path):
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 65_536)
        except OSError as error:
            assert "No space left" in str(error)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_full_disk_is_said_and_nothing_is_lost_when_there_is_space_again(play_day, undisturbed):
    """nats-server gives up a stream after a failed write until it is restarted; the stack sees to that by itself."""
    seen = {}

    async def disturb(stack):
        await _until_bars_flow(stack)
        filler = stack.home.nats / "filler"
        await asyncio.to_thread(_fill, filler)
        seen["said"] = await _until_bus_not_ready(stack, "svc_ingest")
        await asyncio.sleep(FULL_S)
        filler.unlink()
        seen["restarts"] = _restarts(stack)
        seen["events"] = _events(stack, "svc_ingest")

    played = play_day(speed=SPEED, disturb=disturb, setting=small_disk)

    assert "bars.5m" in seen["said"]
    assert "publish.retried" in seen["events"]
    assert set(seen["restarts"].values()) == {0}
    same(played, undisturbed)
