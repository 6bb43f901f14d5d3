"""Publish bars: store first, then the message, one after the other, in the order of time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from qraft_bus.port import OutMessage
from qraft_contracts.arrow_schemas import BARS_SCHEMA, bars_id
from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import bars_subject
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch, encode_bars
from qraft_telemetry import logs, metrics
from svc_ingest.ports import BarsBus
from svc_ingest.usecases.faults import tell_faults
from svc_ingest.usecases.join_state import StateJoin
from svc_ingest.usecases.line import Line
from svc_ingest.usecases.pace import FlowControl, ReplayPace
from svc_ingest.usecases.position import Position

# The bus retries each publish for its own budget (15 s); so many budgets pass before we give up: five minutes.
PUBLISH_ATTEMPTS = 20
RETRY_PAUSE_S = 1.0


@dataclass(slots=True)
class ReplayState:
    """What the operator sees. as_of: closed_at of the newest published bar; finished: the source has ended."""

    is_live: bool
    n_bars: int = 0
    as_of: datetime | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Publisher:
    """Sends a line's bars to the bus, each with the state of the market at its end."""

    line: Line
    bus: BarsBus
    pace: ReplayPace
    flow: FlowControl
    state: ReplayState
    market_state: StateJoin

    async def run(self, position: Position, *, until: datetime | None) -> None:
        """
        Publish everything after the position; return when a finite source has ended.

        Raises:
            Transient: if the store, the source or the bus stays away; nothing is skipped, a restart goes on here.
        """
        self.state.as_of = position.published_at
        after = await self._publish_stored(position) if self.state.is_live else position.after
        self.line.take_up(after)
        async for chunk in self.line.source.chunks(after=after, until=until):
            batches = await asyncio.to_thread(self.line.check.take, chunk)  # it writes what it refuses
            async for batch in self.market_state.joined(batches):
                await self._publish_one(batch, is_published=position.is_published(batch.closed_at, batch.revision))
                tell_faults(self.line.check.report, market=self.line.market)
        self.state.finished = True
        as_of = format_instant(self.state.as_of) if self.state.as_of else None
        logs.get().info("replay.finished", n_bars=self.state.n_bars, as_of=as_of)

    async def _publish_stored(self, position: Position) -> datetime | None:
        """
        Publish the bars that are stored but not on the bus, and return where the source goes on.

        A living source may have corrected a bar since we stored it, so the stored one goes out and the correction
        follows as a revision.
        """
        stored = self.line.stored_until
        if stored is None or position.after is None:
            return position.after
        batches = self.line.stored_batches(after=position.published_at or position.after, until=stored)
        async for batch in self.market_state.joined(batches):
            await self._publish_one(batch, is_published=False)
        return stored

    async def _publish_one(self, batch: BarBatch, *, is_published: bool) -> None:
        if is_published:
            self.line.append(batch)  # the store may have lost it in a power cut
            return
        if not self.state.is_live:
            await self.pace.wait()
        await self.flow.wait()
        stored = self.line.append(batch)
        await self._send(message_of(stored, lineage=self.line.source.lineage))
        metrics.BARS_INGESTED.labels(stored.market, stored.origin.value).inc(len(stored.symbols))
        self.state.n_bars += 1
        if stored.revision == 0:
            self.state.as_of = stored.closed_at

    async def _send(self, message: OutMessage) -> None:
        for attempt in range(1, PUBLISH_ATTEMPTS + 1):
            try:
                await self.bus.publish(message)
            except Transient as error:
                if attempt == PUBLISH_ATTEMPTS:
                    raise
                logs.get().warning("bars.publish_retry", message_id=message.message_id, attempt=attempt, why=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return


def message_of(batch: BarBatch, *, lineage: str) -> OutMessage:
    """Return a batch as the message that it is published as."""
    return OutMessage(
        subject=bars_subject(batch.interval),
        data=encode_bars(batch),
        message_id=bars_id(batch.interval, batch.market, format_instant(batch.closed_at), batch.revision),
        schema=BARS_SCHEMA,
        as_of=batch.closed_at,
        origin=batch.origin,
        lineage=lineage,
    )
