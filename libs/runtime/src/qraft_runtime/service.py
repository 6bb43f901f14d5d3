"""Run one service until it is told to stop or can no longer serve."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import uvloop
from starlette.routing import BaseRoute

from qraft_runtime.health import Health
from qraft_runtime.http import build_http_app, serve_http
from qraft_runtime.settings import CommonSettings
from qraft_telemetry import logs

# Above the longest handler in progress; pods have 60 s before they are killed.
DRAIN_TIMEOUT_S: Final = 30.0
_READINESS_INTERVAL_S = 1.0


class ServiceBus(Protocol):
    """What running a service needs of a bus."""

    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def wait_fatal(self) -> str: ...
    @property
    def why_not_connected(self) -> str | None: ...


Background = Callable[[], Coroutine[Any, Any, None]]


async def serve(
    name: str,
    settings: CommonSettings,
    *,
    bus: ServiceBus,
    health: Health,
    background: Sequence[Background] = (),
    routes: Sequence[BaseRoute] = (),
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> int:
    """
    Run the service: HTTP, `on_start`, bus, background loops; then drain, in the reverse order.

    drain_timeout_s: a little above what the bus gives its handlers to end.

    Returns:
        0 after SIGTERM or SIGINT; 1 when the bus or a background loop could not go on (the supervisor restarts).
    """
    log = logs.get()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    health.set_ready("bus", False, "connecting")
    async with serve_http(build_http_app(health, routes), host=settings.http_host, port=settings.http_port):
        stopped = asyncio.create_task(stop.wait())
        try:
            starting = asyncio.create_task(_start(bus, on_start))
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with suppress(asyncio.CancelledError):
                    await starting
                return 0
            await starting
            health.set_ready("bus", True)
            log.info("service.started", http_port=settings.http_port or None)
            code = await _run(bus, background, stopped, health)
        finally:
            stopped.cancel()
            health.set_ready("bus", False, "stopping")
            async with asyncio.timeout(drain_timeout_s):
                await bus.drain()
            if on_stop is not None:
                await on_stop()
    log.info("service.stopped", name=name, exit_code=code)
    return code


async def _start(bus: ServiceBus, on_start: Callable[[], Awaitable[None]] | None) -> None:
    if on_start is not None:
        await on_start()
    await bus.start()


async def _run(bus: ServiceBus, background: Sequence[Background], stopped: asyncio.Task[bool], health: Health) -> int:
    fatal = asyncio.create_task(bus.wait_fatal())
    loops = [asyncio.create_task(make()) for make in background]
    loops.append(asyncio.create_task(_tell_readiness(bus, health)))
    done, _ = await asyncio.wait({stopped, fatal, *loops}, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if fatal in done:
        health.set_ready("bus", False, fatal.result())
        logs.get().error("service.failed", reason=fatal.result())
        code = 1
    await _end((fatal, *loops))
    for task in (fatal, *loops):
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logs.get().error("service.failed", reason=str(error), exc_info=error)
            code = 1
    return code


async def _tell_readiness(bus: ServiceBus, health: Health) -> None:
    """Keep /readyz true to the connection, which may be lost and come back while the process lives."""
    while True:
        why = bus.why_not_connected
        health.set_ready("bus", not why, why or "")
        await asyncio.sleep(_READINESS_INTERVAL_S)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """
    Cancel until all have ended.

    asyncio.wait_for, which nats-py uses in every request, can lose a cancellation before Python 3.12, so one is not
    enough; a task that catches its cancellation for good is left behind after the drain timeout.
    """
    pending = {task for task in tasks if not task.done()}
    deadline = asyncio.get_running_loop().time() + DRAIN_TIMEOUT_S
    while pending and asyncio.get_running_loop().time() < deadline:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)


def run_service(
    name: str,
    settings: CommonSettings,
    *,
    bus: ServiceBus,
    health: Health,
    background: Sequence[Background] = (),
    routes: Sequence[BaseRoute] = (),
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> int:
    """Set up logs, run `serve` on uvloop and return the exit code of the process."""
    logs.configure(name, level=settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            serve(
                name,
                settings,
                bus=bus,
                health=health,
                background=background,
                routes=routes,
                on_start=on_start,
                on_stop=on_stop,
                drain_timeout_s=drain_timeout_s,
            )
        )
