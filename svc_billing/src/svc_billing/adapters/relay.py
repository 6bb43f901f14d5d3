"""
Tells the bus what happened: every event that was not a refusal, in the order of the chain.

The event table is its own outbox and the cursor stands beside it. A crash between publish and cursor publishes again
under the same ids, which the stream takes for duplicates (beyond its window: whoever reads takes each seq once).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_bus.port import Bus, OutMessage
from qraft_contracts.codec import encode
from qraft_contracts.ledger import LedgerEntry, ledger_subject
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_store.postgres_pools import as_transient
from qraft_telemetry import logs, metrics
from svc_billing.adapters.database import SCHEMA, Database
from svc_billing.domain.events import COMMAND_REFUSED, Event, StoredEvent, decode_event, ledger_entry

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

BATCH_SIZE: Final = 256
POLL_S: Final = 1.0  # wakes it also for what another process has committed
# While commands wait, entries do too: 64 of them each eighth of a second cost about 5 % of a processor, and no command
# waits longer than that small part takes.
BUSY_BATCH_SIZE: Final = 64
YIELD_S: Final = 0.125
# What is committed one after the other goes out together; nobody waits for an entry within this.
LINGER_S: Final = 0.1
# Events that this process has committed and not published yet, give or take a batch; what is beyond them is read from
# the table.
N_REMEMBERED_MAX: Final = 1_024
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0

# The lock lets one of several processes publish; it ends with the transaction and costs no round trip of its own.
_BEGIN: Final = """
    WITH gate AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtext('billing.relay_cursor')) AS is_ours)
    SELECT is_ours, c.seq, h.seq AS head FROM gate, billing.relay_cursor c, billing.head h WHERE c.name = $1
"""
# prev_hash of the first row is looked up by the join: it is the hash of the event before.
_NEXT: Final = """
    SELECT e.body, coalesce(p.hash, decode(repeat('00', 32), 'hex')) AS prev_hash, e.hash
    FROM billing.events e LEFT JOIN billing.events p ON p.seq = e.seq - 1
    WHERE e.seq > $1 AND e.seq <= $2 ORDER BY e.seq
"""
_PENDING: Final = "SELECT h.seq - c.seq FROM billing.head h, billing.relay_cursor c WHERE c.name = $1"
_ADVANCE: Final = "UPDATE billing.relay_cursor SET seq = $2 WHERE name = $1"
_NAME: Final = "ledger.entries"


class LedgerRelay:
    """
    Publishes the chain behind the cursor.

    is_busy: whether commands wait; then it goes slowly, but on.
    """

    def __init__(self, database: Database, *, bus: Bus, is_busy: Callable[[], bool], poll_s: float = POLL_S) -> None:
        self._database = database
        self._bus = bus
        self._is_busy = is_busy
        self._poll_s = poll_s
        self._work = asyncio.Event()
        self._trouble: str | None = None
        self._pending = metrics.OUTBOX_PENDING.labels(SCHEMA)
        # What comes behind the cursor, without gaps, as this process has committed it: it need not be read and decoded.
        # Once a gap or the bound was met, nothing is remembered until the cursor has come to the end of the chain.
        self._remembered: deque[StoredEvent] = deque()
        self._cursor = -1
        self._n_behind = 0

    def take(self, events: Sequence[StoredEvent]) -> None:
        """Remember events that were committed, in order, and wake: there is something to publish."""
        remembered = self._remembered
        last = remembered[-1].event.seq if remembered else self._cursor
        if last + 1 == events[0].event.seq and len(remembered) < N_REMEMBERED_MAX:
            remembered.extend(events)
        self._work.set()

    async def run(self) -> None:
        """Publish for ever; while the database or the bus is away, try again with growing pauses. Ends by cancel."""
        n_failures = 0
        task = asyncio.current_task()
        # asyncio.wait_for, inside the database's client, may lose a cancellation (Python 3.11): asked for is enough.
        while task is not None and not task.cancelling():
            self._work.clear()
            try:
                n_seen = await self.publish_batch()
            except Transient as error:
                n_failures += 1
                self._note(str(error))
                await asyncio.sleep(min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(n_failures, 10)))
                continue
            n_failures = 0
            self._note(None)
            if self._is_busy():
                await asyncio.sleep(YIELD_S)
            elif n_seen == 0 or self._n_behind == 0:
                await self._wait(self._poll_s)
                await asyncio.sleep(LINGER_S)
        raise asyncio.CancelledError

    async def publish_batch(self) -> int:
        """
        Publish the next events, move the cursor behind them, and return how many that were.

        0 also means that another process is at it.

        Raises:
            Transient: if the database or the bus is away.
        """
        with as_transient():
            if not self._bus.is_connected:
                # Known before a transaction is opened, which would stay open while the bus retries.
                self._pending.set(await self._database.read.fetchval(_PENDING, _NAME) or 0)
                raise Transient("bus_away", self._bus.why_not_connected or "not connected")
            async with self._database.read.acquire() as connection, connection.transaction():
                return await self._publish(connection)

    async def _publish(self, connection: PoolConnectionProxy[asyncpg.Record]) -> int:
        row = await connection.fetchrow(_BEGIN, _NAME)
        assert row is not None, "the cursor and the head are rows of the migrations"
        is_ours, cursor, head = row
        self._cursor = cursor
        self._pending.set(head - cursor)
        if not is_ours or head == cursor:
            return 0
        stored = await self._next(connection, cursor)
        messages = [_message(it) for it in stored if it.event.kind != COMMAND_REFUSED]
        if messages:
            await self._bus.publish_many(messages)
        seq = stored[-1].event.seq
        await connection.execute(_ADVANCE, _NAME, seq)
        self._cursor, self._n_behind = seq, max(0, head - seq)
        self._pending.set(self._n_behind)
        return len(stored)

    async def _next(self, connection: PoolConnectionProxy[asyncpg.Record], cursor: int) -> list[StoredEvent]:
        """Return the events behind the cursor, at least one: remembered ones, or else out of the table."""
        remembered, n_max = self._remembered, BUSY_BATCH_SIZE if self._is_busy() else BATCH_SIZE
        while remembered and remembered[0].event.seq <= cursor:
            remembered.popleft()
        if remembered and remembered[0].event.seq == cursor + 1:
            return list(islice(remembered, n_max))
        rows = await connection.fetch(_NEXT, cursor, cursor + n_max)
        return [StoredEvent(decode_event(row[0]), *row) for row in rows]

    async def _wait(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._work.wait()
        except TimeoutError:
            return

    def _note(self, trouble: str | None) -> None:
        """Log when trouble begins and ends, not at every attempt."""
        if trouble is not None and self._trouble is None:
            logs.get().warning("relay.stalled", reason=trouble)
        if trouble is None and self._trouble is not None:
            logs.get().info("relay.resumed")
        self._trouble = trouble


def _message(stored: StoredEvent) -> OutMessage:
    event = stored.event
    return OutMessage(
        subject=ledger_subject(event.account_id),
        data=encode(ledger_entry(stored)),
        message_id=f"ledger/{event.seq}",
        schema=LedgerEntry.SCHEMA,
        as_of=event.at,
        origin=_origin(event),
        lineage=stored.hash.hex(),
    )


def _origin(event: Event) -> Origin:
    """Return where what was booked came from: a settlement of simulated pictures is simulated, whatever it cost."""
    if event.usage is not None:
        return event.usage.origin
    return Origin.SIMULATED if event.facts.get("is_simulated") == "true" else Origin.REAL
