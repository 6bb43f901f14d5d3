"""The dataset folder as a source: what it gives, and clear words for every bad file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from tests.svc_ingest.ingest_kit import at, make_check, shown, write_symbol

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from svc_ingest.adapters import files
from svc_ingest.adapters.files import FileSource
from svc_ingest.domain.faults import FaultKind


async def batches_of(folder: Path, *, after=None, until=None, symbols=()):
    source = FileSource(folder, interval="5m", symbols=symbols)
    await source.open()
    check = make_check()
    found = []
    async for chunk in source.chunks(after=after, until=until):
        found += check.take(chunk)
    return shown(found), check.report


async def test_symbols_with_gaps_and_other_ends_are_merged_by_time(tmp_path: Path) -> None:
    write_symbol(tmp_path, "BTCUSDT", [0, 1, 2, 3])
    write_symbol(tmp_path, "ETHUSDT", [1, 3, 4, 5], [7, 8, 9, 10])

    found, report = await batches_of(tmp_path)

    assert found == [
        (0, 0, {"BTCUSDT": 100}),
        (1, 0, {"BTCUSDT": 101, "ETHUSDT": 7}),
        (2, 0, {"BTCUSDT": 102}),
        (3, 0, {"BTCUSDT": 103, "ETHUSDT": 8}),
        (4, 0, {"ETHUSDT": 9}),
        (5, 0, {"ETHUSDT": 10}),
    ]
    assert report.count(FaultKind.GAP, "ETHUSDT") == 1 and report.count(FaultKind.GAP, "BTCUSDT") == 0


async def test_after_is_exclusive_until_inclusive_and_symbols_are_filtered(tmp_path: Path) -> None:
    write_symbol(tmp_path, "BTCUSDT", range(10))
    write_symbol(tmp_path, "ETHUSDT", range(10))

    found, _ = await batches_of(tmp_path, after=at(2), until=at(5), symbols=("ETHUSDT",))

    assert found == [(i, 0, {"ETHUSDT": 100.0 + i}) for i in (3, 4, 5)]


async def test_windows_give_what_one_read_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_symbol(tmp_path, "BTCUSDT", [0, 1, 2, 2, 9, 10, 11], [1, 2, 3, 4, 5, 6, 7])
    write_symbol(tmp_path, "ETHUSDT", range(5, 15))
    whole, whole_report = await batches_of(tmp_path)

    monkeypatch.setattr(files, "CHUNK_MAX", timedelta(minutes=10))
    parts, report = await batches_of(tmp_path)

    assert parts == whole
    assert report.as_dict() == whole_report.as_dict()


async def test_unsorted_file_is_put_in_order_and_counted(tmp_path: Path) -> None:
    write_symbol(tmp_path, "BTCUSDT", [3, 0, 1, 2])

    source = FileSource(tmp_path, interval="5m")
    found, _ = await batches_of(tmp_path)

    assert await source.open() == {"BTCUSDT": 3}
    assert [index for index, _, _ in found] == [0, 1, 2, 3]


async def test_file_without_rows_is_left_out_and_a_dataset_without_rows_refused(tmp_path: Path) -> None:
    write_symbol(tmp_path, "ETHUSDT", [])
    with pytest.raises(Malformed, match="every file has none"):
        await batches_of(tmp_path)

    write_symbol(tmp_path, "BTCUSDT", [0])
    source = FileSource(tmp_path, interval="5m")
    await source.open()

    assert source.symbols == ("BTCUSDT",)
    assert source.origin is Origin.REPLAY and not source.is_live
    assert source.last_closed_at == at(0)


@pytest.mark.parametrize("keep", [0, 3, 200])
async def test_half_written_file_is_named(tmp_path: Path, keep: int) -> None:
    path = write_symbol(tmp_path, "BTCUSDT", range(100))
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(Malformed, match=r"whole Parquet file in .*BTCUSDT\.parquet"):
        await batches_of(tmp_path)


async def test_missing_column_is_named(tmp_path: Path) -> None:
    write_symbol(tmp_path, "BTCUSDT", range(3), volume=None, low=None)

    with pytest.raises(Malformed, match=r"missing_columns.*BTCUSDT.*\['low', 'volume'\]"):
        await batches_of(tmp_path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("close", pa.array(["1", "2", "3"])),
        ("open_time", pa.array([1, 2, 3], pa.int64())),
        ("open_time", pa.array([0, 300_000, 600_000], pa.timestamp("ms"))),
        ("open_time", pa.array([0, None, 600_000], pa.timestamp("ms", tz="UTC"))),
    ],
)
async def test_wrong_type_is_named(tmp_path: Path, column: str, values: pa.Array) -> None:
    write_symbol(tmp_path, "BTCUSDT", range(3), **{column: values})

    with pytest.raises(Malformed, match=f"wrong_dtype.*{column}"):
        await batches_of(tmp_path)


async def test_empty_cell_is_an_impossible_bar_and_whole_numbers_are_numbers(tmp_path: Path) -> None:
    write_symbol(
        tmp_path, "BTCUSDT", range(3), close=pa.array([100.0, None, 102.0]), volume=pa.array([1, 2, 3], pa.int32())
    )

    found, report = await batches_of(tmp_path)

    assert [index for index, _, _ in found] == [0, 2]
    assert report.count(FaultKind.IMPOSSIBLE) == 1 and report.count(FaultKind.GAP) == 1


@pytest.mark.parametrize("interval", ["1m", "1h"])
async def test_file_of_another_interval_is_refused(tmp_path: Path, interval: str) -> None:
    write_symbol(tmp_path, "BTCUSDT", range(50))

    with pytest.raises(Malformed, match=r"wrong_interval.*QRAFT_INTERVAL"):
        await FileSource(tmp_path, interval=interval).open()


async def test_missing_folder_and_unknown_symbol_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"no_dataset.*QRAFT_DATA"):
        await FileSource(tmp_path / "nothing", interval="5m").open()
    write_symbol(tmp_path, "BTCUSDT", [0])
    with pytest.raises(Malformed, match=r"unknown_symbols.*\['BTCUSDT'\].*\['DOGE'\]"):
        await FileSource(tmp_path, interval="5m", symbols=("DOGE",)).open()


async def test_lineage_follows_the_content(tmp_path: Path) -> None:
    write_symbol(tmp_path, "BTCUSDT", [0, 1])
    first, again, other = (FileSource(tmp_path, interval="5m") for _ in range(3))
    await first.open()
    await again.open()
    write_symbol(tmp_path, "BTCUSDT", [0, 1, 2])
    await other.open()

    assert first.lineage == again.lineage != other.lineage
