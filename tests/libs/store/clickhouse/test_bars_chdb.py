"""The behavior suite of BarStore on ClickHouse's SQL and today's engine (chdb)."""

from __future__ import annotations

import pytest
from tests.libs.store import test_bar_stores
from tests.libs.store.clickhouse.bars_suite import suite_of

from qraft_store.clickhouse.bars import ClickHouseBars
from qraft_store.clickhouse.driver import DriverExecutor

globals().update(suite_of(test_bar_stores))


@pytest.fixture
def store(engine: DriverExecutor, database: str) -> ClickHouseBars:
    return ClickHouseBars(engine, database=database)
