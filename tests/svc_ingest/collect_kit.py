"""A collector over a folder of small files, with stores in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_runtime.clock import FixedClock
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tables.memory import MemoryTables
from svc_ingest.adapters.collected import LakeRecord
from svc_ingest.adapters.readers import FileReader
from svc_ingest.domain.datasets import Catalogue, Dataset, check_catalogue
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Collector, Selection
from svc_ingest.usecases.kept_live import KeptLive

NOW = datetime(2026, 1, 1, tzinfo=UTC)
T0 = datetime(2025, 6, 1, tzinfo=UTC)
FUNDING = {
    "kind": "funding", "market": "{venue}.perp", "symbol": "{symbol}",
    "time": {"column": "funding_time", "floor_s": 3600}, "known": {"rule": "column", "column": "funding_time"},
    "fields": {"funding_rate": {"column": "funding_rate", "low": -0.05, "high": 0.05}, "period_hours": {"value": 8.0}},
}  # fmt: skip
BARS = {
    "kind": "bars", "market": "binance.perp", "symbol": "{stem}", "interval": "5m",
    "time": {"column": "open_time", "plus_s": 300},
    "fields": {name: name for name in ("open", "high", "low", "close", "volume")},
}  # fmt: skip


def dataset(name: str, files: str, *tables: dict, reader: str = "parquet", **options) -> Dataset:
    return msgspec.convert({"name": name, "files": files, "reader": reader, "tables": list(tables)} | options, Dataset)


class Bench:
    """A data folder, a lake in memory, and what the last collection said."""

    def __init__(self, folder: Path, *datasets: Dataset) -> None:
        self.data, self.home = folder / "data", folder / "home"
        self.data.mkdir(parents=True, exist_ok=True)
        self.catalogue = Catalogue(tuple(datasets))
        check_catalogue(self.catalogue)
        self.bars, self.tables, self.clock = MemoryBarStore(), MemoryTables(), FixedClock(NOW)
        self.record = LakeRecord(self.home / "lake")
        self.told: list[str] = []

    def collector(self) -> Collector:
        return Collector(
            self.catalogue, self.data, FileReader(), self.bars, self.tables, self.record, self.clock,
            lambda name, _tally, _done: self.told.append(name), KeptLive(self.clock, self.record),
        )  # fmt: skip

    def collect(self, **selection) -> Tally:
        tally = Tally()
        self.collector().collect(Selection(**selection), tally)
        return tally

    def rows(self, kind: str, market: str) -> list[dict]:
        start, end = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        return self.tables.read(kind, market=market, symbols=None, start=start, end=end).to_pylist()

    def refused(self, name: str) -> list[dict]:
        path = self.home / "lake" / "refused" / f"{name}.parquet"
        return pq.read_table(path).to_pylist() if path.exists() else []

    def write(self, name: str, **columns) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path


def instants(n: int, step_s: int, first: datetime = T0) -> pa.Array:
    start = int(first.timestamp() * 1000)
    return pa.array([start + i * step_s * 1000 for i in range(n)], pa.timestamp("ms", tz="UTC"))


def funding_columns(rates: list[float], **changes) -> dict:
    n = len(rates)
    columns = {"funding_time": instants(n, 8 * 3600), "venue": ["binance"] * n, "symbol": ["BTCUSDT"] * n,
               "funding_rate": pa.array(rates, pa.float64())} | changes  # fmt: skip
    return {name: column for name, column in columns.items() if column is not None}


def bar_columns(closes: list[float], **changes) -> dict:
    columns = {"open_time": instants(len(closes), 300), "open": closes, "high": [c + 1 for c in closes],
               "low": [c - 1 for c in closes], "close": closes, "volume": [5.0] * len(closes)} | changes  # fmt: skip
    return {name: column for name, column in columns.items() if column is not None}
