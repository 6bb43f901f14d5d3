"""`python -m svc_ingest collect` as a process: its lines, its exit codes, and a kill in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.svc_ingest.binance_server import Futures, Venue, serve_binance
from tests.svc_ingest.collect_kit import T0, bar_columns, funding_columns, instants

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables
from svc_ingest.adapters.collected import LakeRecord

_TABLE = """
[[dataset]]
name = "funding_{i}"
files = "f{i}.parquet"
reader = "parquet"
[[dataset.tables]]
kind = "funding"
market = "venue{i}.perp"
symbol = "{{symbol}}"
time = {{column = "funding_time"}}
fields = {{funding_rate = "funding_rate", period_hours = {{value = 8.0}}}}

[[dataset]]
name = "bars_{i}"
files = "b{i}/*.parquet"
reader = "parquet"
[[dataset.tables]]
kind = "bars"
market = "venue.perp"
symbol = "{{stem}}"
interval = "5m"
time = {{column = "open_time", plus_s = 300}}
fields = {{open = "open", high = "high", low = "low", close = "close", volume = "volume"}}
"""
N_SETS, N_BARS, N_FUNDING = 4, 800, 100


def write_data(folder: Path) -> Path:
    """Write some data sets and their catalogue; return the catalogue."""
    for i in range(N_SETS):
        first = T0 + timedelta(days=10 * i)
        (folder / f"b{i}").mkdir(parents=True)
        stamps = instants(N_FUNDING, 3600, first)
        columns = funding_columns([0.0001] * N_FUNDING, funding_time=stamps, venue=None)
        pq.write_table(pa.table(columns), folder / f"f{i}.parquet")
        opened = instants(N_BARS, 300, first)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            table = pa.table(bar_columns([100.0 + j % 7 for j in range(N_BARS)], open_time=opened))
            pq.write_table(table, folder / f"b{i}" / f"{symbol}.parquet")
    path = folder / "catalogue.toml"
    path.write_text('not_data = ["catalogue.toml"]\n' + "".join(_TABLE.format(i=i) for i in range(N_SETS)))
    return path


def command(home: Path, data: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    env = os.environ | {
        "QRAFT_HOME": str(home), "QRAFT_DATA": str(data), "QRAFT_INGEST_CATALOGUE": str(data / "catalogue.toml"),
    }  # fmt: skip
    return [sys.executable, "-m", "svc_ingest", "collect", *words], env


def collect(home: Path, data: Path, *words: str) -> tuple[int, list[dict], str]:
    words_, env = command(home, data, *words)
    done = subprocess.run(words_, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def versions(home: Path) -> list[str]:
    bars, tables = ParquetLake(home / "lake"), ParquetTables(home / "lake")
    funding = [tables.version("funding", market=market) for market in tables.markets("funding")]
    assert len(funding) == N_SETS
    return [*funding, bars.version(market="venue.perp", interval="5m")]


def lake_bytes(home: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a lake. bars.columns are copies that name the inode they were made from."""
    files = [path for path in (home / "lake").rglob("*") if path.is_file() and path.name != "bars.columns"]
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict], str]:
    """One collection from beginning to end: its home, its lines, its table."""
    home = tmp_path_factory.mktemp("whole")
    code, lines, table = collect(home, data)
    assert code == 0
    return home, lines, table


def test_lines_tell_the_progress_and_the_end_and_the_report_holds_the_same(whole: tuple[Path, list[dict], str]) -> None:
    home, lines, table = whole
    report = json.loads((home / "reports" / "ingest" / "collect.all.json").read_text())

    assert [line["event"] for line in lines] == ["collect.progress"] * (2 * N_SETS) + ["collect.finished"]
    assert lines[-2]["done_frac"] == 1.0 and lines[-1]["new"] == N_SETS * (2 * N_BARS + N_FUNDING)
    assert report["totals"]["new"] == lines[-1]["new"] and report["failures"] == []
    assert {gap["code"].partition(":")[0] for gap in report["gaps"]} == {
        "no_source"
    }  # of kinds that no file here gives
    assert "venue0.perp" in table and "venue.perp.5m" in table


def test_state_of_a_living_line_is_known_when_it_was_collected(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QRAFT_STATE_MARKET", "venue0.perp")
    since = T0 + timedelta(hours=10)
    LakeRecord(tmp_path / "lake").set_live(since)
    started_at = datetime.now(UTC)

    assert collect(tmp_path, data, "--kind", "funding")[0] == 0

    tables = ParquetTables(tmp_path / "lake")
    rows = {
        market: tables.read(
            "funding", market=market, symbols=None, start=T0 - timedelta(days=1), end=T0 + timedelta(days=90),
            as_of=datetime(2200, 1, 1, tzinfo=UTC),
        ).to_pylist()
        for market in ("venue0.perp", "venue1.perp")
    }  # fmt: skip
    assert len(rows["venue0.perp"]) == len(rows["venue1.perp"]) == N_FUNDING
    assert all((row["known_at"] >= started_at) is (row["event_at"] > since) for row in rows["venue0.perp"])
    assert all(row["known_at"] == row["event_at"] for row in rows["venue1.perp"])


def test_killed_in_the_middle_and_run_again_it_leaves_the_bytes_of_one_whole_run(
    data: Path, whole: tuple[Path, list[dict], str], tmp_path: Path
) -> None:
    words, env = command(tmp_path, data)
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline())["dataset"] for _ in range(3)]
        process.kill()  # SIGKILL, while the next data set is on its way in
    code, lines, _ = collect(tmp_path, data)
    again = collect(tmp_path, data)[1][-1]

    assert told == ["funding_0", "bars_0", "funding_1"] and code == 0
    assert 0 < lines[-1]["new"] < whole[1][-1]["new"]
    assert lines[-1]["new"] + lines[-1]["repeated"] == whole[1][-1]["new"]
    assert (again["new"], again["quarantined"]) == (0, 0)
    assert versions(tmp_path) == versions(whole[0])
    assert lake_bytes(tmp_path) == lake_bytes(whole[0])


def test_broken_data_set_ends_with_code_2_and_a_name_and_the_others_are_in(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    write_data(broken)
    (broken / "f1.parquet").write_bytes(b"PAR1")

    code, lines, table = collect(tmp_path / "home", broken, "--kind", "funding")

    assert code == 2 and lines[-1]["n_failures"] == 1 and lines[-1]["new"] == (N_SETS - 1) * N_FUNDING
    assert [line["failed"] for line in lines[:-1]] == [None, "unreadable_file", None, None]
    assert "FAILED   funding_1: unreadable_file" in table


def test_unknown_data_set_and_a_lake_in_use_say_so(data: Path, tmp_path: Path) -> None:
    code, lines, said = collect(tmp_path, data, "--dataset", "nothing")
    assert code == 2 and lines == [] and "unknown_dataset" in said

    lake, value = ParquetLake(tmp_path / "lake"), np.array([100.0])
    batch = BarBatch("venue.perp", "5m", T0, T0, 0, Origin.REPLAY, ("BTCUSDT",), *[value] * 5)
    lake.append([batch])  # whoever has written a series holds it until it is closed
    try:
        code, lines, said = collect(tmp_path, data, "--kind", "bars")
    finally:
        lake.close()
    assert code == 1 and lines[-1]["n_failures"] == 1 and "lake_locked" in said


def exchange(home: Path, url: str, *kinds: str) -> tuple[int, dict, str]:
    words = [sys.executable, "-m", "svc_ingest", "collect", "--source", "exchange"]
    env = os.environ | {
        "QRAFT_HOME": str(home), "QRAFT_INGEST_EXCHANGE_URL": url, "QRAFT_INGEST_SYMBOLS": "BTCUSDT",
        "QRAFT_INGEST_HISTORY_DAYS": "3",
    }  # fmt: skip
    arguments = [word for kind in kinds for word in ("--kind", kind)]
    done = subprocess.run([*words, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_exchange_is_collected_and_its_ban_keeps_later_runs_away(tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000) // 3_600_000 * 3_600_000
    funding = [
        {"symbol": "BTCUSDT", "fundingTime": now_ms - i * 28_800_000, "fundingRate": "0.0001", "markPrice": "1"}
        for i in range(20)
    ][::-1]
    futures = Futures({"/fapi/v1/fundingRate": funding}, now_ms)
    with serve_binance(Venue(now_ms, {"BTCUSDT": [100.0]}, futures=futures)) as venue:
        code, end, table = exchange(tmp_path, venue.url, "funding", "book_snapshot")
        # Three days of settlements and one book of each contract.
        assert (code, end["n_failures"]) == (0, 0) and end["new"] == 9 + 2
        assert "binance.perp" in table and "book_snapshot" in table

        # The list of markets of spot and of futures, then the ban.
        ban = (418, {"Retry-After": "3600"}, {"code": -1003, "msg": "banned"})
        venue.answers = [(200, {}, {"symbols": []}), ban]
        code, end, table = exchange(tmp_path, venue.url, "funding")
        assert code == 1 and "exchange_banned" in table
        n_asked = len(venue.requests)
        code, end, table = exchange(tmp_path, venue.url, "funding")
        assert code == 1 and "exchange_banned" in table and len(venue.requests) == n_asked
