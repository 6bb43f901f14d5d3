"""A bundle goes into ClickHouse and comes out with the same parts: it knows no engine."""

from __future__ import annotations

from pathlib import Path

from tests.libs.data.bundle.bundle_kit import SOURCES, fill, made, memory_stores, take, versions
from tests.libs.store.clickhouse.conftest import database, engine

from qraft_data.bundle.sources import Stores
from qraft_store.clickhouse.bars import ClickHouseBars
from qraft_store.clickhouse.driver import DriverExecutor
from qraft_store.clickhouse.tables import ClickHouseTables

assert database and engine  # fixtures


def test_parts_of_a_bundle_of_clickhouse_are_those_that_it_was_filled_from(
    engine: DriverExecutor,
    database: str,
    tmp_path: Path,
) -> None:
    source = fill(memory_stores())
    there = Stores(ClickHouseBars(engine, database=database), ClickHouseTables(engine, database=database))
    first = made(source, tmp_path / "first.tar")

    done = take(there, tmp_path / "first.tar")

    assert take(there, tmp_path / "first.tar").n_new == 0
    assert [it.name for it in SOURCES if it.kind == "bars" and len(set(done.versions[it.name])) > 1] == []
    second = made(there, tmp_path / "second.tar")
    assert second.manifest.parts == first.manifest.parts
    assert second.manifest.audit == first.manifest.audit
    take(back := memory_stores(), tmp_path / "second.tar")
    assert versions(back) == versions(source)
