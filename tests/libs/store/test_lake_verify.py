"""A check of every file names what is damaged, and tells it from what a killed process left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.libs.store.bars_kit import DAY, SERIES, STEP, T0, bar, bars
from tests.libs.store.tables.tables_kit import MARKET, series

from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.lake import ParquetLake
from qraft_store.checked import Checked
from qraft_store.tables.lake import ParquetTables

N_BARS = 700
TRADES = Path("tables/trades") / MARKET
BOOK = Path("tables/book_update") / MARKET


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lake")
    lake, tables = ParquetLake(root), ParquetTables(root)
    lake.append(bars(N_BARS))
    lake.append([bar(T0, ("OLD",), revision=1, known_at=T0 + STEP)])
    for kind in ("trades", "book_update", "macro"):
        tables.append(kind, market=MARKET, rows=series(kind, 50))
    lake.close()
    tables.close()
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(whole, tmp_path / "lake")
    yield tmp_path / "lake"


def verify(root: Path) -> Checked:
    checked = ParquetLake(root).verify()
    checked.add(ParquetTables(root).verify())
    return checked


def test_whole_lake_has_no_finding_and_every_row_is_counted(root: Path) -> None:
    checked = verify(root)

    assert checked.damages == checked.notes == []
    assert checked.n_rows == 2 * N_BARS + 1 + 3 * 50


def every_file(root: Path) -> list[Path]:
    """Return the files that hold rows or say which do."""
    names = ("*.parquet", "manifest.json", TAIL)
    return sorted(path for name in names for path in root.rglob(name))


def named(root: Path) -> set[Path]:
    """Return the files with a damage, and tails that were cut off."""
    found = verify(root)
    return {it.path for it in (*found.damages, *(note for note in found.notes if note.path.name == TAIL))}


def contents(root: Path) -> list[object]:
    """Return all rows, and some by ranges, as a store that was opened now reads them."""
    lake, tables = ParquetLake(root), ParquetTables(root)
    found: list[object] = [rows.to_pylist() for rows in lake.rows(market="crypto", interval="5m")]
    for kind in ("trades", "book_update", "macro"):
        for days in ((0, 3), (1, 2)):
            start, end = (T0 + day * DAY for day in days)
            found.append(tables.read(kind, market=MARKET, symbols=None, start=start, end=end).to_pylist())
    return found


def test_flipped_and_missing_bytes_of_any_file_are_named(root: Path) -> None:
    before, n_harmless, n_flipped = contents(root), 0, 0
    assert len(every_file(root)) > 8
    for path in every_file(root):
        data = path.read_bytes()
        # The tail of the day that grows has no hash: of it only the structure and the order can be checked.
        for at in range(8, len(data) - 8, max(1, len(data) // 4)) if path.name != TAIL else ():
            damaged = bytearray(data)
            damaged[at] ^= 0xFF
            path.write_bytes(damaged)
            n_flipped += 1
            if path not in named(root):  # a byte of a Parquet file that says nothing of its rows
                n_harmless += 1
                assert contents(root) == before, (path, at)
        path.write_bytes(data[: len(data) // 2])
        assert path in named(root)
        path.write_bytes(data)
    assert named(root) == set()
    assert n_harmless < n_flipped / 4


def test_file_that_its_manifest_names_and_is_gone_or_another_is_damage(root: Path) -> None:
    first, second = sorted((root / TRADES).glob("*=*/*.parquet"))[:2]
    data = first.read_bytes()
    first.unlink()
    assert [(it.path, it.what) for it in verify(root).damages] == [(first, "is missing, with 24 rows")]

    first.write_bytes(second.read_bytes())
    assert first in {it.path for it in verify(root).damages}

    first.write_bytes(data)
    (root / TRADES / "manifest.json").unlink()
    assert [it.what for it in verify(root).damages] == ["is missing beside 3 files of rows"]


def test_bars_of_another_day_are_damage(root: Path) -> None:
    one, two = (root / SERIES / f"date=2025-06-0{day}" / PARQUET for day in (1, 2))
    one.write_bytes(two.read_bytes())

    assert [(it.path, it.what) for it in verify(root).damages] == [(one, "holds bars of another partition")]


def test_what_a_killed_writer_left_is_told_and_is_no_damage(root: Path) -> None:
    with (root / SERIES / "date=2025-06-03" / TAIL).open("ab") as file:
        file.write(b"\xff\xff\xff\xff half a message")
    (root / SERIES / "date=2025-06-02" / f".{PARQUET}.tmp").write_bytes(b"half")
    (root / TRADES / "date=2025-06-01" / "stray.parquet").write_bytes(b"half")
    (root / BOOK / ".manifest.json.tmp").write_bytes(b"half")
    columns = root / SERIES / "date=2025-06-01" / COLUMNS
    columns.write_bytes(columns.read_bytes()[:-1])

    checked = verify(root)

    assert checked.damages == []
    assert len(checked.notes) == 5
    assert checked.n_rows == 2 * N_BARS + 1 + 3 * 50
