"""Small lakes with all that a bundle must carry: revisions, late rows, lists, texts, several months and kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_data.bundle.create import Asked, Made, make_bundle
from qraft_data.bundle.judged import AuditAsked
from qraft_data.bundle.load import Imported, import_bundle, open_bundle
from qraft_data.bundle.manifest import Selection, Source
from qraft_data.bundle.sources import Stores
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.memory import MemoryTables
from qraft_store.tables.schema import table_schema

T0 = datetime(2025, 5, 30, tzinfo=UTC)
STEP = timedelta(minutes=5)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
END = T0 + 4 * DAY
PERP = "binance.perp"
SOURCES = (
    Source("bars", "1d", "us.equities"),
    Source("bars", "5m", PERP),
    Source("basis", "", PERP),
    Source("book_update", "", PERP),
    Source("funding", "", PERP),
    Source("macro", "", "us.macro"),
    Source("open_interest", "", PERP),
    Source("posts", "", "twitter"),
    Source("trades", "", PERP),
)


def quiet(_what: str, _done: int, _total: int) -> None:
    """Take progress and say nothing."""


def memory_stores() -> Stores:
    """Return empty stores in memory."""
    return Stores(MemoryBarStore(), MemoryTables())


@contextmanager
def lake_stores(root: Path) -> Iterator[Stores]:
    """Open the lake under a root, and close it."""
    bars, tables = ParquetLake(root), ParquetTables(root)
    try:
        yield Stores(bars, tables)
    finally:
        bars.close()
        tables.close()


def bar(
    at: datetime, price: float, *, market: str = PERP, interval: str = "5m", symbols: tuple[str, ...] = ("BTCUSDT",),
    revision: int = 0, known_at: datetime | None = None, origin: Origin = Origin.REPLAY,
) -> BarBatch:  # fmt: skip
    """Return a bar whose values depend on its price."""
    close = price + np.arange(len(symbols), dtype=np.float64)
    return BarBatch(market, interval, at, known_at or at, revision, origin, symbols, close, close + 1, close - 1, close,
                    close * 0 + 3)  # fmt: skip


def row(kind: str, at: datetime, **values: Any) -> dict[str, Any]:
    """Return a row of a kind; what is not said is plain."""
    plain = {"utf8": "x", "bool": True, "int64": 7, "list<float64>": [1.0, 2.0], "float64": 0.5}
    base = {"symbol": "BTCUSDT", "event_at": at, "known_at": at, "row_id": "", "revision": 0, "origin": "replay",
            "source": "test"}  # fmt: skip
    return base | {field.name: plain[field.type] for field in KINDS[kind].fields} | values


def put(stores: Stores, kind: str, rows: list[dict[str, Any]], *, market: str = PERP) -> None:
    """Append rows, every one of which must be taken."""
    done = stores.tables.append(kind, market=market, rows=pa.Table.from_pylist(rows, schema=table_schema(kind)))
    assert done.n_quarantined == 0, stores.tables.quarantine(kind, market=market).to_pylist()


def fill(stores: Stores) -> Stores:
    """Fill empty stores so that an audit of four days of binance.perp is green, with corrections in everything."""
    n_bars = 4 * 288
    prices = 100 + np.sin(np.arange(n_bars) / 50)
    stores.bars.append([bar(T0 + (i + 1) * STEP, prices[i]) for i in range(n_bars)])
    stores.bars.append([
        bar(T0 + 10 * STEP, 100.5, revision=1, known_at=T0 + DAY),
        bar(T0 + 10 * STEP, 100.6, revision=2, known_at=END + DAY),
        bar(T0 - 40 * DAY, 99.0, revision=1, known_at=T0, symbols=("BTCUSDT",)),
    ])  # fmt: skip
    days = [datetime(2024, 12, 30, tzinfo=UTC) + i * DAY for i in range(6)]
    stores.bars.append([bar(it, 10.0, market="us.equities", interval="1d", symbols=("AAPL", "MSFT")) for it in days])
    hours = [T0 + (i + 1) * HOUR for i in range(96)]
    put(stores, "basis", [row("basis", it, spot_price=100.0, future_price=101.0, basis_frac=0.01) for it in hours])
    put(stores, "funding", [row("funding", it, funding_rate=1e-4, period_hours=1.0) for it in hours])
    put(stores, "funding", [row("funding", hours[5], funding_rate=2e-4, period_hours=1.0, revision=1,
                                known_at=END + HOUR)])  # fmt: skip
    put(stores, "open_interest", [row("open_interest", it, open_interest=None) for it in hours])
    put(stores, "book_update", [row("book_update", T0 + i * HOUR, row_id=str(i), bid_px=[1.0] * (i % 3),
                                    bid_qty=[2.0] * (i % 3)) for i in range(50)])  # fmt: skip
    put(stores, "trades", [row("trades", T0 + (i // 3) * HOUR, row_id=str(i), price=100.0 + i) for i in range(60)])
    put(stores, "posts", [row("posts", T0 + i * HOUR, row_id=str(i), text=f"Ω {i}" * i, author_hash=None)
                          for i in range(1, 50)], market="twitter")  # fmt: skip
    put(stores, "macro", [row("macro", datetime(2023 + i // 12, i % 12 + 1, 1, tzinfo=UTC), symbol="VIX",
                              value=10.0 + i) for i in range(28)], market="us.macro")  # fmt: skip
    return stores


def asked(*, allows_gaps: bool = False, days: int = 4, **selection: Any) -> Asked:
    """Return what a bundle is to hold; nothing said = everything."""
    audit = AuditAsked(mode="production", market=PERP, interval="5m", days=days)
    return Asked(Selection(**selection), audit, allows_gaps)


def made(stores: Stores, path: Path, **words: Any) -> Made:
    """Make a bundle."""
    return make_bundle(stores, asked(**words), path, on_step=quiet)


def take(
    stores: Stores, path: Path, *, is_dry: bool = False, expected_id: str | None = None,
    on_step: Callable[[str, int, int], None] = quiet,
) -> Imported:  # fmt: skip
    """Import a bundle."""
    opened = open_bundle(path, expected_id=expected_id)
    try:
        return import_bundle(stores, opened, is_dry=is_dry, on_step=on_step)
    finally:
        opened.archive.close()


def versions(stores: Stores, sources: tuple[Source, ...] = SOURCES) -> dict[str, str]:
    """Return the version of each source."""
    return {source.name: stores.version(source) for source in sources}


def everything(stores: Stores, as_of: datetime) -> dict[str, pa.Table]:
    """Return every revision of every source that was known by an instant."""
    found = {}
    for source in SOURCES:
        if source.kind == "bars":
            tables = list(stores.bars.rows(market=source.market, interval=source.interval, as_of=as_of))
            found[source.name] = pa.concat_tables(tables) if tables else None
        else:
            found[source.name] = stores.tables.read(
                source.kind, market=source.market, symbols=None, start=datetime(1990, 1, 1, tzinfo=UTC),
                end=datetime(2190, 1, 1, tzinfo=UTC), as_of=as_of,
            )  # fmt: skip
    return found
