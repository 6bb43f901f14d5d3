"""The as-of suite of BarStore on ClickHouse's SQL and today's engine (chdb)."""

from __future__ import annotations

import pytest
from tests.libs.store import test_bars_as_of
from tests.libs.store.bars_kit import bars
from tests.libs.store.clickhouse.bars_suite import suite_of

from qraft_store.clickhouse.bars import ClickHouseBars
from qraft_store.clickhouse.driver import DriverExecutor

globals().update(suite_of(test_bars_as_of))


@pytest.fixture
def store(engine: DriverExecutor, database: str) -> ClickHouseBars:
    store = ClickHouseBars(engine, database=database)
    store.append(bars(test_bars_as_of.N_BARS))
    return store
