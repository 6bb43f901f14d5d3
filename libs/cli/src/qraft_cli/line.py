"""
A stored stretch of bars through a fresh, separate line of the same services, and the hash of what they decided.

Used by `qraft replay` and by the survival tests. The line has its own home, servers and paper account (it starts flat),
so that playing a day again never touches the account of the running stack.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from qraft_cli import story
from qraft_cli.stack.home import Home
from qraft_cli.stack.local import LocalStack
from qraft_cli.stack.servers import postgres_dsn
from qraft_cli.stack.session import connect_bus
from qraft_contracts.subjects import FILLS_PAPER, INTERVAL_SECONDS, ORDERS_PAPER
from qraft_contracts.times import format_instant
from qraft_registry.postgres import open_store
from qraft_registry.registry import Registry
from qraft_store.artefacts.objects import ObjectArtefactStore

# Far beyond the longest window of the features; the lake of the line holds no more history than it needs.
HISTORY_DAYS = 12
_POLL_S = 0.2

Disturb = Callable[[LocalStack], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What to play: bars with start < closed_at <= end of a stored data set, through one model."""

    dataset: Path
    start: datetime
    end: datetime
    model_id: str
    artefacts: str
    profile: str = "demo"
    speed: float = 0.0
    interval: str = "5m"

    @property
    def n_bars(self) -> int:
        """Return how many bars the stretch has."""
        return self.bars_until(self.end)

    def bars_until(self, at: datetime) -> int:
        """Return how many bars of the stretch are closed at an instant."""
        return int((at - self.start).total_seconds()) // INTERVAL_SECONDS[self.interval]


@dataclass(frozen=True, slots=True)
class Played:
    """What the line decided. The hashes cover payloads only, in stream order: event time, no wall clock."""

    n_bars: int
    n_orders: int
    n_fills: int
    equity: float
    orders_sha256: str
    fills_sha256: str
    journal_sha256: str
    positions: tuple[tuple[str, float], ...]


async def play(
    home: Home,
    stretch: Stretch,
    *,
    timeout_s: float,
    progress: story.Progress,
    disturb: Disturb | None = None,
    environment: Mapping[str, str] | None = None,
) -> Played:
    """
    Play the stretch to its end in the given (fresh) home and return what was decided.

    Args:
        disturb: runs beside the line, for example to kill its processes; it is awaited before the end is judged.

    Raises:
        TimeoutError: if the line does not get to the end in time.
        ServerFailed: if a server or the load does not start.
    """
    stack = LocalStack(home, environment=_environment(stretch) | dict(environment or {}), origin="replay")
    try:
        await stack.start_servers()
        await story.run_job(stack, "svc_ingest", ("load",), progress)
        await _activate(home, stretch)
        await story.start_services(stack)
        disturbance = asyncio.create_task(disturb(stack)) if disturb else None
        try:
            async with asyncio.timeout(timeout_s):
                await wait_for_end(home, stretch, progress)
                if disturbance is not None:
                    await disturbance
                    await wait_for_end(home, stretch, progress)
                await wait_for_outbox(home)
        finally:
            if disturbance is not None:
                disturbance.cancel()
        return await _read_result(stack, home, stretch)
    finally:
        await stack.stop()


def _environment(stretch: Stretch) -> dict[str, str]:
    return {
        "QRAFT_INTERVAL": stretch.interval,
        "QRAFT_INGEST_SOURCE": "files",
        "QRAFT_INGEST_DATASET": str(stretch.dataset),
        "QRAFT_INGEST_HISTORY_FROM": format_instant(stretch.start - timedelta(days=HISTORY_DAYS)),
        "QRAFT_INGEST_REPLAY_FROM": format_instant(stretch.start),
        "QRAFT_INGEST_REPLAY_UNTIL": format_instant(stretch.end),
        "QRAFT_INGEST_SPEED": str(stretch.speed),
        "QRAFT_ALLOCATOR_PROFILE": stretch.profile,
        "QRAFT_ARTEFACTS_URL": stretch.artefacts,
    }


async def _activate(home: Home, stretch: Stretch) -> None:
    """Register and promote the model in the line's own registry; the gates judge it here as well."""
    store = await open_store(postgres_dsn(home), application_name="qraft")
    try:
        artefacts = ObjectArtefactStore(stretch.artefacts)
        registry = Registry(store=store, artefacts=artefacts, now=lambda: stretch.start)
        reason = f"replay of {format_instant(stretch.start)} to {format_instant(stretch.end)}"
        await registry.register_candidate(stretch.model_id, actor="replay", reason=reason)
        await registry.promote(stretch.model_id, actor="replay", reason=reason)
    finally:
        await store.close()


async def _fetch_value(home: Home, query: str) -> object:
    """Return one value, or None while the database or the table is not there (yet, or after a kill)."""
    try:
        connection = await asyncpg.connect(postgres_dsn(home), timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return None
    try:
        value: object = await connection.fetchval(query)
        await connection.close(timeout=5)  # says goodbye, so that a kill at this moment breaks the pipe
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return None  # the last two: killed between two messages of one query
    finally:
        connection.terminate()
    return value


async def wait_for_end(home: Home, stretch: Stretch, progress: story.Progress) -> None:
    """Wait until the journal holds the targets of the last bar."""
    while True:
        last = await _fetch_value(home, "select max(as_of) from execution.targets")
        if isinstance(last, datetime):
            progress("replay", min(stretch.bars_until(last), stretch.n_bars), stretch.n_bars)
            if last >= stretch.end:
                return
        await asyncio.sleep(_POLL_S)


async def wait_for_outbox(home: Home) -> None:
    """Wait until everything that was journaled is published too."""
    while True:
        if await _fetch_value(home, "select count(*) from execution.outbox where published_at is null") == 0:
            return
        await asyncio.sleep(_POLL_S)


async def _read_result(stack: LocalStack, home: Home, stretch: Stretch) -> Played:
    orders = await stream_payloads(stack.nats_url, ORDERS_PAPER)
    fills = await stream_payloads(stack.nats_url, FILLS_PAPER)
    connection = await asyncpg.connect(postgres_dsn(home))
    try:
        equity = await connection.fetchval("select equity from execution.marks order by closed_at desc limit 1")
        rows = await connection.fetch(
            "select payload from execution.outbox where subject in ($1, $2) order by id", ORDERS_PAPER, FILLS_PAPER
        )
        positions = await connection.fetch(
            "select symbol, sum(case side when 'buy' then quantity else -quantity end) as quantity"
            " from execution.fills group by symbol order by symbol"
        )
    finally:
        await connection.close()
    return Played(
        n_bars=stretch.n_bars,
        n_orders=len(orders),
        n_fills=len(fills),
        equity=float(equity or 0.0),
        orders_sha256=_sha256(orders),
        fills_sha256=_sha256(fills),
        journal_sha256=_sha256([bytes(row["payload"]) for row in rows]),
        positions=tuple((row["symbol"], float(row["quantity"])) for row in positions),
    )


async def stream_payloads(nats_url: str, subject: str) -> list[bytes]:
    """Return the payloads of all stored messages of a subject, in stream order."""
    connection = await connect_bus(nats_url)
    try:
        return [message.data for message in await stored_messages(connection, subject)]
    finally:
        await connection.close()


async def stored_messages(connection: Client, subject: str) -> list[Msg]:
    """Return all stored messages of a subject, in stream order."""
    jetstream = connection.jetstream()
    stream = await jetstream.find_stream_name_by_subject(subject)
    info = await jetstream.stream_info(stream, subjects_filter=subject)
    n_stored = (info.state.subjects or {}).get(subject, 0)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    subscription = await jetstream.subscribe(subject, stream=stream, ordered_consumer=True, config=config)
    return [await subscription.next_msg(timeout=10) for _ in range(n_stored)]


def _sha256(payloads: list[bytes]) -> str:
    digest = hashlib.sha256()
    for payload in payloads:
        digest.update(len(payload).to_bytes(8, "big"))
        digest.update(payload)
    return digest.hexdigest()
