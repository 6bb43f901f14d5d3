"""
Publishing the outbox by the process that wrote it: at once, out of its memory, in the order of its commits.

The rows stay the truth: they go once the bus has acknowledged them, with one of the next batches of steps. What is left
of a process that died, or of a bus that was away, a relay reads and publishes, in any of the processes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Final

from qraft_bus.outbox import KEEP_PUBLISHED_S, OutboxRelay
from qraft_bus.port import Bus, OutMessage
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_store.postgres_pools import as_transient
from qraft_telemetry import logs, metrics
from svc_imagegen.adapters import jobs_sql
from svc_imagegen.adapters.database import SCHEMA, Database
from svc_imagegen.adapters.jobs_rows import Row

_BATCH_MAX: Final = 256
# Beyond it new messages are left to the relay: the bus is away or slow, and memory is not where they should wait.
_N_WAITING_MAX: Final = 16_384
_LOOK_EVERY_S: Final = 2.0
_FORGET_EVERY_S: Final = 1.0  # rows of published messages that no batch took along
LEFT_AFTER_S: Final = 5.0  # longer than a living process needs from commit to row gone; a message may come twice
_BUSY_PAUSE_S: Final = 0.05  # while another process publishes
_N_BUSY_MAX: Final = 200
_PRUNE_EVERY_S: Final = 600.0
_PRUNE_ROWS_MAX: Final = 10_000
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0


class Published:
    """Ids of messages that the bus has, whose rows are not gone yet."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def add(self, ids: Sequence[str]) -> None:
        """Note messages that the bus has acknowledged."""
        self._ids.extend(ids)

    @contextmanager
    def taken(self) -> Iterator[list[str]]:
        """Give the ids to who deletes the rows in the block; they come back if it fails."""
        ids, self._ids = self._ids, []
        is_done = False
        try:
            yield ids
            is_done = True
        finally:
            if not is_done:
                self._ids[:0] = ids


class Teller:
    """Tells the bus; `run` is its background loop."""

    def __init__(self, database: Database, *, bus: Bus, published: Published) -> None:
        self._database = database
        self._bus = bus
        self._published = published
        self._waiting: deque[Row] = deque()
        self._is_behind = True  # whatever an earlier process left goes first
        self._work = asyncio.Event()
        self._forgot_at = 0.0
        self._looked_at = 0.0
        self._pruned_at: float | None = None
        self._pending = metrics.OUTBOX_PENDING.labels(SCHEMA)

    def tell(self, rows: Sequence[Row]) -> None:
        """Publish rows of the outbox that were just committed."""
        if self._is_behind or len(self._waiting) + len(rows) > _N_WAITING_MAX:
            self._is_behind = True
        else:
            self._waiting.extend(rows)
        self._work.set()

    async def run(self) -> None:
        """Publish for ever; ends by cancel."""
        relay = OutboxRelay(self._database.write, schema=SCHEMA, bus=self._bus)
        task, n_failures = asyncio.current_task(), 0
        while task is None or not task.cancelling():
            try:
                await self._publish()
                await self._forget_published()
                await self._look_after(relay)
                if n_failures:
                    logs.get().info("outbox.resumed")
                n_failures = 0
            except Transient as error:
                self._waiting.clear()
                self._is_behind = True
                n_failures += 1
                if n_failures == 1:
                    logs.get().warning("outbox.stalled", reason=str(error))
                await asyncio.sleep(min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(n_failures, 10)))
                continue
            await self._wait()
        raise asyncio.CancelledError

    async def _publish(self) -> None:
        self._work.clear()
        while self._waiting:
            batch = list(islice(self._waiting, _BATCH_MAX))
            self._pending.set(len(self._waiting))
            await self._bus.publish_many([_message(row) for row in batch])
            self._published.add([row[0] for row in batch])
            for _ in batch:
                self._waiting.popleft()
        self._pending.set(0)

    async def _look_after(self, relay: OutboxRelay) -> None:
        """Publish what was left, and let go of rows that nobody needs any more."""
        now = asyncio.get_running_loop().time()
        if not self._is_behind and now - self._looked_at < _LOOK_EVERY_S:
            return
        if self._is_behind or await self._is_left(None):
            await self._catch_up(relay)
        self._looked_at = now
        await self._prune_when_due(now)

    async def _catch_up(self, relay: OutboxRelay) -> None:
        """Publish all that was written so far; what is told meanwhile waits behind it."""
        with as_transient():
            before: datetime = await self._database.read.fetchval(jobs_sql.NOW)
        self._is_behind = False
        for _ in range(_N_BUSY_MAX):
            with as_transient():
                await relay.flush()
            if not await self._is_left(before):
                return
            await asyncio.sleep(_BUSY_PAUSE_S)
        self._is_behind = True  # the other one may be stuck; the next round begins anew

    async def _is_left(self, before: datetime | None) -> bool:
        with as_transient():
            return bool(await self._database.read.fetchval(jobs_sql.IS_LEFT, before, LEFT_AFTER_S))

    async def _forget_published(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._forgot_at < _FORGET_EVERY_S:
            return
        with as_transient(), self._published.taken() as ids:
            if ids:
                await self._database.read.execute(jobs_sql.FORGET_PUBLISHED, ids)
        self._forgot_at = now

    async def _prune_when_due(self, now: float) -> None:
        if self._pruned_at is not None and now - self._pruned_at < _PRUNE_EVERY_S:
            return
        with as_transient():
            await self._database.read.execute(jobs_sql.PRUNE, KEEP_PUBLISHED_S, _PRUNE_ROWS_MAX)
        self._pruned_at = now

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_FORGET_EVERY_S):
                await self._work.wait()
        except TimeoutError:
            return


def _message(row: Row) -> OutMessage:
    message_id, subject, schema, data, as_of, origin, lineage = row
    return OutMessage(
        subject=subject, data=data, message_id=message_id, schema=schema, as_of=as_of, origin=Origin(origin),
        lineage=lineage,
    )  # fmt: skip
