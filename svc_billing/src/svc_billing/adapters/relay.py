"""
Tells the bus what happened: every event that was not a refusal, in the order of the chain.

The event table is its own outbox and the cursor stands beside it. A crash between publish and cursor publishes again
under the same ids, which the stream takes for duplicates (beyond its window: whoever reads takes each seq once).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import asyncpg

from qraft_bus.port import Bus, OutMessage
from qraft_contracts.codec import encode
from qraft_contracts.ledger import LedgerEntry, ledger_subject
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics
from svc_billing.adapters.database import SCHEMA, Database
from svc_billing.adapters.postgres_errors import as_transient
from svc_billing.domain.events import COMMAND_REFUSED, Event, StoredEvent, decode_event, ledger_entry

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

BATCH_SIZE: Final = 256
POLL_S: Final = 1.0  # wakes it also for what another process has committed
# While commands wait, entries do too: 256 of them each half a second cost about 5 % of a processor.
YIELD_S: Final = 0.5
# What is committed one after the other goes out together; nobody waits for an entry within this.
LINGER_S: Final = 0.02
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0

# The lock lets one of several processes publish; it ends with the transaction and costs no round trip of its own.
# prev_hash of the first row is looked up by the join: it is the hash of the event before.
_NEXT: Final = """
    WITH gate AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtext('billing.relay_cursor')) AS is_ours),
    cursor AS (SELECT seq FROM billing.relay_cursor, gate WHERE gate.is_ours AND name = $1)
    SELECT e.body, coalesce(p.hash, decode(repeat('00', 32), 'hex')) AS prev_hash, e.hash
    FROM cursor JOIN billing.events e ON e.seq > cursor.seq AND e.seq <= cursor.seq + $2
    LEFT JOIN billing.events p ON p.seq = e.seq - 1
    ORDER BY e.seq
"""
_ADVANCE: Final = "UPDATE billing.relay_cursor SET seq = $2 WHERE name = $1"
_PENDING: Final = "SELECT h.seq - c.seq FROM billing.head h, billing.relay_cursor c WHERE c.name = $1"
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

    def wake(self) -> None:
        """Say that there may be something to publish."""
        self._work.set()

    async def run(self) -> None:
        """Publish for ever; while the database or the bus is away, try again with growing pauses. Ends by cancel."""
        n_failures = 0
        task = asyncio.current_task()
        # asyncio.wait_for, inside the database's client, may lose a cancellation (Python 3.11): asked for is enough.
        while task is not None and not task.cancelling():
            self._work.clear()
            try:
                await self._tell_pending()
                n_seen = await self.publish_batch()
            except Transient as error:
                n_failures += 1
                self._note(str(error))
                await asyncio.sleep(min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(n_failures, 10)))
                continue
            n_failures = 0
            self._note(None)
            if n_seen == 0:
                await self._wait(self._poll_s)
                await asyncio.sleep(LINGER_S)
            elif self._is_busy():
                await asyncio.sleep(YIELD_S)
        raise asyncio.CancelledError

    async def publish_batch(self) -> int:
        """
        Publish the next events, move the cursor behind them, and return how many that were.

        0 also means that another process is at it.

        Raises:
            Transient: if the database or the bus is away.
        """
        if not self._bus.is_connected:
            # Known before a transaction is opened, which would stay open while the bus retries.
            raise Transient("bus_away", self._bus.why_not_connected or "not connected")
        with as_transient():
            async with self._database.read.acquire() as connection, connection.transaction():
                return await self._publish(connection)

    async def _publish(self, connection: PoolConnectionProxy[asyncpg.Record]) -> int:
        rows = await connection.fetch(_NEXT, _NAME, BATCH_SIZE)
        if not rows:
            return 0
        stored = [StoredEvent(decode_event(row[0]), *row) for row in rows]
        messages = [_message(it) for it in stored if it.event.kind != COMMAND_REFUSED]
        if messages:
            await self._bus.publish_many(messages)
        await connection.execute(_ADVANCE, _NAME, stored[-1].event.seq)
        return len(stored)

    async def _tell_pending(self) -> None:
        with as_transient():
            self._pending.set(await self._database.read.fetchval(_PENDING, _NAME) or 0)

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
