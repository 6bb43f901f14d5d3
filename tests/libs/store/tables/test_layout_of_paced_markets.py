"""Markets whose name says their pace lie in files of that pace, also those that an older release divided."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.libs.store.tables.tables_kit import DAY, HOUR, T0, series

from qraft_store.tables import layout, manifest, writer
from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.layout import period_of
from qraft_store.tables.memory import MemoryTables

HOURLY = "oanda.fx.1h"
ROWS = series("quote_bars", 24 * 45, step=HOUR)  # June and half of July


@pytest.mark.parametrize(
    ("kind", "market", "period"),
    [
        ("quote_bars", "fxcm.fx", "date"),
        ("quote_bars", HOURLY, "month"),
        ("mark_price", "binance.perp.8h", "month"),
        ("mark_price", "binance.perp.1m", "date"),
        ("mark_price", "x.1d", "year"),
        ("trades", "x.1h", "date"),
        ("macro", "us.macro", "year"),
    ],
)
def test_partition_is_as_long_as_the_pace_asks(kind: str, market: str, period: str) -> None:
    assert period_of(kind, market) == period


def files(root: Path) -> list[str]:
    return sorted({path.parent.name for path in (root / "tables/quote_bars" / HOURLY).glob("*=*/*.parquet")})


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a lake that was written when every table of quote bars lay by day."""
    for module in (layout, manifest):
        monkeypatch.setattr(module, "period_of", lambda _kind, _market: "date")
    lake = ParquetTables(tmp_path)
    lake.append("quote_bars", market=HOURLY, rows=ROWS)
    lake.close()
    monkeypatch.undo()
    assert len(files(tmp_path)) == 45
    return tmp_path


def read(lake: ParquetTables) -> object:
    return lake.read("quote_bars", market=HOURLY, symbols=None, start=T0 - DAY, end=T0 + 60 * DAY)


def test_lake_of_an_older_release_is_read_as_it_is_and_has_the_version_of_its_rows(older: Path) -> None:
    twin, lake = MemoryTables(), ParquetTables(older)
    twin.append("quote_bars", market=HOURLY, rows=ROWS)

    assert read(lake) == ROWS
    assert lake.version("quote_bars", market=HOURLY) == twin.version("quote_bars", market=HOURLY)
    assert lake.range("quote_bars", market=HOURLY) == (T0, T0 + (24 * 45 - 1) * HOUR)
    assert len(files(older)) == 45 and lake.verify().damages == []


def test_first_writer_divides_an_older_table_anew_and_nothing_else_changes(older: Path) -> None:
    reader, lake = ParquetTables(older), ParquetTables(older)
    version = reader.version("quote_bars", market=HOURLY)
    assert read(reader) == ROWS

    assert lake.append("quote_bars", market=HOURLY, rows=ROWS).n_repeated == ROWS.num_rows

    assert files(older) == ["month=2025-06", "month=2025-07"]
    assert read(reader) == read(lake) == ROWS
    assert reader.version("quote_bars", market=HOURLY) == lake.version("quote_bars", market=HOURLY) == version
    assert lake.verify().damages == lake.verify().notes == []
    lake.close()


def test_rows_that_an_older_release_stored_again_count_once(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = ParquetTables(older)
    lake.append("quote_bars", market=HOURLY, rows=ROWS.slice(0, 1))
    lake.close()
    for module in (layout, manifest):
        monkeypatch.setattr(module, "period_of", lambda _kind, _market: "date")
    monkeypatch.setattr(writer.TableWriter, "_divide_anew", lambda _self: None)
    back = ParquetTables(older)
    assert back.append("quote_bars", market=HOURLY, rows=ROWS.slice(5, 3)).n_new == 3
    back.close()
    monkeypatch.undo()

    lake = ParquetTables(older)
    lake.append("quote_bars", market=HOURLY, rows=ROWS.slice(0, 1))
    assert read(lake) == ROWS
    lake.close()
