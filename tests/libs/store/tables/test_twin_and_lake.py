"""The behavior suite of TableStore on the twin in memory and on the Parquet lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.libs.store.tables.behavior import TableStoreBehavior
from tests.libs.store.tables.behavior_any import AdapterBehavior

from qraft_store.tables.lake import ParquetTables
from qraft_store.tables.memory import MemoryTables


class TestMemory(TableStoreBehavior):
    @pytest.fixture
    def store(self) -> MemoryTables:
        return MemoryTables()


class TestLake(AdapterBehavior):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ParquetTables]:
        lake = ParquetTables(tmp_path)
        yield lake
        lake.close()
