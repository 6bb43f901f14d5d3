"""What only the lake on disk can do: layout, damage, kills, readers beside the writer, one writer."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.libs.store.tables.tables_kit import DAY, HOUR, MARKET, T0, row, series, table

from qraft_contracts.outcomes import Malformed, Transient
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.manifest import MANIFEST, load_manifest

TRADES = Path("tables/trades") / MARKET
SECOND = timedelta(seconds=1)


@pytest.fixture
def lake(tmp_path: Path):
    lake = ParquetTables(tmp_path)
    yield lake
    lake.close()


def files(root: Path, suffix: str = ".parquet") -> list[Path]:
    return sorted(path for path in root.rglob(f"*{suffix}") if path.is_file())


def ids(root: Path) -> list[int]:
    """Return the row ids that a fresh reader sees."""
    rows = ParquetTables(root).read("trades", market=MARKET, symbols=None, start=T0 - DAY, end=T0 + 400 * DAY)
    return [int(row_id) for row_id in rows["row_id"].to_pylist()]


@pytest.mark.parametrize(
    ("kind", "folders"),
    [
        ("trades", ["date=2025-06-01", "date=2025-06-30", "date=2025-07-01"]),
        ("taker_volume", ["date=2025-06-01", "date=2025-06-30", "date=2025-07-01"]),
        ("funding", ["month=2025-06", "month=2025-07"]),
        ("news", ["month=2025-06", "month=2025-07"]),
        ("macro", ["year=2025"]),
        ("corporate_actions", ["year=2025"]),
    ],
)
def test_partitions_are_as_long_as_the_cadence_asks(
    lake: ParquetTables, tmp_path: Path, kind: str, folders: list[str]
) -> None:
    rows = [row(kind, event_at=at) for at in (T0, T0 + 30 * DAY - timedelta.resolution, T0 + 30 * DAY)]
    lake.append(kind, market=MARKET, rows=table(kind, rows))

    assert [path.parent.name for path in files(tmp_path)] == folders


def test_files_are_sorted_zstd_parquet_in_row_groups_with_bounds(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 70_000, step=SECOND))
    (path,) = files(tmp_path)
    with pq.ParquetFile(path) as file:
        metadata, rows = file.metadata, file.read()

    event = rows["event_at"].cast(pa.int64()).to_pylist()
    assert event == sorted(event)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [65_536, 4_464]
    bounds = [metadata.row_group(i).column(1).statistics for i in range(2)]
    assert bounds[0].min == T0 and bounds[1].max == T0 + 69_999 * SECOND
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {"ZSTD"}


def test_wide_rows_have_smaller_row_groups(lake: ParquetTables, tmp_path: Path) -> None:
    levels = [float(i) for i in range(1, 1_001)]
    book = dict.fromkeys(("bid_px", "bid_qty", "ask_px", "ask_qty"), levels)
    rows = [row("book_snapshot", event_at=T0 + i * SECOND, row_id=str(i), **book) for i in range(400)]
    lake.append("book_snapshot", market=MARKET, rows=table("book_snapshot", rows))

    assert pq.ParquetFile(files(tmp_path)[0]).metadata.row_group(0).num_rows < 300


def test_many_small_appends_leave_few_files(lake: ParquetTables, tmp_path: Path) -> None:
    rows = series("trades", 40_000, step=SECOND)
    for i in range(0, 40_000, 500):
        lake.append("trades", market=MARKET, rows=rows.slice(i, 500))
        assert len(files(tmp_path)) <= 4

    assert ids(tmp_path) == list(range(40_000))
    lake.close()
    assert len(files(tmp_path)) == 1
    assert ids(tmp_path) == list(range(40_000))


def test_files_that_overlap_in_time_are_read_as_one(lake: ParquetTables, tmp_path: Path) -> None:
    rows = series("trades", 20_000, step=SECOND)
    between = series("trades", 4_000, step=5 * SECOND, start=T0 + SECOND / 2, symbol="ETHUSDT")
    again = [
        row("trades", event_at=T0 + i * SECOND, row_id=str(i), revision=1, price=7.0, known_at=T0 + DAY)
        for i in range(0, 20_000, 100)
    ]
    whole = pa.concat_tables([rows, between, table("trades", again)])
    for part in (rows, pa.concat_tables([between, table("trades", again)])):
        lake.append("trades", market=MARKET, rows=part)
    one = ParquetTables(tmp_path / "one")
    one.append("trades", market=MARKET, rows=whole)

    assert len(files(tmp_path / "tables")) == 2
    for as_of in (T0 + DAY - SECOND, T0 + DAY):
        query = {"market": MARKET, "symbols": None, "as_of": as_of}
        span = {"start": T0 + HOUR, "end": T0 + 2 * HOUR}
        for kept in ("latest", "first", "all"):
            found = lake.read("trades", **query, **span, revisions=kept)
            assert found.num_rows >= 3_600 and found.equals(one.read("trades", **query, **span, revisions=kept))
        assert lake.last("trades", **query, n=3).equals(one.last("trades", **query, n=3))
    assert lake.version("trades", market=MARKET) == one.version("trades", market=MARKET)
    one.close()


def test_day_that_has_rolled_is_one_file(lake: ParquetTables, tmp_path: Path) -> None:
    rows = series("trades", 60_000, step=SECOND)
    for start, stop in ((0, 30_000), (30_000, 39_000)):
        lake.append("trades", market=MARKET, rows=rows.slice(start, stop - start))
    assert len(files(tmp_path)) == 2

    lake.append("trades", market=MARKET, rows=series("trades", 1, start=T0 + DAY))

    assert [path.parent.name for path in files(tmp_path)] == ["date=2025-06-01", "date=2025-06-02"]


def test_only_the_files_of_the_range_and_symbol_are_opened(lake: ParquetTables, tmp_path: Path) -> None:
    for day, symbol in enumerate(("A", "A", "B", "A")):
        lake.append("trades", market=MARKET, rows=series("trades", 5, symbol=symbol, start=T0 + day * DAY))
    paths = files(tmp_path)
    for opened, query in (
        ([1], {"start": T0 + DAY - HOUR, "end": T0 + 2 * DAY - HOUR}),
        ([2], {"symbols": ["B"], "start": T0 - DAY, "end": T0 + 9 * DAY}),
        ([], {"symbols": ["C"], "start": T0 - DAY, "end": T0 + 9 * DAY}),
        ([0], {"start": T0 - DAY, "end": T0 + 9 * DAY, "as_of": T0 + DAY - HOUR}),
    ):
        for i, path in enumerate(paths):
            path.rename(path.with_suffix(".away")) if i not in opened else None
        found = lake.read("trades", market=MARKET, **({"symbols": None} | query))
        assert found.num_rows == 5 * len(opened)
        for i, path in enumerate(paths):
            path.with_suffix(".away").rename(path) if i not in opened else None


def test_last_reads_the_end_of_a_file_only(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 70_000, step=SECOND))
    (path,) = files(tmp_path)
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 1_000] = bytes(1_000)  # the first row group is not readable any more
    path.write_bytes(data)

    newest = lake.last("trades", market=MARKET, symbols=None, n=100, as_of=T0 + DAY)

    assert [int(row_id) for row_id in newest["row_id"].to_pylist()] == list(range(69_900, 70_000))
    with pytest.raises(Malformed, match="damaged_lake_file"):
        lake.last("trades", market=MARKET, symbols=None, n=5_000, as_of=T0 + DAY)


def test_revisions_across_a_row_group_boundary_are_one_row(lake: ParquetTables) -> None:
    step = timedelta(milliseconds=1)
    rows = series("trades", 65_535, step=step)
    edge = T0 + 65_535 * step
    revised = [
        row("trades", event_at=edge, row_id="edge", revision=i, price=1.0 + i, known_at=edge + i * HOUR)
        for i in range(3)
    ]
    lake.append("trades", market=MARKET, rows=pa.concat_tables([rows, table("trades", revised)]))

    for hours in range(3):
        newest = lake.last("trades", market=MARKET, symbols=None, n=1, as_of=edge + hours * HOUR)
        assert newest.select(["row_id", "price"]).to_pylist() == [{"row_id": "edge", "price": 1.0 + hours}]


@pytest.mark.parametrize("damage", ["cut", "longer", "garbled", "gone", "swapped"])
def test_damaged_file_is_named_with_what_to_do(lake: ParquetTables, tmp_path: Path, damage: str) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 100))
    path, *others = files(tmp_path)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "swapped":
        path.write_bytes(others[0].read_bytes())
    else:
        middle = len(data) // 3
        garbled = data[:middle] + bytes(64) + data[middle + 64 :]
        path.write_bytes({"cut": data[:-20], "longer": data + b"x", "garbled": garbled}[damage])

    with pytest.raises(Malformed, match=r"damaged_lake_file.*again") as found:
        ids(tmp_path)
    assert (path.name if damage != "gone" else MANIFEST) in str(found.value)


def test_damaged_manifest_is_named_and_nothing_is_deleted(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 100))
    lake.close()
    manifest, kept = tmp_path / TRADES / MANIFEST, files(tmp_path)
    whole = manifest.read_bytes()

    for data in (whole[:-5], b"", b"{}", whole.replace(b'"format":1', b'"format":2')):
        manifest.write_bytes(data)
        with pytest.raises(Malformed, match=MANIFEST):
            lake.append("trades", market=MARKET, rows=series("trades", 1))
        with pytest.raises(Malformed, match=MANIFEST):
            ids(tmp_path)
    manifest.unlink()
    with pytest.raises(Malformed, match=MANIFEST):
        lake.append("trades", market=MARKET, rows=series("trades", 1))
    assert files(tmp_path) == kept

    manifest.write_bytes(whole)
    assert lake.append("trades", market=MARKET, rows=series("trades", 1)).n_repeated == 1


def test_leftovers_of_a_killed_writer_are_not_read_and_cleaned_up(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 100))
    lake.close()
    (path, *_) = files(tmp_path)
    leftovers = [path.with_name("0" * 32 + ".parquet"), path.with_name(".x.parquet.tmp")]
    for leftover in leftovers:
        leftover.write_bytes(path.read_bytes())

    assert len(ids(tmp_path)) == 100
    lake.append("trades", market=MARKET, rows=series("trades", 1))

    assert not any(leftover.exists() for leftover in leftovers)
    assert len(ids(tmp_path)) == 100


@pytest.fixture
def no_room():
    """Let the process write files of at most 2 kB: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def test_full_disk_is_transient_and_leaves_the_table_as_it_was(lake: ParquetTables, tmp_path: Path, no_room) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 10))
    before = (lake.version("trades", market=MARKET), files(tmp_path))

    with no_room(), pytest.raises(Transient, match="lake_write_failed"):
        lake.append("trades", market=MARKET, rows=series("trades", 4_000))
    with pytest.raises(Transient, match="lake_write_failed"):
        (tmp_path / TRADES / "date=2025-06-02").write_bytes(b"where a folder is to be")
        lake.append("trades", market=MARKET, rows=series("trades", 40))

    assert ids(tmp_path) == list(range(10)) and files(tmp_path, ".tmp") == []
    assert lake.version("trades", market=MARKET) == before[0]
    (tmp_path / TRADES / "date=2025-06-02").unlink()
    assert lake.append("trades", market=MARKET, rows=series("trades", 40)).n_new == 30
    assert ids(tmp_path) == list(range(40))


def test_second_writer_of_a_table_is_turned_away_until_the_first_closes(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("trades", market=MARKET, rows=series("trades", 1))
    other = ParquetTables(tmp_path)
    with pytest.raises(Transient, match="another process writes"):
        other.append("trades", market=MARKET, rows=series("trades", 2))
    assert other.append("funding", market=MARKET, rows=series("funding", 2)).n_new == 2

    lake.close()

    assert other.append("trades", market=MARKET, rows=series("trades", 2)).n_new == 1
    other.close()


def test_threads_may_append_at_once(lake: ParquetTables, tmp_path: Path) -> None:
    rows = series("trades", 800, step=SECOND)
    threads = [
        threading.Thread(target=lambda i=i: lake.append("trades", market=MARKET, rows=rows.slice(i * 100, 100)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ids(tmp_path) == list(range(800))


def test_field_that_is_younger_than_a_file_is_empty_in_it(lake: ParquetTables, tmp_path: Path) -> None:
    lake.append("open_interest", market=MARKET, rows=series("open_interest", 3))
    (path,) = files(tmp_path)
    rows = pq.read_table(path, partitioning=None)
    manifest = tmp_path / "tables/open_interest" / MARKET / MANIFEST
    size = path.stat().st_size

    def rewrite(dropped: str) -> None:
        pq.write_table(rows.drop_columns([dropped]), path)
        now = manifest.read_text().replace(f'"n_bytes":{size}', f'"n_bytes":{path.stat().st_size}')
        (manifest.parent / "new").write_text(now)
        (manifest.parent / "new").replace(manifest)

    query = {"market": MARKET, "symbols": None, "start": T0 - DAY, "end": T0 + DAY}
    rewrite("open_interest")
    assert lake.read("open_interest", **query)["open_interest"].to_pylist() == [None] * 3
    size = path.stat().st_size
    rewrite("open_interest_usd")
    with pytest.raises(Malformed, match="open_interest_usd is missing"):
        lake.read("open_interest", **query)


def test_manifest_says_what_the_files_hold(lake: ParquetTables, tmp_path: Path) -> None:
    rows = [row("trades", symbol=symbol, row_id=symbol, known_at=T0 + HOUR) for symbol in ("B", "A")]
    lake.append("trades", market=MARKET, rows=table("trades", rows))
    lake.append("trades", market=MARKET, rows=series("trades", 1, symbol="C", start=T0 + DAY))

    manifest = load_manifest(tmp_path / TRADES)

    assert manifest is not None
    (first,), (second,) = manifest.partitions["date=2025-06-01"], manifest.partitions["date=2025-06-02"]
    assert (first.n_rows, first.symbols, second.symbols) == (2, "3", "4")
    assert manifest.symbols == ["A", "B", "C"]
    assert first.known_first - first.first == 3_600_000_000
    assert first.n_bytes == (tmp_path / TRADES / first.file).stat().st_size


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from qraft_store.tables.lake import ParquetTables
from tests.libs.store.tables.tables_kit import MARKET, T0, series

lake = ParquetTables(Path(sys.argv[1]))
rows = series("trades", 40_000, step=timedelta(seconds=5))
for i in range(0, 40_000, 50):
    if lake.append("trades", market=MARKET, rows=rows.slice(i, 50)).n_new:
        print(i, flush=True)
print("all stored", flush=True)
input()
"""


def test_killed_writer_loses_nothing_that_it_reported_and_readers_see_whole_calls(tmp_path: Path) -> None:
    reported: list[int] = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        until = time.monotonic() + 0.3
        n_reads = 0
        while time.monotonic() < until or n_reads < 3:
            seen = ids(tmp_path)
            assert seen == list(range(len(seen))) and len(seen) % 50 == 0
            n_reads += 1
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        reported += [int(line) for line in lines if line.endswith("\n") and line != "all stored\n"]
        process.wait()

    stored = ids(tmp_path)

    assert len(reported) == len(set(reported)) > 10
    assert set(reported) <= set(stored)
    lake = ParquetTables(tmp_path)
    assert lake.append("trades", market=MARKET, rows=series("trades", 50, step=5 * SECOND)).n_repeated == 50
    lake.close()
    assert ids(tmp_path) == stored
