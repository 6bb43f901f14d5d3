"""The stores that qraft_data reads: the twins in memory and the real lake."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.libs.data.data_kit import memory_library

from qraft_data.library import DataLibrary
from qraft_store.bars.lake import ParquetLake
from qraft_store.tables.lake import ParquetTables


@pytest.fixture(params=["memory", "parquet"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> DataLibrary:
    """Return empty stores, of each adapter in turn."""
    if request.param == "memory":
        return memory_library()
    return DataLibrary(ParquetLake(tmp_path), ParquetTables(tmp_path))
