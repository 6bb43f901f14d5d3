"""A service starts in order, stops on SIGTERM, and says no when it cannot serve."""

import asyncio
import os
import signal
import socket

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app
from qraft_runtime.service import serve
from qraft_runtime.settings import CommonSettings


class RecordingBus:
    """A bus that only notes what the run loop asks of it."""

    def __init__(self):
        self.calls = []
        self.fatal = asyncio.Event()

    async def start(self):
        self.calls.append("start")

    async def drain(self):
        self.calls.append("drain")

    why_not_connected = None

    async def wait_fatal(self):
        await self.fatal.wait()
        return "the durable is gone"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _serve(bus, health, port=0, **more):
    return await serve("svc_x", CommonSettings(http_port=port), bus=bus, health=health, **more)


async def _ready(health):
    async with asyncio.timeout(5):
        while not health.is_ready:
            await asyncio.sleep(0.01)


async def test_sigterm_drains_and_exits_zero():
    bus, health = RecordingBus(), Health()

    async def on_start():
        bus.calls.append("on_start")

    async def on_stop():
        bus.calls.append("on_stop")

    task = asyncio.create_task(_serve(bus, health, on_start=on_start, on_stop=on_stop))
    await _ready(health)
    os.kill(os.getpid(), signal.SIGTERM)

    assert await task == 0
    assert bus.calls == ["on_start", "start", "drain", "on_stop"]


async def test_bus_that_cannot_serve_ends_the_process_with_one():
    bus, health = RecordingBus(), Health()
    task = asyncio.create_task(_serve(bus, health))
    await _ready(health)

    bus.fatal.set()

    assert await task == 1
    assert bus.calls == ["start", "drain"]


async def test_bug_in_a_background_loop_surfaces():
    bus, health = RecordingBus(), Health()

    async def broken():
        raise ZeroDivisionError

    assert await _serve(bus, health, background=[broken]) == 1


async def test_readiness_is_told_over_http_and_unknown_means_no():
    bus, health, port = RecordingBus(), Health(), _free_port()
    assert not Health().is_ready
    task = asyncio.create_task(_serve(bus, health, port))
    await _ready(health)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        ready = await client.get("/readyz")
        health.set_ready("postgres", False, "connection refused")
        not_ready = await client.get("/readyz")
        alive, metrics = await client.get("/healthz"), await client.get("/metrics")
    bus.fatal.set()
    await task

    assert ready.status_code == 200
    assert (not_ready.status_code, not_ready.json()["postgres"]) == (503, "not ready: connection refused")
    assert alive.text == "ok\n"
    assert "qraft_messages_handled_total" in metrics.text or "python_info" in metrics.text


async def test_taken_port_is_told():
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()

        with pytest.raises(OSError, match="could not serve HTTP"):
            await _serve(RecordingBus(), Health(), owner.getsockname()[1])


async def test_lost_connection_is_told_and_its_return_too():
    bus, health = RecordingBus(), Health()
    task = asyncio.create_task(_serve(bus, health))
    await _ready(health)

    bus.why_not_connected = "disconnected from the server"
    async with asyncio.timeout(5):
        while health.is_ready:
            await asyncio.sleep(0.02)
    assert "disconnected" in health.report()["bus"]
    bus.why_not_connected = None
    await _ready(health)
    bus.fatal.set()
    await task


async def test_loop_that_loses_a_cancellation_is_ended_all_the_same():
    bus, health = RecordingBus(), Health()
    lost = []

    async def forgetful():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(1)

    task = asyncio.create_task(_serve(bus, health, background=[forgetful]))
    await _ready(health)
    os.kill(os.getpid(), signal.SIGTERM)

    assert await asyncio.wait_for(task, 10) == 0
    assert lost


async def test_an_exact_path_of_an_application_is_served_as_through_the_framework():
    class Echo:
        async def __call__(self, scope, receive, send):
            await PlainTextResponse(f"{scope['method']} {scope['path']}")(scope, receive, send)

    async def page(request):
        return PlainTextResponse(f"page {request.path_params['name']}")

    routes = [
        Route("/a", Echo()),
        Route("/{name}", page),
        Route("/hidden", Echo()),  # behind a pattern that takes it
        Route("/x/{name}", Echo()),
    ]
    transport = httpx.ASGITransport(app=build_http_app(Health(), routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answers = {path: (await client.delete(path)).text for path in ("/a", "/x/1")}
        answers |= {path: (await client.get(path)).text for path in ("/hidden", "/healthz", "/none/at/all")}

    assert answers == {
        "/a": "DELETE /a", "/x/1": "DELETE /x/1", "/hidden": "page hidden", "/healthz": "ok\n",
        "/none/at/all": "Not Found",
    }  # fmt: skip
