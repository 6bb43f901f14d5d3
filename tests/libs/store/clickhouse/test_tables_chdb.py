"""The behavior suite of TableStore on ClickHouse's SQL and today's engine (chdb)."""

from __future__ import annotations

import pytest
from tests.libs.store.tables.behavior_any import AdapterBehavior

from qraft_store.clickhouse.driver import DriverExecutor
from qraft_store.clickhouse.tables import ClickHouseTables


class TestChdb(AdapterBehavior):
    n_examples = 5

    @pytest.fixture
    def store(self, engine: DriverExecutor, database: str) -> ClickHouseTables:
        return ClickHouseTables(engine, database=database)

    def check_same_versions(self, versions: list[str], twin: list[str]) -> None:
        assert versions != twin  # the engine adds hashes up where the rows lie
