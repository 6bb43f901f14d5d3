"""
Transactional outbox: what a transaction decided is published if and only if it was committed.

The rows are written in the transaction of the effect (`enqueue`); a relay publishes them in the order of their ids
and marks them. A crash between the two publishes again under the same id, which the stream takes for a duplicate.
Ids follow the order of insertion, so one schema has one writer at a time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import msgspec

from qraft_bus.port import OutMessage, PublishAck
from qraft_contracts import headers
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_telemetry import logs, metrics

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

BATCH_SIZE: Final = 256
POLL_S: Final = 1.0
KEEP_PUBLISHED_S: Final = 7 * 86_400.0
_PRUNE_INTERVAL_S: Final = 600.0
_PRUNE_ROWS_MAX: Final = 10_000  # one prune; the next comes when there is nothing to publish
_BUSY_PAUSE_S: Final = 0.05  # while another process publishes
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0

TABLE_SQL: Final = """\
CREATE TABLE {schema}.outbox (
    id           bigserial   PRIMARY KEY,
    message_id   text        NOT NULL UNIQUE,
    subject      text        NOT NULL,
    schema_name  text        NOT NULL,
    payload      bytea       NOT NULL,
    as_of        timestamptz NOT NULL,
    origin       text        NOT NULL CHECK (origin IN ('real', 'replay', 'simulated')),
    lineage      text        NOT NULL,
    cause        jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON {schema}.outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON {schema}.outbox (published_at) WHERE published_at IS NOT NULL;
"""

# The only headers of the cause that a publish reads.
_CARRIED: Final = (headers.TRACEPARENT, headers.HOPS)
_SCHEMA_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# PostgreSQL is away, restarting, full of connections, or went away in the middle.
_DATABASE_AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


async def enqueue(connection: Connection, *, schema: str, messages: Sequence[OutMessage]) -> None:
    """
    Write messages to the outbox, in order, in the caller's transaction. An id that is there already is skipped.

    After the commit, call `OutboxRelay.wake`.
    """
    assert connection.is_in_transaction(), "the outbox is only true to its word inside the effect's transaction"
    if messages:
        await connection.execute(_insert(_checked(schema)), *_columns(messages))


class PublishesMany(Protocol):
    """The one thing that the relay needs of a bus."""

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        """Publish in order; see `qraft_bus.port.Bus`."""
        ...


class OutboxRelay:
    """
    Publishes one schema's outbox. Several processes may run one: an advisory lock lets one of them work at a time.

    It holds one connection of the pool while it publishes, so the pool needs one for it.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        schema: str,
        bus: PublishesMany,
        poll_s: float = POLL_S,
        keep_published_s: float = KEEP_PUBLISHED_S,
    ) -> None:
        self._pool = pool
        self._schema = _checked(schema)
        self._bus = bus
        self._poll_s = poll_s
        self._keep_published_s = keep_published_s
        self._work = asyncio.Event()
        self._trouble: str | None = None
        self._pruned_at = 0.0
        self._is_ours = True  # False: another process published when we last looked
        self._pending = metrics.OUTBOX_PENDING.labels(schema)

    @property
    def trouble(self) -> str | None:
        """Return why nothing is published at the moment, or None."""
        return self._trouble

    def wake(self) -> None:
        """Say that a transaction with messages was committed; the relay then does not wait for its next poll."""
        self._work.set()

    async def run(self) -> None:
        """Publish for ever; while PostgreSQL or the bus is away, try again with growing pauses. Ends by cancel."""
        n_failures = 0
        while not _is_cancelled():
            self._work.clear()
            try:
                n_published = await self.flush()
                await self._prune_when_due()
            except Transient as error:
                n_failures += 1
                self._note(str(error))
                await asyncio.sleep(min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(n_failures, 10)))
                continue
            n_failures = 0
            self._note(None)
            if n_published == 0:
                await self._wait_for_work()
        raise asyncio.CancelledError

    async def flush(self) -> int:
        """
        Publish what is pending now and return how many messages that was.

        Raises:
            Transient: if PostgreSQL or the bus is away.
        """
        n_published = 0
        while (n_rows := await self._publish_batch()) > 0:
            n_published += n_rows
            if n_rows < BATCH_SIZE:
                break
        self._pending.set(0)
        return n_published

    async def _publish_batch(self) -> int:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_select(self._schema), f"{self._schema}.outbox", BATCH_SIZE)
                self._is_ours = rows[0]["is_ours"]
                if rows[0]["id"] is None:
                    return 0
                self._pending.set(len(rows))
                await self._bus.publish_many([_message(row) for row in rows])
                await connection.execute(_mark(self._schema), [row["id"] for row in rows])
        except _DATABASE_AWAY as error:
            raise Transient("database_away", repr(error)) from error
        return len(rows)

    async def _prune_when_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._pruned_at < _PRUNE_INTERVAL_S and self._pruned_at:
            return
        try:
            await self._pool.execute(_prune(self._schema), self._keep_published_s, _PRUNE_ROWS_MAX)
        except _DATABASE_AWAY as error:
            raise Transient("database_away", repr(error)) from error
        self._pruned_at = now

    async def _wait_for_work(self) -> None:
        # The other process may have looked before our rows were there and wait for its own next poll.
        pause_s = self._poll_s if self._is_ours else min(self._poll_s, _BUSY_PAUSE_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._work.wait()
        except TimeoutError:
            return

    def _note(self, trouble: str | None) -> None:
        """Log when trouble begins and ends, not at every attempt."""
        if trouble is not None and self._trouble is None:
            logs.get().warning("outbox.stalled", schema=self._schema, reason=trouble)
        if trouble is None and self._trouble is not None:
            logs.get().info("outbox.resumed", schema=self._schema)
        self._trouble = trouble


def _is_cancelled() -> bool:
    """Return whether a cancellation was asked for, also one that asyncio.wait_for lost (see `cancel`)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _select(schema: str) -> str:
    # The lock ends with the transaction; in the same statement it costs no round trip of its own.
    return (
        "WITH gate AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtext($1)) AS is_ours)"  # noqa: S608 checked
        " SELECT is_ours, id, message_id, subject, schema_name, payload, as_of, origin, lineage, cause FROM gate"
        f" LEFT JOIN LATERAL (SELECT * FROM {schema}.outbox WHERE published_at IS NULL AND gate.is_ours"
        " ORDER BY id LIMIT $2) AS waiting ON true ORDER BY id"
    )


def _mark(schema: str) -> str:
    return f"UPDATE {schema}.outbox SET published_at = now() WHERE id = ANY($1)"  # noqa: S608 checked


def _prune(schema: str) -> str:
    return (
        f"DELETE FROM {schema}.outbox WHERE id IN (SELECT id FROM {schema}.outbox"  # noqa: S608 checked
        " WHERE published_at < now() - make_interval(secs => $1) ORDER BY published_at LIMIT $2)"
    )


def _checked(schema: str) -> str:
    if not _SCHEMA_NAME.fullmatch(schema):
        raise ValueError(f"expected a schema name such as execution, received {schema!r}")
    return schema


def _insert(schema: str) -> str:
    # One statement however many messages: 50 take 0.6 ms, by executemany 0.9 ms. The order of the ids is the order of
    # the messages because serials are drawn after the sort.
    return (
        f"INSERT INTO {schema}.outbox"  # noqa: S608 the schema name is checked, the rest are parameters
        " (message_id, subject, schema_name, payload, as_of, origin, lineage, cause)"
        " SELECT message_id, subject, schema_name, payload, as_of, origin, lineage, cause::jsonb"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[],"
        " $8::text[]) WITH ORDINALITY"
        " AS row (message_id, subject, schema_name, payload, as_of, origin, lineage, cause, position)"
        " ORDER BY position ON CONFLICT (message_id) DO NOTHING"
    )


def _columns(messages: Sequence[OutMessage]) -> tuple[list[Any], ...]:
    causes = [{name: it.cause[name] for name in _CARRIED if name in it.cause} for it in messages]
    return (
        [it.message_id for it in messages],
        [it.subject for it in messages],
        [it.schema for it in messages],
        [it.data for it in messages],
        [it.as_of for it in messages],
        [it.origin.value for it in messages],
        [it.lineage for it in messages],
        [msgspec.json.encode(cause).decode() for cause in causes],
    )


def _message(row: asyncpg.Record) -> OutMessage:
    return OutMessage(
        subject=row["subject"],
        data=row["payload"],
        message_id=row["message_id"],
        schema=row["schema_name"],
        as_of=row["as_of"],
        origin=Origin(row["origin"]),
        lineage=row["lineage"],
        cause=msgspec.json.decode(row["cause"], type=dict[str, str]),
    )
