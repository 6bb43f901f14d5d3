"""Hot and cold tables: old partitions move to a second root, and nobody who reads can tell."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tests.libs.store.tables.tables_kit import DAY, HOUR, MARKET, T0, row, series, table

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_store.tables.lake import ParquetTables
from qraft_store.tiers import LAKE_ID

PLACE = Path("tables/trades") / MARKET
ROWS = series("trades", 240, step=HOUR)  # ten days
END = T0 + 10 * DAY


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ParquetTables]:
    lake = opened(tmp_path)
    lake.append("trades", market=MARKET, rows=ROWS)
    yield lake
    lake.close()


def opened(root: Path) -> ParquetTables:
    return ParquetTables(root / "hot", cold_root=root / "cold")


def rows(store: ParquetTables) -> pa.Table:
    return store.read("trades", market=MARKET, symbols=None, start=T0 - DAY, end=END + DAY, revisions="all")


def days(root: Path) -> list[str]:
    return sorted(path.parent.name[-2:] for path in (root / PLACE).glob("*=*/*.parquet"))


def test_old_days_move_and_everything_reads_as_before(lake: ParquetTables, tmp_path: Path) -> None:
    reader, version = opened(tmp_path), lake.version("trades", market=MARKET)
    assert rows(reader).equals(ROWS)
    size = sum(path.stat().st_size for path in (tmp_path / "hot" / PLACE).glob("*-0[123]/*.parquet"))

    assert lake.tier("trades", market=MARKET, before=T0 + 3 * DAY + HOUR) == size
    assert lake.tier("trades", market=MARKET, before=T0 + 3 * DAY + HOUR) == 0

    assert days(tmp_path / "cold") == ["01", "02", "03"] and len(days(tmp_path / "hot")) == 7
    assert not (tmp_path / "hot" / PLACE / "date=2025-06-01").exists()
    for store in (lake, reader, opened(tmp_path)):
        assert rows(store).equals(ROWS)
        assert store.version("trades", market=MARKET) == version
        assert store.range("trades", market=MARKET) == (T0, T0 + 239 * HOUR)
        assert store.last("trades", market=MARKET, symbols=None, n=200, as_of=END).equals(ROWS.slice(40))


def test_rows_that_come_to_a_cold_day_are_judged_and_stored(lake: ParquetTables, tmp_path: Path) -> None:
    lake.tier("trades", market=MARKET, before=T0 + 9 * DAY)
    late = table("trades", [row("trades", event_at=T0 + HOUR / 2, row_id="late")])

    assert lake.append("trades", market=MARKET, rows=pa.concat_tables([ROWS.slice(0, 5), late])).n_new == 1
    assert lake.append("trades", market=MARKET, rows=late).n_repeated == 1

    assert rows(opened(tmp_path)).num_rows == 241
    assert "01" not in days(tmp_path / "cold")  # the day is one file again, and it is hot
    assert lake.tier("trades", market=MARKET, before=T0 + 9 * DAY) > 0
    assert days(tmp_path / "hot") == ["10"] and rows(opened(tmp_path)).num_rows == 241


CHILD = """
import sys
from datetime import timedelta
from pathlib import Path
import qraft_store.tables.writer as writer
from qraft_store.files import copy_whole
from qraft_store.tables.lake import ParquetTables
from tests.libs.store.tables.tables_kit import DAY, MARKET, T0

def say(hot, cold):
    size = copy_whole(hot, cold)
    print("copied", flush=True)
    input()
    return size

writer.copy_whole = say  # so that the parent can kill it between the copy and the deletion
ParquetTables(Path(sys.argv[1]), cold_root=Path(sys.argv[2])).tier("trades", market=MARKET, before=T0 + 9 * DAY)
"""


def test_move_killed_between_copy_and_deletion_counts_each_row_once(tmp_path: Path) -> None:
    with_rows = opened(tmp_path)
    with_rows.append("trades", market=MARKET, rows=ROWS)
    with_rows.close()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "hot"), str(tmp_path / "cold")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    for _ in range(2):
        assert process.stdout.readline() == "copied\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "copied\n"
    process.kill()
    process.wait()

    assert set(days(tmp_path / "hot")) & set(days(tmp_path / "cold"))
    assert rows(opened(tmp_path)).equals(ROWS)
    lake = opened(tmp_path)
    assert lake.verify().damages == [] and lake.verify().n_rows == 240
    lake.tier("trades", market=MARKET, before=T0 + 9 * DAY)
    assert not set(days(tmp_path / "hot")) & set(days(tmp_path / "cold"))
    assert rows(lake).equals(ROWS)
    lake.close()


def test_reader_beside_the_move_sees_every_row_once(lake: ParquetTables, tmp_path: Path) -> None:
    reader, is_done, wrong = opened(tmp_path), threading.Event(), []

    def read() -> None:
        while not is_done.is_set():
            if not rows(reader).equals(ROWS):
                wrong.append(1)

    thread = threading.Thread(target=read)
    thread.start()
    for day in range(1, 10):
        lake.tier("trades", market=MARKET, before=T0 + day * DAY)
    is_done.set()
    thread.join()

    assert not wrong and len(days(tmp_path / "cold")) == 9


def test_lake_without_its_cold_root_refuses_to_work_on_the_rest(lake: ParquetTables, tmp_path: Path) -> None:
    lake.tier("trades", market=MARKET, before=END)
    lake.close()
    with pytest.raises(ValueError, match="cold root"):
        ParquetTables(tmp_path / "hot").tier("trades", market=MARKET, before=END)
    (tmp_path / "cold").rename(tmp_path / "unmounted")

    for store in (ParquetTables(tmp_path / "hot"), opened(tmp_path)):
        for use in (
            lambda store=store: rows(store),
            lambda store=store: store.markets("trades"),
            lambda store=store: store.append("trades", market=MARKET, rows=ROWS),
            lambda store=store: store.verify(),
        ):
            with pytest.raises(Transient, match="QRAFT_LAKE_COLD"):
                use()


def test_cold_rows_are_not_swept_away_when_the_manifest_is_lost(lake: ParquetTables, tmp_path: Path) -> None:
    lake.tier("trades", market=MARKET, before=END + 2 * DAY)
    lake.close()
    shutil.rmtree(tmp_path / "hot")
    with pytest.raises(Refused, match=r"copy .*\.lake_id"):
        opened(tmp_path).append("trades", market=MARKET, rows=ROWS)
    (tmp_path / "hot").mkdir()
    shutil.copy(tmp_path / "cold" / LAKE_ID, tmp_path / "hot" / LAKE_ID)

    with pytest.raises(Malformed, match=r"manifest\.json beside 10 files"):
        opened(tmp_path).append("trades", market=MARKET, rows=ROWS)
    assert len(days(tmp_path / "cold")) == 10


def test_full_cold_root_leaves_the_days_where_they_are(lake: ParquetTables, tmp_path: Path) -> None:
    (name,) = [path.name for path in (tmp_path / "hot" / PLACE / "date=2025-06-01").iterdir()]
    (tmp_path / "cold" / PLACE / "date=2025-06-01" / f".{name}.tmp").mkdir(parents=True)

    with pytest.raises(Transient, match="could not move"):
        lake.tier("trades", market=MARKET, before=END)

    assert len(days(tmp_path / "hot")) == 10 and rows(lake).equals(ROWS)
