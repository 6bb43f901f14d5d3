"""The journal in PostgreSQL: one transaction an event, holding the rows, the messages about them and the progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from qraft_bus.outbox import enqueue
from qraft_bus.port import OutMessage
from qraft_contracts import headers
from qraft_contracts.codec import encode
from qraft_contracts.orders import Fill, Order
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import FILLS_PAPER, ORDERS_PAPER
from qraft_store.postgres_pools import as_transient
from qraft_telemetry import metrics
from svc_execution.adapters import journal_sql
from svc_execution.adapters.database import SCHEMA, Database
from svc_execution.adapters.journal_rows import (
    expiry_columns,
    fill_columns,
    fill_of,
    kill_switch_of,
    mark_of,
    mark_values,
    open_order_of,
    order_columns,
    refusal_columns,
)
from svc_execution.domain.rebuild import RebuildMismatch, rebuild
from svc_execution.domain.state import BarRecord, DecisionRecord, KillSwitch, OpenOrder, Refusal, State
from svc_execution.ports import Headers, JournalMismatch

_SECONDS = metrics.STAGE_SECONDS.labels("journal")


class PostgresJournal:
    """The Journal port. committed: called after every commit that has messages to publish, to wake the relay."""

    def __init__(self, database: Database, *, committed: Callable[[], None]) -> None:
        self._database = database
        self._committed = committed

    async def load(self, *, market: str, interval: str, start_cash: float) -> State:
        """Return the state rebuilt from the journal alone; one read-only snapshot of it."""
        with as_transient():
            async with self._database.trade.acquire() as connection:
                await connection.execute(journal_sql.OPEN_ACCOUNT, market, interval, start_cash)
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    progress = await connection.fetchrow(journal_sql.PROGRESS, market)
                    fills = await connection.fetch(journal_sql.FILLS, market)
                    marks = await connection.fetch(journal_sql.MARKS, market)
                    orders = await connection.fetch(
                        journal_sql.OPEN_ORDERS, market, progress and progress["last_targets_at"]
                    )
        assert progress is not None
        if progress["interval"] != interval:
            raise JournalMismatch(
                f"expected an account of interval {interval}, the journal's is {progress['interval']}"
            )
        try:
            account = rebuild(progress["start_cash"], map(fill_of, fills), map(mark_of, marks))
        except RebuildMismatch as error:
            raise JournalMismatch(str(error)) from error
        if progress["last_bar_at"] != (marks[-1]["closed_at"] if marks else None):
            raise JournalMismatch(f"progress says {progress['last_bar_at']}, the last mark is another")
        return State(
            market=market,
            interval=interval,
            account=account,
            open_orders=tuple(map(open_order_of, orders)),
            last_bar_at=progress["last_bar_at"],
            last_targets_at=progress["last_targets_at"],
            origin=Origin(progress["origin"]) if progress["origin"] else None,
            n_events=progress["n_events"],
        )

    async def commit_bar(self, after: State, record: BarRecord, *, cause: Headers) -> None:
        """Store one bar with its fills."""
        mark = record.mark
        *figures, sha256 = mark_values(mark)
        values = [*fill_columns(record.fills), *expiry_columns(record.expiries), *figures, sha256]
        progress = [mark.closed_at, None, mark.origin.value]
        messages = [_fill_message(fill, cause) for fill in record.fills]
        await self._commit(journal_sql.COMMIT_BAR, after, [*progress, *values], messages)

    async def commit_decision(self, after: State, record: DecisionRecord, *, cause: Headers) -> None:
        """Store one decision with its orders."""
        values = [
            *order_columns(record.orders),
            *refusal_columns(record.refusals),
            record.sha256,
            record.profile,
            record.hold,
            record.hold_reason,
            record.summary,
        ]
        messages = [_order_message(open_order, cause) for open_order in record.orders]
        progress = [None, record.as_of, record.origin.value]
        await self._commit(journal_sql.COMMIT_DECISION, after, [*progress, *values], messages)

    async def record_refusal(self, market: str, refusal: Refusal) -> None:
        """Store a refusal that decides nothing."""
        with as_transient():
            async with self._database.hot() as connection:
                await connection.execute(
                    journal_sql.RECORD_REFUSAL,
                    market,
                    refusal.as_of,
                    refusal.reason,
                    refusal.sha256,
                    refusal.n,
                    list(refusal.examples),
                )

    async def kill_switch(self) -> KillSwitch:
        """Return the newest row of the kill switch."""
        with as_transient():
            async with self._database.hot() as connection:
                row = await connection.fetchrow(journal_sql.KILL_SWITCH)
        return kill_switch_of(row)

    async def bar_sha256(self, market: str, closed_at: datetime) -> str | None:
        """Return the hash of the bars message that was handled for an instant."""
        return await self._hash(journal_sql.BAR_SHA256, market, closed_at)

    async def targets_sha256(self, market: str, as_of: datetime) -> str | None:
        """Return the hash of the targets message that was decided on."""
        return await self._hash(journal_sql.TARGETS_SHA256, market, as_of)

    async def _hash(self, query: str, market: str, at: datetime) -> str | None:
        with as_transient():
            async with self._database.hot() as connection:
                found: str | None = await connection.fetchval(query, market, at)
        return found

    async def _commit(
        self, statement: str, after: State, values: Sequence[Any], messages: Sequence[OutMessage]
    ) -> None:
        with as_transient(), _SECONDS.time():
            async with self._database.hot() as connection, connection.transaction():
                n_events = await connection.fetchval(statement, after.market, after.n_events - 1, *values)
                if n_events is None:
                    raise Transient("journal_moved", f"expected {after.n_events - 1} events of {after.market}")
                if messages:
                    await enqueue(connection, schema=SCHEMA, messages=messages)
        if messages:
            self._committed()


def _order_message(open_order: OpenOrder, cause: Headers) -> OutMessage:
    order = open_order.order
    return OutMessage(
        subject=ORDERS_PAPER,
        data=encode(order),
        message_id=order.order_id,
        schema=Order.SCHEMA,
        as_of=order.decided_at,
        origin=order.origin,
        lineage=cause.get(headers.LINEAGE, ""),
        cause=cause,
    )


def _fill_message(fill: Fill, cause: Headers) -> OutMessage:
    return OutMessage(
        subject=FILLS_PAPER,
        data=encode(fill),
        message_id=fill.fill_id,
        schema=Fill.SCHEMA,
        as_of=fill.filled_at,
        origin=fill.origin,
        lineage=cause.get(headers.LINEAGE, ""),
        cause=cause,
    )
