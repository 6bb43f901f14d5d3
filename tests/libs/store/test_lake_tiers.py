"""Hot and cold: old partitions move to a second root, and nobody who reads can tell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.libs.store.bars_kit import DAY, SERIES, STEP, T0, bar, bars
from tests.libs.store.test_bar_stores import compare

from qraft_contracts.outcomes import Refused, Transient
from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.lake import ParquetLake
from qraft_store.bars.memory import MemoryBarStore
from qraft_store.tiers import LAKE_ID

NAME = {"market": "crypto", "interval": "5m"}
N_BARS = 1_000  # three days are closed, the fourth grows
END = T0 + (N_BARS - 1) * STEP


@pytest.fixture
def twin() -> MemoryBarStore:
    twin = MemoryBarStore()
    twin.append(bars(N_BARS))
    return twin


@pytest.fixture
def lake(tmp_path: Path):
    lake = ParquetLake(tmp_path / "hot", cold_root=tmp_path / "cold")
    lake.append(bars(N_BARS))
    yield lake
    lake.close()


def files(root: Path) -> list[str]:
    """Return the files of the series, locks aside."""
    found = (path for path in (root / SERIES).rglob("*") if path.is_file())
    return sorted(str(path.relative_to(root / SERIES)) for path in found if path.parent.name != "crypto")


def test_old_days_move_and_everything_reads_as_before(lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path) -> None:
    reader = ParquetLake(tmp_path / "hot", cold_root=tmp_path / "cold")
    compare(reader, twin, as_of=END, n=900)
    size = sum(path.stat().st_size for path in tmp_path.rglob(PARQUET) if "06-03" not in str(path))

    assert lake.tier(**NAME, before=T0.replace(day=3, minute=0)) == size
    assert lake.tier(**NAME, before=T0.replace(day=3, minute=0)) == 0

    closed = "date=2025-06-03"
    assert files(tmp_path / "cold") == [f"date=2025-06-0{day}/{PARQUET}" for day in (1, 2)]
    assert files(tmp_path / "hot") == [f"{closed}/{COLUMNS}", f"{closed}/{PARQUET}", f"date=2025-06-04/{TAIL}"]
    compare(reader, twin, as_of=END, n=900)
    compare(ParquetLake(tmp_path / "hot", cold_root=tmp_path / "cold"), twin, as_of=END, n=900)


def test_the_growing_day_stays_whatever_the_limit(lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path) -> None:
    lake.tier(**NAME, before=END + 100 * DAY)

    assert files(tmp_path / "hot") == [f"date=2025-06-04/{TAIL}"]
    for store in (lake, twin):
        store.append([bar(END + STEP, base=5.0)])
    compare(lake, twin, as_of=END + DAY, n=900)


def test_late_row_of_a_cold_day_is_read_and_moves_after_it(
    lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path
) -> None:
    lake.tier(**NAME, before=END)
    late = bar(T0 + 4 * STEP, ("BTCUSDT", "SOLUSDT"), base=7.0, revision=1)
    for store in (lake, twin):
        assert store.append([late]) == 2
        assert store.append([late]) == 0
        with pytest.raises(ValueError, match="stored values"):
            store.append([bar(T0, base=9.0)])
    compare(lake, twin, as_of=END, n=900)

    assert lake.tier(**NAME, before=END) > 0

    assert not any(PARQUET in name for name in files(tmp_path / "hot"))
    compare(lake, twin, as_of=END, n=900)


def test_writer_that_opens_over_cold_days_knows_where_they_end(tmp_path: Path, twin: MemoryBarStore) -> None:
    roots = {"root": tmp_path / "hot", "cold_root": tmp_path / "cold"}
    lake = ParquetLake(**roots)
    lake.append([*bars(N_BARS), bar(T0.replace(day=9))])
    lake.tier(**NAME, before=END + 100 * DAY)
    lake.close()
    shutil.rmtree(tmp_path / "hot")
    with pytest.raises(Refused, match=r"copy .*\.lake_id"):
        ParquetLake(**roots).append([bar(T0)])
    (tmp_path / "hot").mkdir()
    shutil.copy(tmp_path / "cold" / LAKE_ID, tmp_path / "hot" / LAKE_ID)

    lake = ParquetLake(**roots)

    with pytest.raises(ValueError, match="closed_at from 2025-06-04"):
        lake.append([bar(T0, ("NEWUSDT",))])
    lake.close()


def test_move_that_was_killed_before_the_end_counts_rows_once(
    lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path
) -> None:
    day = SERIES / "date=2025-06-02"
    lake.tier(**NAME, before=T0.replace(day=2, minute=0))
    (tmp_path / "cold" / day).mkdir(parents=True)
    shutil.copy(tmp_path / "hot" / day / PARQUET, tmp_path / "cold" / day / PARQUET)
    (tmp_path / "cold" / day / f".{PARQUET}.tmp").write_bytes(b"half")
    compare(lake, twin, as_of=END, n=900)

    lake.tier(**NAME, before=END)

    compare(lake, twin, as_of=END, n=900)
    assert len(files(tmp_path / "cold")) == 3


def test_cold_root_that_cannot_be_written_leaves_the_days_where_they_are(
    lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path
) -> None:
    (tmp_path / "cold" / SERIES / "date=2025-06-02" / f".{PARQUET}.tmp").mkdir(parents=True)

    with pytest.raises(Transient, match="could not move"):
        lake.tier(**NAME, before=END)

    assert [PARQUET in name for name in files(tmp_path / "hot")].count(True) == 2
    compare(lake, twin, as_of=END, n=900)


def test_only_the_writer_of_a_series_moves_it(lake: ParquetLake, tmp_path: Path) -> None:
    with pytest.raises(Transient, match="another process writes"):
        ParquetLake(tmp_path / "hot", cold_root=tmp_path / "cold").tier(**NAME, before=END)
    with pytest.raises(ValueError, match="cold root"):
        ParquetLake(tmp_path / "hot").tier(**NAME, before=END)


@pytest.mark.parametrize("cold", [None, "cold"])
def test_lake_without_its_cold_root_refuses_to_read_the_rest(
    lake: ParquetLake, twin: MemoryBarStore, tmp_path: Path, cold: str | None
) -> None:
    lake.tier(**NAME, before=END)
    lake.close()
    (tmp_path / "cold").rename(tmp_path / "unmounted")

    store = ParquetLake(tmp_path / "hot", cold_root=tmp_path / cold if cold else None)
    for use in (
        lambda: store.read(**NAME, symbols=None, start=T0, end=END),
        lambda: store.last(**NAME, symbols=None, n=3, as_of=END),
        lambda: store.version(**NAME),
        lambda: store.markets("5m"),
        lambda: store.append(bars(1)),
    ):
        with pytest.raises(Transient, match="open the lake with its cold root"):
            use()

    (tmp_path / "unmounted").rename(tmp_path / "cold")
    compare(ParquetLake(tmp_path / "hot", cold_root=tmp_path / "cold"), twin, as_of=END, n=900)
