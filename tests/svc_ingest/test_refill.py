"""`load --from --until`: what the line's own bars miss comes from its own source, known now."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.svc_ingest.ingest_kit import T0, at, make_run, write_symbol

from qraft_bus.memory import MemoryBroker, MemoryBus
from qraft_bus.settings import BusSettings
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_runtime.clock import FixedClock
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from svc_ingest.__main__ import main
from svc_ingest.adapters.files import FileSource
from svc_ingest.usecases.refill import refill

NOW = T0 + timedelta(days=30)


def line_over(tmp_path: Path, store: MemoryBarStore):
    bus = MemoryBus(MemoryBroker(), name="svc_ingest", settings=BusSettings())
    return make_run(FileSource(tmp_path / "data", interval="5m"), store, bus, tmp_path / "home").publisher.line


async def test_missing_bars_are_stored_as_known_now_and_a_second_time_nothing(tmp_path: Path) -> None:
    store = MemoryBarStore()
    write_symbol(tmp_path / "data", "BTCUSDT", [*range(10), *range(15, 30)])
    run = line_over(tmp_path, store)
    await refill(run, start=at(-1), until=at(29), clock=FixedClock(NOW))
    write_symbol(tmp_path / "data", "BTCUSDT", range(30))

    count = await refill(line_over(tmp_path, store), start=at(5), until=at(20), clock=FixedClock(NOW))
    again = await refill(line_over(tmp_path, store), start=at(5), until=at(20), clock=FixedClock(NOW))

    assert (count.n_new, count.n_repeated) == (5, 10) and (again.n_new, again.n_repeated) == (0, 15)
    read = {"market": "crypto", "interval": "5m", "symbols": None, "start": at(9), "end": at(14)}
    assert store.read(**read, as_of=NOW) is None  # no run of the past saw them
    assert store.read(**read, as_of=NOW - timedelta(seconds=1), revisions="latest") is None
    assert store.read(**read, as_of=NOW, revisions="latest").close[:, 0].tolist() == [110.0, 111.0, 112.0, 113.0, 114.0]


async def test_simulated_bars_are_not_filled_with_market_ones(tmp_path: Path) -> None:
    store = MemoryBarStore()
    write_symbol(tmp_path / "data", "BTCUSDT", range(30))
    import numpy as np

    columns = [np.array([100.0])] * 5
    store.append([BarBatch("crypto", "5m", at(3), at(3), 0, Origin.SIMULATED, ("BTCUSDT",), *columns)])

    with pytest.raises(Malformed, match="origin_conflict"):
        await refill(line_over(tmp_path, store), start=at(0), until=at(9), clock=FixedClock(NOW))


async def test_rows_that_are_no_bars_are_kept_with_those_of_the_line(tmp_path: Path) -> None:
    spoiled = {name: [100.0] * 30 for name in ("open", "high", "low", "close")}
    spoiled["low"][17] = -1.0
    columns = {name: pa.array(values) for name, values in spoiled.items()}
    write_symbol(tmp_path / "data", "BTCUSDT", range(30), **columns)
    line = line_over(tmp_path, MemoryBarStore())

    for _ in range(2):
        count = await refill(line, start=at(5), until=at(20), clock=FixedClock(NOW))

    (row,) = pq.read_table(tmp_path / "home" / "lake" / "refused" / "line.crypto.5m").to_pylist()
    assert (row["file"], row["reason"], json.loads(row["received"])["low"]) == ("BTCUSDT", "not_positive: low", -1.0)
    assert count.n_quarantined == 1


def test_command_fills_the_lake_and_refuses_a_stretch_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_symbol(tmp_path / "data", "BTCUSDT", range(30))
    for name, value in (("HOME", tmp_path / "home"), ("INGEST_DATASET", tmp_path / "data"), ("INGEST_SOURCE", "files")):
        monkeypatch.setenv(f"QRAFT_{name}", str(value))

    assert main(["load", "--from", format_instant(at(3)), "--until", format_instant(at(9))]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert told[-1]["event"] == "ingest.refilled" and told[-1]["n_new"] == 6
    assert ParquetLake(tmp_path / "home" / "lake").range(market="crypto", interval="5m") == (at(4), at(9))
    assert main(["load", "--from", format_instant(at(3))]) == 2
