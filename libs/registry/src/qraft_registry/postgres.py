"""The decisions in PostgreSQL, schema `registry`: the truth of the registry. Each goes out through the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import psycopg

from qraft_bus.outbox import OutboxRelay, enqueue
from qraft_bus.port import Bus
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_registry.domain import Action, Decision, Slot, Stage
from qraft_registry.messages import decide, to_message
from qraft_registry.ports import Conflict, Draft
from qraft_store.postgres import create_pool, migrate
from qraft_store.postgres_pools import as_transient

SCHEMA: Final = "registry"
MIGRATIONS: Final = Path(__file__).parent / "migrations"

# Writers take turns for the length of one small transaction; the number only has to differ from other locks.
_WRITER_LOCK: Final = 0x7152_6567
# The reason of a Transient.
_AWAY: Final = "registry_unavailable"
_SELECT: Final = "SELECT * FROM registry.history ORDER BY seq"
_INSERT: Final = """
    INSERT INTO registry.history (seq, decision_id, action, model_id, symbol_group, horizon, stage, actor, reason,
                                  decided_at, origin, evidence, previous_model_id, refusal)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


class PostgresRegistryStore:
    """A RegistryStore on a pool whose database has been migrated to MIGRATIONS; `open_store` gives one that has."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()

    async def decisions(self) -> list[Decision]:
        """See RegistryStore."""
        with as_transient(_AWAY):
            async with self._pool.acquire() as connection:
                return [_decision(row) for row in await connection.fetch(_SELECT)]

    async def append(self, drafts: Sequence[Draft], *, expected_seq: int) -> list[Decision]:
        """See RegistryStore."""
        added = [decide(draft, seq=expected_seq + i) for i, draft in enumerate(drafts, start=1)]
        with as_transient(_AWAY):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _WRITER_LOCK)
                newest = await connection.fetchval("SELECT coalesce(max(seq), 0) FROM registry.history")
                if newest != expected_seq:
                    raise Conflict(f"expected the history to end at {expected_seq}, it ends at {newest}")
                await connection.executemany(_INSERT, [_row(decision) for decision in added])
                await enqueue(connection, schema=SCHEMA, messages=[to_message(decision) for decision in added])
        return added

    async def publish_pending(self, bus: Bus) -> int:
        """See RegistryStore."""
        with as_transient(_AWAY):
            return await OutboxRelay(self._pool, schema=SCHEMA, bus=bus).flush()


async def open_store(dsn: str, *, application_name: str, pool_size: int = 1) -> PostgresRegistryStore:
    """
    Bring the schema up to date and return a store on a pool of its own; the caller closes it.

    Raises:
        Transient: if the server is away.
    """
    with as_transient(_AWAY):
        try:
            await asyncio.to_thread(migrate, dsn, schema=SCHEMA, migrations=MIGRATIONS)
        except psycopg.OperationalError as error:
            raise Transient(_AWAY, f"PostgreSQL did not answer: {error}") from error
        pool = await create_pool(dsn, max_size=pool_size, application_name=application_name)
    return PostgresRegistryStore(pool)


def _row(decision: Decision) -> tuple[object, ...]:
    return (
        decision.seq, decision.decision_id, decision.action.value, decision.model_id, decision.slot.symbol_group,
        decision.slot.horizon, decision.stage.value, decision.actor, decision.reason, decision.decided_at,
        decision.origin.value, msgspec.json.encode(dict(decision.evidence)).decode(), decision.previous_model_id,
        decision.refusal,
    )  # fmt: skip


def _decision(row: asyncpg.Record) -> Decision:
    return Decision(
        seq=row["seq"],
        decision_id=row["decision_id"],
        action=Action(row["action"]),
        model_id=row["model_id"],
        slot=Slot(row["symbol_group"], row["horizon"]),
        stage=Stage(row["stage"]),
        actor=row["actor"],
        reason=row["reason"],
        decided_at=row["decided_at"],
        origin=Origin(row["origin"]),
        evidence=msgspec.json.decode(row["evidence"], type=dict[str, str]),
        previous_model_id=row["previous_model_id"],
        refusal=row["refusal"],
    )
