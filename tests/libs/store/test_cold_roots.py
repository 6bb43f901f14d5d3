"""A cold root belongs to one lake, and whatever it holds is there afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.libs.store.bars_kit import DAY, SERIES, STEP, T0, bar, bars
from tests.libs.store.tables.tables_kit import HOUR, MARKET, series
from tests.libs.store.tables.tables_kit import T0 as TABLE_T0

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_store.bars.days import PARQUET, write_parquet
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.rows import ROW_SCHEMA, table_of
from qraft_store.tables.lake import ParquetTables
from qraft_store.tiers import LAKE_ID, TIERED

NAME = {"market": "crypto", "interval": "5m"}
PLACE = Path("tables/trades") / MARKET
ROWS = series("trades", 240, step=HOUR)  # ten days
FAR = TABLE_T0 + 100 * DAY
END = T0 + 999 * STEP


def of_tables(home: Path) -> ParquetTables:
    return ParquetTables(home, cold_root=home.parent / "cold")


def of_bars(home: Path) -> ParquetLake:
    return ParquetLake(home, cold_root=home.parent / "cold")


def cold_files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (root / "cold").rglob("*.parquet")}


def tiered_tables(home: Path, *, n: int = 240) -> None:
    lake = of_tables(home)
    lake.append("trades", market=MARKET, rows=ROWS.slice(0, n))
    lake.tier("trades", market=MARKET, before=FAR)
    lake.close()


def n_rows(home: Path) -> int:
    return of_tables(home).read("trades", market=MARKET, symbols=None, start=TABLE_T0 - DAY, end=FAR).num_rows


def test_second_home_on_a_cold_root_is_refused_and_the_first_keeps_everything(tmp_path: Path) -> None:
    tiered_tables(tmp_path / "a")
    before = cold_files(tmp_path)
    assert len(before) == 10

    b = of_tables(tmp_path / "b")
    uses: tuple[Callable[[], object], ...] = (
        lambda: b.append("trades", market=MARKET, rows=ROWS.slice(0, 3)),
        lambda: b.append("funding", market="other", rows=series("funding", 3)),
        lambda: b.read("trades", market=MARKET, symbols=None, start=TABLE_T0, end=FAR),
        lambda: b.verify(),
        lambda: of_bars(tmp_path / "b").append(bars(3)),
        lambda: of_bars(tmp_path / "b").range(**NAME),
    )
    for use in uses:
        with pytest.raises(Refused, match="lake_cold_of_another"):
            use()

    assert cold_files(tmp_path) == before and n_rows(tmp_path / "a") == 240


def test_home_that_was_there_before_is_refused_when_it_tiers_second(tmp_path: Path) -> None:
    for home in ("a", "b"):
        lake = of_bars(tmp_path / home)
        lake.append([bar(T0 + i * STEP, base=100.0 if home == "a" else 900.0) for i in range(400)])
        lake.close()
    lake = of_bars(tmp_path / "a")
    assert lake.tier(**NAME, before=END) > 0
    lake.close()
    before = cold_files(tmp_path)

    with pytest.raises(Refused, match="lake_cold_of_another"):
        of_bars(tmp_path / "b").tier(**NAME, before=END)

    assert cold_files(tmp_path) == before and len(list((tmp_path / "b" / SERIES).rglob(PARQUET))) == 1


def test_cold_root_with_rows_and_no_id_is_taken_by_the_lake_that_moved_them_only(tmp_path: Path) -> None:
    tiered_tables(tmp_path / "a", n=100)  # as a release that wrote no ids left them
    (tmp_path / "a" / LAKE_ID).unlink()
    (tmp_path / "cold" / LAKE_ID).unlink()
    before = cold_files(tmp_path)
    b = of_tables(tmp_path / "b")
    b.append("funding", market=MARKET, rows=series("funding", 50, step=DAY))

    with pytest.raises(Refused, match=r"that .* did not move there"):
        b.tier("funding", market=MARKET, before=FAR)
    assert cold_files(tmp_path) == before

    tiered_tables(tmp_path / "a")
    assert n_rows(tmp_path / "a") == 240
    assert (tmp_path / "a" / LAKE_ID).read_bytes() == (tmp_path / "cold" / LAKE_ID).read_bytes()


@pytest.mark.parametrize("is_tiered", [False, True])
def test_hot_tables_restored_from_an_older_backup_lose_nothing_that_was_moved_since(
    tmp_path: Path, is_tiered: bool
) -> None:
    home = tmp_path / "a"
    lake = of_tables(home)
    lake.append("trades", market=MARKET, rows=ROWS.slice(0, 100))
    if is_tiered:
        lake.tier("trades", market=MARKET, before=TABLE_T0 + 2 * DAY)
    lake.close()
    shutil.copytree(home, tmp_path / "backup")
    tiered_tables(home)
    before = cold_files(tmp_path)
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)
    if not is_tiered:
        with pytest.raises(Refused, match=r"restored or made anew, copy .*\.lake_id"):
            of_tables(home).append("trades", market=MARKET, rows=ROWS)
        shutil.copy(tmp_path / "cold" / LAKE_ID, home / LAKE_ID)

    lake = of_tables(home)
    lake.append("trades", market=MARKET, rows=ROWS.slice(99, 5))

    assert before.items() <= cold_files(tmp_path).items()
    checked = lake.verify()
    assert checked.damages == [] and n_rows(home) == 104
    left = [it.path for it in checked.notes if "older backup" in it.what]
    assert left and all(path.is_relative_to(tmp_path / "cold") for path in left)
    assert lake.append("trades", market=MARKET, rows=ROWS).n_new == 136
    lake.close()


def test_hot_bars_restored_from_an_older_backup_take_in_what_the_cold_day_holds_more(tmp_path: Path) -> None:
    home = tmp_path / "a"
    late = bar(T0 + 4 * STEP, base=7.0, revision=1)
    lake = of_bars(home)
    lake.append([bar(T0 - 40 * DAY), *bars(400)])
    lake.tier(**NAME, before=T0 - 30 * DAY)
    lake.close()
    shutil.copytree(home, tmp_path / "backup")
    lake = of_bars(home)
    lake.append([late])
    lake.tier(**NAME, before=END)
    version = lake.version(**NAME)
    lake.close()
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "backup", home)

    lake = of_bars(home)
    assert lake.tier(**NAME, before=END) > 0

    assert lake.version(**NAME) == version
    assert lake.append([late]) == 0
    lake.close()


@pytest.mark.parametrize("column", ["close", "known_at"])
def test_cold_day_that_contradicts_the_hot_one_stays_as_it_is(tmp_path: Path, column: str) -> None:
    home = tmp_path / "a"
    lake = of_bars(home)
    lake.append([bar(T0 - 40 * DAY), *bars(400)])
    lake.tier(**NAME, before=T0 - 30 * DAY)
    other = bar(T0, base=5.0) if column == "close" else bar(T0, known_at=T0 + DAY)
    rows = table_of([other]).cast(ROW_SCHEMA)
    (tmp_path / "cold" / SERIES / "date=2025-06-01").mkdir()
    write_parquet(tmp_path / "cold" / SERIES / "date=2025-06-01", rows)
    before = cold_files(tmp_path)

    with pytest.raises(Malformed, match=r"date=2025-06-01/bars\.parquet"):
        lake.tier(**NAME, before=END)

    assert cold_files(tmp_path) == before and (home / SERIES / "date=2025-06-01" / PARQUET).exists()
    lake.close()


def test_table_that_stands_in_the_cold_root_alone_is_verified_too(tmp_path: Path) -> None:
    tiered_tables(tmp_path / "a")
    lake = of_tables(tmp_path / "a")
    lake.append("funding", market=MARKET, rows=series("funding", 3))
    lake.close()
    shutil.rmtree(tmp_path / "a" / PLACE)

    (found,) = of_tables(tmp_path / "a").verify().damages

    assert found.path == tmp_path / "a" / PLACE / "manifest.json" and "beside 10 files" in found.what


def test_every_new_folder_is_on_disk_and_the_series_marked_before_a_file_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, tables = of_bars(tmp_path / "a"), of_tables(tmp_path / "a")
    lake.append(bars(400))
    tables.append("trades", market=MARKET, rows=ROWS)
    hot = {place: sorted((tmp_path / "a" / place).rglob("*.parquet"))[0] for place in (SERIES, PLACE)}
    synced: list[tuple[Path, bool]] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((path, all(it.exists() and (tmp_path / "a" / at / TIERED).exists() for at, it in hot.items()
                                 if path == tmp_path / "a" / at)))  # fmt: skip

    monkeypatch.setattr(os, "fsync", recorded)
    lake.tier(**NAME, before=END)
    tables.tier("trades", market=MARKET, before=FAR)

    folders = {path for path in (tmp_path / "cold").rglob("*") if path.is_dir()}
    assert folders | {tmp_path, tmp_path / "cold"} <= {path for path, _ in synced}
    for place, file in hot.items():
        assert (tmp_path / "a" / place, True) in synced and not file.exists()
    lake.close()
    tables.close()


def test_id_that_is_damaged_is_no_id(tmp_path: Path) -> None:
    tiered_tables(tmp_path / "a")
    (tmp_path / "cold" / LAKE_ID).write_bytes(b"")

    with pytest.raises(Malformed, match=r"expected an id in .*cold"):
        n_rows(tmp_path / "a")
    (tmp_path / "cold").rename(tmp_path / "away")
    with pytest.raises(Transient, match="lake_cold_missing"):
        n_rows(tmp_path / "a")
