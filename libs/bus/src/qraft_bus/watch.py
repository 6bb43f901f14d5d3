"""
The watchdog: whether the server answers, and whether the streams and durables in use still exist.

A durable that was deleted under a running subscriber is a silent stall: nothing in nats-py or FastStream ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from qraft_bus.cancel import cancel_and_wait
from qraft_bus.fatal import Fatal
from qraft_telemetry import logs, metrics

# One "not found" may be a server in the middle of its recovery; two, a moment apart, are not.
_MISSING_ROUNDS_MAX: Final = 2
_RECHECK_PAUSE_S: Final = 0.5


class Watchdog:
    """Checks every `interval_s`, and at once when somebody is suspicious."""

    def __init__(
        self,
        client: Client,
        *,
        durables: tuple[tuple[str, str], ...],
        published_streams: Callable[[], frozenset[str]],
        interval_s: float,
        fatal: Fatal,
    ) -> None:
        self._client = client
        self._js = client.jetstream(timeout=interval_s)
        self._durables = durables
        self._published_streams = published_streams
        self._interval_s = interval_s
        self._fatal = fatal
        self._suspicion = asyncio.Event()
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """Return what the last check found wrong, or None."""
        return self._trouble

    def suspect(self, why: str) -> None:
        """Ask for a check right now, because something failed."""
        if not self._suspicion.is_set():
            logs.get().warning("bus.suspicious", why=why)
        self.check_soon()

    def check_soon(self) -> None:
        """Ask for a check right now."""
        self._suspicion.set()

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())
        self._task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal.declare(f"bug in the watchdog: {error!r}")

    async def _watch(self) -> None:
        n_missing = 0
        while True:
            missing = await self._check()
            n_missing = n_missing + 1 if missing else 0
            metrics.BUS_CONNECTED.set(0 if self._trouble else 1)
            if n_missing >= _MISSING_ROUNDS_MAX:
                self._fatal.declare(
                    f"{missing} is gone from the server: somebody deleted it. Messages published since may never have "
                    "been handled; a restart makes it again and reads what the stream still holds"
                )
                return
            await self._pause(_RECHECK_PAUSE_S if missing else self._interval_s)

    async def _pause(self, pause_s: float) -> None:
        self._suspicion.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._suspicion.wait()
        except TimeoutError:
            return
        # Suspicions come with every failed fetch; a check a tenth of a second is enough.
        await asyncio.sleep(0.1)

    async def _check(self) -> str | None:
        """Return the first missing stream or durable; sets `trouble` on the way."""
        if not self._client.is_connected:
            self._trouble = "not connected to the bus"
            return None
        # Half a dozen at most: what one service reads and writes.
        for stream, durable in (*self._durables, *((stream, None) for stream in sorted(self._published_streams()))):
            name = f"durable {durable} of stream {stream}" if durable else f"stream {stream}"
            try:
                await (self._js.consumer_info(stream, durable) if durable else self._js.stream_info(stream))
            except NotFoundError:
                self._trouble = f"{name} is missing"
                return name
            except (TimeoutError, NatsError) as error:
                self._trouble = f"the bus does not answer: {error!r}"
                return None
        self._trouble = None
        return None
