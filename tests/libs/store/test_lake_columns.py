"""Column files and the hot window: derived, checked at every read, never a second truth."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.libs.store.bars_kit import DAY, SERIES, STEP, T0, assert_same, bar, bars

from qraft_contracts.outcomes import Malformed
from qraft_store.bars import days, hot
from qraft_store.bars.columns import COLUMNS, VERSION, read_cells, read_header
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.slab import N_FIELDS

NAME = {"market": "crypto", "interval": "5m"}
CLOSED = SERIES / "date=2025-06-01"
GROWING = SERIES / "date=2025-06-02"
N_BARS = 300


@pytest.fixture
def lake(tmp_path: Path):
    lake = ParquetLake(tmp_path)
    lake.append(bars(N_BARS))
    yield lake
    lake.close()


@pytest.fixture
def expected() -> BarPanel:
    twin = MemoryBarStore()
    twin.append(bars(N_BARS))
    return read(twin)


def read(store, *, symbols: list[str] | None = None, revisions: BarRevisions = "first") -> BarPanel:
    panel = store.read(**NAME, symbols=symbols, start=T0 - STEP, end=T0 + 4 * DAY, revisions=revisions)
    assert panel is not None
    return panel


def spoil_pages(parquet: Path) -> None:
    """Damage the data of a Parquet file behind the back of its size and time: who reads it, fails."""
    before, data = parquet.stat(), bytearray(parquet.read_bytes())
    data[4:400] = bytes(396)
    with parquet.open("rb+") as file:
        file.write(data)
    os.utime(parquet, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_closed_partition_is_read_from_its_column_file(lake: ParquetLake, tmp_path: Path, expected: BarPanel) -> None:
    spoil_pages(tmp_path / CLOSED / PARQUET)

    assert_same(read(ParquetLake(tmp_path)), expected)
    assert_same(read(ParquetLake(tmp_path), revisions="latest"), expected)
    (tmp_path / CLOSED / COLUMNS).unlink()
    with pytest.raises(Malformed, match=r"bars\.parquet"):
        read(ParquetLake(tmp_path))


def test_column_file_of_another_version_is_not_read(lake: ParquetLake, tmp_path: Path) -> None:
    path = tmp_path / CLOSED / COLUMNS
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + (VERSION + 1).to_bytes(4, "little") + whole[12:])
    spoil_pages(tmp_path / CLOSED / PARQUET)

    with pytest.raises(Malformed, match=r"bars\.parquet"):
        read(ParquetLake(tmp_path))


def test_column_file_that_is_replaced_in_the_middle_of_a_read_is_not_mixed(lake: ParquetLake, tmp_path: Path) -> None:
    path = tmp_path / CLOSED / COLUMNS
    header = read_header(path)
    assert header is not None
    cells = np.empty((2, N_FIELDS, header.n_rows))
    assert read_cells(path, header, None, cells)

    lake.append([bar(T0 + 5 * STEP, ("AAA",), base=7.0, revision=1)])  # its symbols stand elsewhere now

    assert not read_cells(path, header, None, cells)
    assert not read_cells(tmp_path / "gone", header, None, cells)


@pytest.mark.parametrize("keeps_reader", [True, False])
def test_no_damage_of_a_column_file_changes_what_is_read(
    lake: ParquetLake, tmp_path: Path, expected: BarPanel, keeps_reader: bool
) -> None:
    path = tmp_path / CLOSED / COLUMNS
    whole = path.read_bytes()
    damaged = [whole[:size] for size in (0, 7, 30, 100, 200, len(whole) - 1)]
    damaged += [whole + b"\0", b"\0" * len(whole), whole[:8] + (VERSION + 1).to_bytes(4, "little") + whole[12:]]
    for at in (0, 9, 13, 17, 21, 40, 150, 300, len(whole) // 2, len(whole) - 1):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    reader = ParquetLake(tmp_path)
    for data in damaged:
        path.write_bytes(data)
        reader = reader if keeps_reader else ParquetLake(tmp_path)

        assert_same(read(reader), expected)
        assert_same(read(reader, symbols=["ETHUSDT"]), read_one(expected, 1))
        assert reader.symbols(**NAME) == expected.symbols
        assert reader.range(**NAME) == lake.range(**NAME)


def read_one(panel: BarPanel, column: int) -> BarPanel:
    """Return one symbol of a panel."""
    values = (getattr(panel, name)[:, [column]] for name in ("open", "high", "low", "close", "volume"))
    return BarPanel("crypto", "5m", panel.origin, (panel.symbols[column],), panel.closed_at, *values)


def test_damaged_column_file_is_made_anew_and_whole_ones_are_left(lake: ParquetLake, tmp_path: Path) -> None:
    path = tmp_path / CLOSED / COLUMNS
    whole = path.read_bytes()
    assert lake.make_columns(**NAME) == 0

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    assert lake.make_columns(**NAME) == 1
    assert path.read_bytes() == whole


def test_missing_column_file_is_made_when_the_writer_opens(lake: ParquetLake, tmp_path: Path) -> None:
    whole = (tmp_path / CLOSED / COLUMNS).read_bytes()
    (tmp_path / CLOSED / COLUMNS).unlink()
    lake.close()

    lake.append([bar(T0 + N_BARS * STEP)])

    assert (tmp_path / CLOSED / COLUMNS).read_bytes() == whole


def test_damaged_day_does_not_keep_the_writer_from_new_bars(lake: ParquetLake, tmp_path: Path) -> None:
    lake.close()
    (tmp_path / CLOSED / COLUMNS).unlink()
    spoil_pages(tmp_path / CLOSED / PARQUET)

    assert lake.append([bar(T0 + N_BARS * STEP)]) == 2

    with pytest.raises(Malformed, match=r"bars\.parquet"):
        lake.make_columns(**NAME)


def test_column_file_of_other_rows_is_not_believed(lake: ParquetLake, tmp_path: Path, expected: BarPanel) -> None:
    reader = ParquetLake(tmp_path)
    assert_same(read(reader), expected)
    stale = (tmp_path / CLOSED / COLUMNS).read_bytes()
    revision = bar(T0 + 5 * STEP, base=7.0, revision=1)
    late = bar(T0 + 6 * STEP, ("SOLUSDT",), base=8.0, revision=1)
    lake.append([revision, late])

    for is_stale in (False, True):
        if is_stale:
            (tmp_path / CLOSED / COLUMNS).write_bytes(stale)
        for store in (reader, ParquetLake(tmp_path)):
            assert_same(read(store), expected)
            latest = read(store, revisions="latest")
            assert latest.close[5, :2].tolist() == [7.0, 8.0]
            assert latest.symbols == ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def test_copied_lake_is_read_from_its_column_files(lake: ParquetLake, tmp_path: Path, expected: BarPanel) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "bars", other / "bars")
    spoil_pages(other / CLOSED / PARQUET)
    os.utime(other / CLOSED / PARQUET)

    assert_same(read(ParquetLake(other)), expected)
    assert ParquetLake(other).version(**NAME) == lake.version(**NAME)


def test_parquet_file_of_an_older_writer_is_read_named_and_given_columns(lake: ParquetLake, tmp_path: Path) -> None:
    version, path = lake.version(**NAME), tmp_path / CLOSED / PARQUET
    lake.close()
    (tmp_path / CLOSED / COLUMNS).unlink()
    pq.write_table(pq.read_table(path, partitioning=None).replace_schema_metadata(None), path)

    assert ParquetLake(tmp_path).version(**NAME) == version
    lake.append([bar(T0 + N_BARS * STEP)])
    assert (tmp_path / CLOSED / COLUMNS).exists()


def test_partition_of_few_bars_has_no_column_file(tmp_path: Path) -> None:
    lake = ParquetLake(tmp_path)
    lake.append([bar(T0), bar(T0 + DAY), bar(T0 + 2 * DAY)])

    assert not list(tmp_path.rglob(COLUMNS))
    assert lake.range(**NAME) == (T0, T0 + 2 * DAY)
    assert int((~np.isnan(read(lake).close)).sum()) == 6
    lake.close()


def test_column_file_that_cannot_be_written_costs_no_bar(tmp_path: Path, expected: BarPanel) -> None:
    (tmp_path / CLOSED / COLUMNS / "in the way").mkdir(parents=True)
    lake = ParquetLake(tmp_path)

    assert lake.append(bars(N_BARS)) == 2 * N_BARS

    assert_same(read(lake), expected)
    lake.close()


def test_flipped_bits_of_a_parquet_file_are_named_or_harmless(lake: ParquetLake, tmp_path: Path, expected) -> None:
    path = tmp_path / CLOSED / PARQUET
    (tmp_path / CLOSED / COLUMNS).unlink()
    whole, n_named = path.read_bytes(), 0
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
        try:
            panel = read(ParquetLake(tmp_path))
        except Malformed:
            n_named += 1
        else:
            assert_same(panel, expected)
    assert n_named > len(whole) // 97 // 2


def test_reader_follows_the_tail_and_the_roll_of_the_day(tmp_path: Path) -> None:
    writer, reader = ParquetLake(tmp_path), ParquetLake(tmp_path)
    for i, batch in enumerate(bars(600)):
        writer.append([batch])
        if i % 7 == 0 or i in (286, 287, 288):
            panel = reader.last(**NAME, symbols=["ETHUSDT"], n=3, as_of=batch.closed_at)
            assert panel is not None
            assert panel.close[-min(i + 1, 3) :, 0].tolist() == [101.0 + k for k in range(max(0, i - 2), i + 1)]
    writer.close()


def test_tail_that_was_replaced_is_read_anew(lake: ParquetLake, tmp_path: Path) -> None:
    reader, tail = ParquetLake(tmp_path), tmp_path / GROWING / TAIL
    assert read(reader).close[N_BARS - 1, 0] == 100.0 + N_BARS - 1
    other = ParquetLake(tmp_path / "other")
    other.append([bar(T0 + i * STEP, base=500.0 + i) for i in range(N_BARS + 40)])
    other.close()

    for data in ((tmp_path / "other" / GROWING / TAIL).read_bytes(), tail.read_bytes()[:-8]):
        tail.write_bytes(data)  # the same inode, longer; then shorter

        assert_same(read(reader), read(ParquetLake(tmp_path)))
    tail.unlink()
    assert np.isnan(read(reader).close[287:]).all()


def test_window_that_would_be_too_large_is_read_from_disk(
    lake: ParquetLake, tmp_path: Path, expected: BarPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append([bar(T0 + (N_BARS - 1) * STEP, base=7.0, revision=1)])
    whole = ParquetLake(tmp_path)
    latest = read(whole, revisions="latest")
    monkeypatch.setattr(hot, "HOT_BYTES_MAX", 100)

    reader = ParquetLake(tmp_path)
    for _ in range(2):
        assert_same(read(reader), expected)
        assert_same(read(reader, revisions="latest"), latest)
    asked = {**NAME, "symbols": None, "n": 4, "as_of": T0 + DAY + 20 * STEP}
    assert_same(reader.last(**asked), whole.last(**asked))
    assert reader.range(**NAME) == whole.range(**NAME)


def test_foreign_tail_is_named(lake: ParquetLake, tmp_path: Path) -> None:
    other = ParquetLake(tmp_path / "other")
    other.append(bars(20))
    (tmp_path / GROWING / TAIL).write_bytes((tmp_path / "other" / CLOSED / TAIL).read_bytes())
    late = ParquetLake(tmp_path / "late")
    late.append([bar(T0 + 4 * DAY)])
    (tmp_path / CLOSED / TAIL).write_bytes((tmp_path / "late" / SERIES / "date=2025-06-05" / TAIL).read_bytes())

    for folder in (GROWING, CLOSED):
        with pytest.raises(Malformed, match="belong elsewhere"):
            ParquetLake(tmp_path).read(**NAME, symbols=None, start=T0, end=T0 + (DAY if folder == GROWING else STEP))


def test_folder_of_another_kind_of_partition_is_named(lake: ParquetLake, tmp_path: Path) -> None:
    (tmp_path / SERIES / "month=2025-06").mkdir()

    with pytest.raises(Malformed, match="month=2025-06"):
        ParquetLake(tmp_path).range(**NAME)


def test_threads_of_one_reader_beside_the_writer_see_whole_bars_only(tmp_path: Path) -> None:
    writer, reader, faults = ParquetLake(tmp_path), ParquetLake(tmp_path), []
    batches = bars(900, symbols=("A", "B", "C"))
    writer.append(batches[:200])
    is_done = threading.Event()

    def follow() -> None:
        n_seen = 0
        while not is_done.is_set():
            panel = reader.read(**NAME, symbols=None, start=T0 - STEP, end=T0 + 4 * DAY)
            assert panel is not None
            closes = panel.close[~np.isnan(panel.close).all(axis=1)]
            if len(closes) < n_seen or not np.array_equal(
                closes, 100 + np.add.outer(np.arange(len(closes)), [0, 1, 2])
            ):
                faults.append(closes)
            n_seen = len(closes)

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for batch in batches[200:]:
        writer.append([batch])
    is_done.set()
    for thread in threads:
        thread.join()
    writer.close()

    assert not faults
    assert read(reader).close.shape[1] == 3


def test_week_of_one_symbol_out_of_many_is_the_twins(tmp_path: Path) -> None:
    symbols = tuple(f"S{i:02d}" for i in range(12))
    lake, twin = ParquetLake(tmp_path), MemoryBarStore()
    batches = [b for i, b in enumerate(bars(2_400, symbols=symbols)) if i % 500 not in range(30)]  # with gaps
    lake.append(batches[:2_100])
    for batch in batches[2_100:]:
        lake.append([batch])
    twin.append(batches)
    for names in (["S07"], ["S11", "S00", "nobody"], None, list(symbols)):
        for start, end in ((T0, T0 + 7 * DAY), (T0 + 3 * STEP, T0 + DAY - STEP), (T0 - DAY, T0 + timedelta(days=200))):
            asked = {**NAME, "symbols": names, "start": start, "end": end}
            assert_same(lake.read(**asked), twin.read(**asked))
    lake.close()


def test_row_groups_outside_the_range_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "ROW_GROUP_ROWS", 100)
    lake, twin = ParquetLake(tmp_path), MemoryBarStore()
    for store in (lake, twin):
        store.append(bars(N_BARS))
    (tmp_path / CLOSED / COLUMNS).unlink()
    spoil_pages(tmp_path / CLOSED / PARQUET)  # the first row group: 50 bars of two symbols

    asked = {**NAME, "symbols": ["ETHUSDT"], "end": T0 + 200 * STEP}
    assert_same(lake.read(**asked, start=T0 + 50 * STEP), twin.read(**asked, start=T0 + 50 * STEP))
    with pytest.raises(Malformed):
        lake.read(**asked, start=T0 + 40 * STEP)
    lake.close()
