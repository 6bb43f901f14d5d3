"""
What one living bar costs to find out its state: 500 symbols, every input of the dictionary, from memory and from the
store, in one run.

Run: python -m tests.bench state
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from tests.bench.measure import Quantiles, machine, temporary_home, verdict

from qraft_contracts.kinds import KINDS, STATE_INPUTS
from qraft_data.living_state import LivingState
from qraft_data.state import StatePanel, StateTable, read_state, state_tables
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.schema import table_schema

N_SYMBOLS, N_BARS, WARM_UP_BARS = 500, 60, 5
MARKET, STEP = "bench.perp", timedelta(minutes=5)
START = datetime(2025, 6, 3, 12, tzinfo=UTC)
HISTORY = timedelta(hours=12)
# What does not come with every bar.
PACES = {"funding": timedelta(hours=8), "mark_premium": timedelta(hours=1)}
SERIES_PACE = timedelta(days=1)
TARGET_MS = 10.0
Result = TypeVar("Result")
METHOD = f"""bench data, not a market: {N_SYMBOLS} symbols, every table of STATE_INPUTS, 12 hours of it; with each of
  {N_BARS} bars every table of 5 minutes gets a row of each symbol; page cache warm; one process; the three take turns
  kept   LivingState whose `refresh` ran since the rows came, as svc_ingest does between two bars
  unkept LivingState without it: the bar itself reads the new files
  store  read_state, which opens every table"""


def main() -> None:
    """Build, measure, check that all three answer the same bits, print."""
    home = temporary_home()
    try:
        _run(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(home: Path) -> None:
    tables = ParquetTables(home / "lake")
    symbols = tuple(f"BENCH{i:03d}USDT" for i in range(N_SYMBOLS))
    random = np.random.default_rng(7)
    wanted = state_tables(MARKET, STATE_INPUTS)
    for table in wanted:
        _put(tables, table, _times(table, START - HISTORY, START), symbols, random)
    kept, unkept = LivingState(tables, MARKET), LivingState(tables, MARKET)
    taken: dict[str, list[float]] = {"kept": [], "unkept": [], "store": [], "refresh": []}
    n_inputs = 0
    for i in range(WARM_UP_BARS + N_BARS):
        bar = START + (i + 1) * STEP
        for table in wanted:
            _put(tables, table, _times(table, bar - STEP, bar), symbols, random)
        at_us = np.array([int(bar.timestamp()) * 1_000_000])
        ways: dict[str, Callable[[], StatePanel]] = {
            "kept": lambda: kept.read(symbols=symbols, at_us=at_us, as_of=bar),  # noqa: B023  called in this round
            "unkept": lambda: unkept.read(symbols=symbols, at_us=at_us, as_of=bar),  # noqa: B023
            "store": lambda: read_state(tables, market=MARKET, symbols=symbols, at_us=at_us, as_of=bar),  # noqa: B023
        }
        rounds = {"refresh": _timed(kept.refresh)[0]}
        found: dict[str, StatePanel] = {}
        for name, read in ways.items():
            rounds[name], found[name] = _timed(read)
        assert _bits(found["kept"]) == _bits(found["unkept"]) == _bits(found["store"]), bar
        n_inputs = len(found["store"].values)
        if i >= WARM_UP_BARS:
            for name, spent in rounds.items():
                taken[name].append(spent)
    tables.close()
    _report({name: Quantiles.of(values) for name, values in taken.items()}, n_inputs, kept.n_rows)


def _report(found: dict[str, Quantiles], n_inputs: int, n_rows: int) -> None:
    print(METHOD)
    print(f"  {machine()}; {n_inputs} inputs; {n_rows:,} rows kept")
    for name in ("kept", "unkept", "store", "refresh"):
        print(f"  {name:8s} {found[name].p50:7.1f} ms p50 {found[name].p99:7.1f} ms p99")
    kept, store = found["kept"].p50, found["store"].p50
    print(f"  kept / store {kept / store:.2f}, target {TARGET_MS:.0f} ms a bar: {verdict(kept <= TARGET_MS)}")


def _timed(call: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    found = call()
    return (time.perf_counter() - began) * 1e3, found


def _bits(panel: StatePanel) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in panel.values.items()}


def _times(table: StateTable, after: datetime, until: datetime) -> list[datetime]:
    """Return when a table has rows in (after, until]; a series has one before all of them."""
    step = SERIES_PACE if table.has_series else PACES.get(table.kind, STEP)
    if table.has_series:
        return [START - HISTORY] if after < START - HISTORY / 2 else []
    first = -(-int(after.timestamp() + 1) // int(step.total_seconds()))
    times = [datetime.fromtimestamp(k * step.total_seconds(), UTC) for k in range(first, first + 1_000)]
    return [it for it in times if after < it <= until]


def _put(
    tables: ParquetTables, table: StateTable, times: list[datetime], symbols: tuple[str, ...],
    random: np.random.Generator,
) -> None:  # fmt: skip
    names = table.symbols_of(symbols)
    if not times:
        return
    n_rows = len(times) * len(names)
    event = pa.array(np.repeat([int(it.timestamp()) * 1_000_000 for it in times], len(names))).cast(
        pa.timestamp("us", "UTC")
    )
    columns = {
        "symbol": pa.array(list(names) * len(times)), "event_at": event, "known_at": event,
        "row_id": pa.array([""] * n_rows), "revision": pa.array(np.zeros(n_rows, np.int32)),
        "origin": pa.array(["replay"] * n_rows), "source": pa.array(["bench"] * n_rows),
    }  # fmt: skip
    for field in KINDS[table.kind].fields:
        values = random.uniform(max(field.low, 0.1), min(field.high, 0.4), n_rows)
        columns[field.name] = pa.array(values).cast(table_schema(table.kind).field(field.name).type, safe=False)
    done = tables.append(table.kind, market=table.market, rows=pa.table(columns).cast(table_schema(table.kind)))
    assert (done.n_new, done.n_quarantined) == (n_rows, 0), table.source
