"""What only the lake on disk can do: layout, torn tails, kills, readers beside the writer, one writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.libs.store.bars_kit import SERIES, STEP, T0, bar, bars

from qraft_contracts.outcomes import Malformed, Transient
from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.lake import ParquetLake


@pytest.fixture
def lake(tmp_path: Path):
    lake = ParquetLake(tmp_path)
    yield lake
    lake.close()


def closes(root: Path) -> list[float]:
    panel = ParquetLake(root).read(
        market="crypto", interval="5m", symbols=["BTCUSDT"], start=T0 - STEP, end=T0 + timedelta(days=4)
    )
    assert panel is not None
    return panel.close[~np.isnan(panel.close[:, 0]), 0].tolist()


def test_closed_days_are_sorted_zstd_parquet_and_the_current_day_a_stream(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(300))

    files = sorted(str(p.relative_to(tmp_path / SERIES)) for p in (tmp_path / SERIES).rglob("*.*") if p.is_file())
    closed, growing = "date=2025-06-01", "date=2025-06-02"
    assert files == [".writer.lock", f"{closed}/{COLUMNS}", f"{closed}/{PARQUET}", f"{growing}/{TAIL}"]
    table = pq.read_table(tmp_path / SERIES / "date=2025-06-01" / PARQUET, partitioning=None)
    assert table.column_names == [
        "symbol",
        "closed_at",
        "known_at",
        "revision",
        "origin",
        "open",
        "high",
        "low",
        "close",
        "volume",
    ]
    assert table.num_rows == 287 * 2
    assert table.sort_by([("closed_at", "ascending"), ("symbol", "ascending")]).equals(table)
    metadata = pq.ParquetFile(tmp_path / SERIES / "date=2025-06-01" / PARQUET).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_day_roll_compacts_the_day_before(lake: ParquetLake, tmp_path: Path) -> None:
    for batch in bars(290):
        lake.append([batch])

    assert not (tmp_path / SERIES / "date=2025-06-01" / TAIL).exists()
    assert (tmp_path / SERIES / "date=2025-06-02" / TAIL).exists()
    assert closes(tmp_path) == [100.0 + i for i in range(290)]


def test_every_cut_of_the_tail_leaves_whole_bars_and_the_writer_goes_on(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(1))
    one = (tmp_path / SERIES / "date=2025-06-01" / TAIL).stat().st_size
    lake.append(bars(3)[1:])
    lake.close()
    tail = tmp_path / SERIES / "date=2025-06-01" / TAIL
    whole = tail.read_bytes()

    for cut in range(one, len(whole), 7):
        tail.write_bytes(whole[:cut])
        expected = [100.0 + i for i in range(len(closes(tmp_path)))]
        assert closes(tmp_path) == expected and 1 <= len(expected) <= 3
        lake.append(bars(5))  # skips what is there, adds what was torn off
        lake.close()
        assert closes(tmp_path) == [100.0, 101.0, 102.0, 103.0, 104.0]


@pytest.mark.parametrize("size", [0, 1, 100])
def test_tail_torn_in_its_schema_is_an_empty_tail(lake: ParquetLake, tmp_path: Path, size: int) -> None:
    lake.append(bars(2))
    lake.close()
    tail = tmp_path / SERIES / "date=2025-06-01" / TAIL
    tail.write_bytes(tail.read_bytes()[:size])

    assert lake.range(market="crypto", interval="5m") is None
    assert lake.append(bars(2)) == 4
    assert closes(tmp_path) == [100.0, 101.0]


def test_garbage_after_the_last_message_is_cut_off(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(2))
    lake.close()
    tail = tmp_path / SERIES / "date=2025-06-01" / TAIL
    size = tail.stat().st_size
    for garbage in (b"\x00" * 64, b"\xff\xff\xff\xff\x10\x00\x00\x00", os.urandom(50)):
        tail.write_bytes(tail.read_bytes()[:size] + garbage)

        assert closes(tmp_path) == [100.0, 101.0]

    lake.append(bars(3))
    assert closes(tmp_path) == [100.0, 101.0, 102.0]


def test_kill_between_compaction_and_removal_of_the_tail_counts_rows_once(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(200))
    day = tmp_path / SERIES / "date=2025-06-01"
    tail = (day / TAIL).read_bytes()
    lake.append(bars(300)[200:])
    (day / TAIL).write_bytes(tail)

    assert closes(tmp_path) == [100.0 + i for i in range(300)]
    lake.close()
    lake.append([bar(T0 + 300 * STEP, base=400.0)])

    assert not (day / TAIL).exists()
    assert closes(tmp_path) == [100.0 + i for i in range(301)]


def test_second_writer_is_turned_away_until_the_first_closes(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(1))
    other = ParquetLake(tmp_path)
    with pytest.raises(Transient, match="another process writes"):
        other.append(bars(2))

    lake.close()

    assert other.append(bars(2)) == 2
    other.close()


def test_damaged_parquet_is_named(lake: ParquetLake, tmp_path: Path) -> None:
    lake.append(bars(300))
    path = tmp_path / SERIES / "date=2025-06-01" / PARQUET
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(Malformed, match=r"bars\.parquet"):
        closes(tmp_path)


def test_market_that_could_leave_the_lake_is_refused(lake: ParquetLake) -> None:
    with pytest.raises(ValueError, match="expected a market"):
        lake.range(market="../x", interval="5m")


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from qraft_store.bars.lake import ParquetLake
from tests.libs.store.bars_kit import bars

lake = ParquetLake(Path(sys.argv[1]))
for batch in bars(1150):
    if lake.append([batch]):
        print(batch.close[0], flush=True)
print("all stored", flush=True)
input()
"""


def test_killed_writer_loses_no_bar_that_it_reported_and_readers_see_no_half_one(tmp_path: Path) -> None:
    reported: list[float] = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # a bar, or "all stored" when quick writers before left none to store
        until = time.monotonic() + 0.15
        while time.monotonic() < until:
            seen = closes(tmp_path)
            assert seen == [100.0 + i for i in range(len(seen))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        reported += [float(line) for line in lines if line.endswith("\n") and line != "all stored\n"]
        process.wait()

    stored = closes(tmp_path)

    assert len(reported) == len(set(reported)) > 100
    assert set(reported) <= set(stored)
