"""
Reads of the bar lake out of 10 million rows, beside polars on Parquet files and a memory-mapped array, in one run.

Run: python -m tests.bench.store
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from tests.bench.measure import Quantiles, data_folder, machine, temporary_home, verdict

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.port import BarPanel

N_SYMBOLS, N_BARS = 50, 200_000
N_LIVE = 200  # the newest bars are appended one by one, as svc_ingest does
VALUES = ("open", "high", "low", "close", "volume")
MARKET, INTERVAL, STEP = "bench", "5m", timedelta(minutes=5)
MONTH = (datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
DAY = (datetime(2025, 6, 3, tzinfo=UTC), datetime(2025, 6, 4, tzinfo=UTC))
TARGETS_MS = {"last 288 bars of 50 symbols": 2.0, "one symbol-month": 3.0, "all symbols of one day": 3.0}
ROUNDS, WARM_UP_ROUNDS = 300, 20
METHOD = f"""bench data, not a market: {N_SYMBOLS} names x {N_BARS:,} bars of 5 minutes, made of the real ones of
  2025 (5 spot, 5 perpetual symbols, repeated in time and under other names), written through ParquetLake.append, the
  newest {N_LIVE} bars one by one; page cache warm; one process; the ways take turns in each of {ROUNDS} rounds
  lake    ParquetLake.read / .last: BarPanel on the time grid, NaN where no bar is, as-of and origin checked
  polars  the same Parquet files (a day each), lazily, filtered and in columns as stored: no panel is made of it
  symbol  polars on one Parquet file of the symbol, row groups of 10,000 rows
  array   np.memmap (value, bar, symbol): the floor, a copy of slices; knows nothing of known_at or of gaps"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The same bars, stored in every way that is measured."""

    lake: ParquetLake
    series: Path
    of_symbol: Path
    array: np.memmap
    first: datetime
    symbols: tuple[str, ...]

    @property
    def end(self) -> datetime:
        """Return the newest closed_at."""
        return self.first + (N_BARS - 1) * STEP

    def row(self, closed_at: datetime) -> int:
        """Return the row of the array."""
        return (closed_at - self.first) // STEP


def main() -> None:
    """Build, check that all ways read the same, measure, print."""
    data = data_folder()
    if data is None:
        print("SKIPPED: no real data; set QRAFT_DATA")
        return
    home = temporary_home()
    try:
        bench = _build(data, home)
        _check(bench)
        print(METHOD)
        print(f"  {machine()}, polars {pl.__version__}")
        for name, ways in _ways(bench).items():
            _report(name, _measure(ways))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _real_values(data: Path) -> list[np.ndarray]:
    """Return (n_values, N_BARS) of each real symbol, repeated in time."""
    paths = sorted((data / "bars" / "spot_5m_2025").glob("*.parquet"))
    paths += sorted((data / "bars" / "perp_5m_2025").glob("*.parquet"))
    found = []
    for path in paths:
        values = pl.read_parquet(path, columns=list(VALUES)).to_numpy().T
        found.append(np.ascontiguousarray(np.tile(values, (1, -(-N_BARS // values.shape[1])))[:, :N_BARS]))
    return found


def _build(data: Path, home: Path) -> Bench:
    real = _real_values(data)
    symbols = tuple(f"BENCH{i:02d}USDT" for i in range(N_SYMBOLS))
    first = datetime(2023, 11, 1, 0, 5, tzinfo=UTC)
    array = np.memmap(home / "array.bin", dtype=np.float64, mode="w+", shape=(len(VALUES), N_BARS, N_SYMBOLS))
    for i in range(N_SYMBOLS):
        array[:, :, i] = real[i % len(real)]
    array.flush()
    lake = ParquetLake(home / "lake")

    def batch(row: int) -> BarBatch:
        closed_at = first + row * STEP
        return BarBatch(
            MARKET, INTERVAL, closed_at, closed_at, 0, Origin.REPLAY, symbols, *(np.array(a[row]) for a in array)
        )  # fmt: skip

    started, n_bulk = time.perf_counter(), N_BARS - N_LIVE
    for low in range(0, n_bulk, 288 * 20):
        lake.append([batch(row) for row in range(low, min(low + 288 * 20, n_bulk))])
    bulk_s = time.perf_counter() - started
    live_ms = []
    for row in range(n_bulk, N_BARS):
        made, began = batch(row), time.perf_counter()
        lake.append([made])
        live_ms.append((time.perf_counter() - began) * 1e3)
    lake.close()
    live = Quantiles.of(live_ms)
    print(f"  written: {n_bulk * N_SYMBOLS / bulk_s / 1e6:.2f} M rows/s in bulk; a live bar of {N_SYMBOLS} symbols")
    print(
        f"    {live.p50:.3f} ms p50, {live.p99:.3f} ms p99 (the roll of a day, {max(live_ms):.0f} ms, among {live.n})"
    )
    of_symbol = home / "symbol.parquet"
    times = pl.datetime_range(first, first + (N_BARS - 1) * STEP, "5m", time_unit="us", eager=True)
    frame = pl.DataFrame({"closed_at": times, **{name: array[i, :, 7] for i, name in enumerate(VALUES)}})
    frame.write_parquet(of_symbol, row_group_size=10_000)
    return Bench(ParquetLake(home / "lake"), home / "lake/bars" / INTERVAL / MARKET, of_symbol, array, first, symbols)


def _ways(bench: Bench) -> dict[str, dict[str, Callable[[], object]]]:
    symbol = bench.symbols[7]
    return {
        "last 288 bars of 50 symbols": {
            "lake": lambda: _last(bench),
            "polars": lambda: _polars(bench, bench.end - 288 * STEP, bench.end, None),
            "array": lambda: _slices(bench, bench.end - 288 * STEP, bench.end, slice(None)),
        },
        "one symbol-month": {
            "lake": lambda: _read(bench, *MONTH, (symbol,)),
            "polars": lambda: _polars(bench, *MONTH, symbol),
            "symbol": lambda: _between(pl.scan_parquet(bench.of_symbol), *MONTH).collect(),
            "array": lambda: _slices(bench, *MONTH, slice(7, 8)),
        },
        "all symbols of one day": {
            "lake": lambda: _read(bench, *DAY, None),
            "polars": lambda: _polars(bench, *DAY, None),
            "array": lambda: _slices(bench, *DAY, slice(None)),
        },
    }


def _last(bench: Bench) -> BarPanel | None:
    return bench.lake.last(market=MARKET, interval=INTERVAL, symbols=bench.symbols, n=288, as_of=bench.end)


def _read(bench: Bench, start: datetime, end: datetime, symbols: tuple[str, ...] | None) -> BarPanel | None:
    return bench.lake.read(market=MARKET, interval=INTERVAL, symbols=symbols, start=start, end=end)


def _between(frame: pl.LazyFrame, start: datetime, end: datetime) -> pl.LazyFrame:
    return frame.filter((pl.col("closed_at") > start) & (pl.col("closed_at") <= end)).select(VALUES)


def _polars(bench: Bench, start: datetime, end: datetime, symbol: str | None) -> pl.DataFrame:
    days = [start + i * timedelta(days=1) for i in range((end.date() - start.date()).days + 1)]
    folders = [bench.series / f"date={day:%Y-%m-%d}" for day in days]
    paths = [folder / "bars.parquet" for folder in folders if (folder / "bars.parquet").exists()]
    frames = [pl.scan_parquet(paths, hive_partitioning=False)]
    tails = [folder / "tail.arrows" for folder in folders if (folder / "tail.arrows").exists()]
    frames += [pl.read_ipc_stream(tail).lazy() for tail in tails]
    frame = pl.concat(frames)
    return _between(frame if symbol is None else frame.filter(pl.col("symbol") == symbol), start, end).collect()


def _slices(bench: Bench, start: datetime, end: datetime, columns: slice) -> list[np.ndarray]:
    low, high = bench.row(start) + 1, bench.row(end) + 1
    return [np.ascontiguousarray(bench.array[i, low:high, columns]) for i in range(len(VALUES))]


def _check(bench: Bench) -> None:
    """Refuse to measure ways that do not read the same."""
    n_rows = {"last 288 bars of 50 symbols": 288 * 50, "one symbol-month": 31 * 288, "all symbols of one day": 288 * 50}
    for name, ways in _ways(bench).items():
        found = {way: read() for way, read in ways.items()}
        panel, slices = found["lake"], found["array"]
        assert isinstance(panel, BarPanel) and isinstance(slices, list)
        for i, value in enumerate(VALUES):
            np.testing.assert_array_equal(getattr(panel, value), slices[i])
        for way in ("polars", "symbol"):
            frame = found.get(way)
            assert frame is None or (isinstance(frame, pl.DataFrame) and len(frame) == n_rows[name]), (name, way)


def _measure(ways: dict[str, Callable[[], object]]) -> dict[str, Quantiles]:
    taken: dict[str, list[float]] = {way: [] for way in ways}
    gc.collect()
    for i in range(WARM_UP_ROUNDS + ROUNDS):
        for way, read in ways.items():
            began = time.perf_counter()
            found = read()
            seconds = time.perf_counter() - began
            del found
            if i >= WARM_UP_ROUNDS:
                taken[way].append(seconds * 1e3)
    return {way: Quantiles.of(values) for way, values in taken.items()}


def _report(name: str, found: dict[str, Quantiles]) -> None:
    lake, target = found["lake"], TARGETS_MS[name]
    print(
        f"  {name}: lake {lake.p50:.2f} ms p50, {lake.p99:.2f} ms p99, {target:.0f} ms: {verdict(lake.p50 <= target)}"
    )
    for way in found:
        if way != "lake":
            of_way = found[way]
            ratio = of_way.p50 / lake.p50
            print(f"    {way:7} {of_way.p50:6.2f} ms p50, {of_way.p99:6.2f} ms p99, {ratio:6.2f} x the lake's time")


if __name__ == "__main__":
    main()
