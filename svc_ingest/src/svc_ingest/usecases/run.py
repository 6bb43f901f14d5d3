"""The two things this service does: load history and end, or publish from where it stopped and stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_runtime.clock import Clock
from qraft_runtime.health import Health
from svc_ingest.domain.raw import instant_of, micros_of
from svc_ingest.usecases.line import open_source
from svc_ingest.usecases.load import LoadProgress, load_history
from svc_ingest.usecases.position import Position, find_position
from svc_ingest.usecases.publish import Publisher


@dataclass(frozen=True, slots=True)
class IngestRun:
    """
    One run over one line of bars.

    replay_from, replay_until: as in the settings. on_report: called with `load` or `serve` when the quality report is
    complete. load_state: brings the state of the market into the lake, while the bars are loaded, and returns when the
    first bar may go out; beside a lake that was polled before it waits for no feed. None = it is there.
    """

    publisher: Publisher
    clock: Clock
    health: Health
    replay_from: datetime | None
    replay_until: datetime | None
    on_progress: Callable[[LoadProgress], None]
    on_report: Callable[[str], None]
    load_state: Callable[[], Awaitable[None]] | None = None

    async def serve(self) -> None:
        """Load what is missing, publish to the end of the source, then stay; does not return."""
        self.health.set_ready("bars", False, "loading history")
        await open_source(self.publisher.line)
        async with self._loading_state():
            position = await self._prepare()
        self.health.set_ready("bars", True)
        await self.publisher.run(position, until=self.replay_until)
        self.on_report("serve")
        await asyncio.Event().wait()

    async def _prepare(self) -> Position:
        """Bring the store up to the bar from which publishing goes on, and return that position."""
        line, bus = self.publisher.line, self.publisher.bus
        position = await find_position(line, bus, replay_from=self.replay_from)
        if position.after is None and line.source.is_live:
            await load_history(line, until=self._newest_close(), on_progress=self.on_progress)
            return await find_position(line, bus, replay_from=None)
        if position.after is not None:
            await load_history(line, until=position.after, on_progress=self.on_progress)
        return position

    async def load(self, *, until: datetime | None) -> LoadProgress | None:
        """Load history up to `until`; None = all that is closed by now. Return None if nothing was missing."""
        line = self.publisher.line
        await open_source(line)
        end = self._newest_close() if until is None and line.source.is_live else until
        async with self._loading_state():
            done = await load_history(line, until=end, on_progress=self.on_progress)
        if done is not None:
            self.on_report("load")
        return done

    @asynccontextmanager
    async def _loading_state(self) -> AsyncIterator[None]:
        """Load the state beside what is done within, until both are done; what ends within ends the loading too."""
        if self.load_state is None:
            yield
            return
        loading = asyncio.ensure_future(self.load_state())
        try:
            yield
            await loading
        finally:
            if not loading.done():
                loading.cancel()
                await asyncio.wait([loading])

    def _newest_close(self) -> datetime:
        step = INTERVAL_SECONDS[self.publisher.line.interval] * 1_000_000
        return instant_of(micros_of(self.clock.now()) // step * step)
