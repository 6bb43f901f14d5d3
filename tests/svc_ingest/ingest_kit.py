"""Small datasets, a bus that remembers, and runs of the service wired on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.port import Delivery, Subscription
from qraft_bus.settings import BusSettings
from qraft_contracts.arrow_schemas import BARS_SCHEMA
from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch, decode_bars
from qraft_runtime.clock import Clock, SystemClock
from qraft_runtime.settings import CommonSettings
from qraft_store.bars.port import BarStore
from svc_ingest.app import build
from svc_ingest.domain.faults import QualityReport
from svc_ingest.domain.quality import QualityCheck
from svc_ingest.domain.raw import RawRows, micros_of
from svc_ingest.ports import BarSource, MarketState
from svc_ingest.settings import IngestSettings
from svc_ingest.usecases.run import IngestRun

STEP = timedelta(minutes=5)
T0 = datetime(2025, 6, 1, tzinfo=UTC)  # start of the first bar
STEP_US = 300_000_000


def at(i: int) -> datetime:
    """Return the end of bar i; bar 0 opens at T0."""
    return T0 + (i + 1) * STEP


def value_rows(closes: Sequence[float]) -> np.ndarray:
    """Return possible bars around the closes: (n, 5)."""
    close = np.array(closes, dtype=np.float64)
    return np.column_stack([close, close + 1, close - 1, close, close * 10])


def raw(indices: Sequence[int], closes: Sequence[float] | None = None) -> RawRows:
    """Return rows for the bars of these indices; close = 100 + index unless given."""
    closes = [100.0 + i for i in indices] if closes is None else closes
    return RawRows(np.array([micros_of(at(i)) for i in indices], dtype=np.int64), value_rows(closes).reshape(-1, 5))


def make_check(origin: Origin = Origin.REPLAY) -> QualityCheck:
    return QualityCheck(market="crypto", interval="5m", origin=origin, report=QualityReport())


def write_symbol(
    folder: Path, symbol: str, indices: Sequence[int], closes: Sequence[float] | None = None, **columns: pa.Array
) -> Path:
    """Write one dataset file as real ones are: open_time in UTC milliseconds; `columns` replace or add some."""
    rows = raw(indices, closes)
    opened = pa.array((rows.closed_at - STEP_US) // 1000, pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    names = ("open", "high", "low", "close", "volume")
    data = {"open_time": opened} | {name: pa.array(rows.values[:, i]) for i, name in enumerate(names)} | columns
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{symbol}.parquet"
    pq.write_table(pa.table({name: column for name, column in data.items() if column is not None}), path)
    return path


def shown(batches: Sequence[BarBatch]) -> list[tuple[int, int, dict[str, float]]]:
    """Return (bar index, revision, close of each symbol) of each batch."""
    return [
        (round((b.closed_at - T0) / STEP) - 1, b.revision, dict(zip(b.symbols, b.close.tolist(), strict=True)))
        for b in batches
    ]


def make_run(
    source: BarSource, store: BarStore, bus: MemoryBus, home: Path, clock: Clock | None = None,
    state: MarketState | None = None, **settings,
):  # fmt: skip
    """Wire a run as app.py does."""
    return build(
        CommonSettings(home=home),
        IngestSettings(**settings),
        source=source,
        store=store,
        bus=bus,
        clock=clock or SystemClock(),
        on_progress=lambda _progress: None,
        state=state,
    )


async def run_to_the_end(run: IngestRun) -> None:
    """Serve until the source has ended; `serve` itself would stay."""
    import asyncio

    task = asyncio.create_task(run.serve())
    while not run.publisher.state.finished:
        await asyncio.sleep(0.005)
        if task.done():
            await task
    task.cancel()


@asynccontextmanager
async def recording_bus(broker: MemoryBroker):
    """Yield a started bus and the list into which everything on bars.5m is decoded."""
    received: list[BarBatch] = []

    async def record(delivery: Delivery) -> None:
        received.append(decode_bars(delivery.data))

    bus = MemoryBus(broker, name="svc_ingest", settings=BusSettings())
    bus.subscribe(Subscription("bars.5m", "recorder", record, (BARS_SCHEMA,)))
    await bus.start()
    yield bus, received
    await bus.drain()
