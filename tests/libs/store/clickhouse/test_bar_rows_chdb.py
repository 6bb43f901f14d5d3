"""The suite of plain rows of BarStore on ClickHouse's SQL and today's engine (chdb)."""

from __future__ import annotations

import pytest
from tests.libs.store import test_bar_rows
from tests.libs.store.bars_kit import bars
from tests.libs.store.clickhouse.bars_suite import suite_of

from qraft_store.bars.memory import MemoryBarStore
from qraft_store.clickhouse.bars import ClickHouseBars
from qraft_store.clickhouse.driver import DriverExecutor

globals().update(suite_of(test_bar_rows))


@pytest.fixture
def store(engine: DriverExecutor, database: str) -> ClickHouseBars:
    return ClickHouseBars(engine, database=database)


@pytest.fixture
def source() -> MemoryBarStore:
    source = MemoryBarStore()
    source.append(bars(test_bar_rows.N_BARS))
    source.append(test_bar_rows.LATER)
    return source
