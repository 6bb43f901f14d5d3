"""
Both behavior suites against a real ClickHouse server over its native protocol: the one named by QRAFT_CLICKHOUSE_URL.

`QRAFT_CLICKHOUSE_URL=clickhouse://user:password@host:9000/default pytest -m clickhouse`; it makes databases named
`qraft_test_…` there and drops them again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from tests.libs.store import test_bar_stores
from tests.libs.store.clickhouse.bars_suite import suite_of
from tests.libs.store.tables.behavior_any import AdapterBehavior

from qraft_store.clickhouse.bars import ClickHouseBars
from qraft_store.clickhouse.driver import DriverExecutor
from qraft_store.clickhouse.tables import ClickHouseTables

URL = os.environ.get("QRAFT_CLICKHOUSE_URL")
pytestmark = pytest.mark.clickhouse
if URL is None:
    pytest.skip("CLICKHOUSE NOT GIVEN: set QRAFT_CLICKHOUSE_URL to run both suites on it", allow_module_level=True)
globals().update(suite_of(test_bar_stores))


@pytest.fixture(scope="module")
def server() -> Iterator[DriverExecutor]:
    executor = DriverExecutor(URL)
    yield executor
    executor.close()


@pytest.fixture
def scratch(server: DriverExecutor) -> Iterator[str]:
    name = f"qraft_test_{secrets.token_hex(6)}"
    yield name
    server.execute(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def store(server: DriverExecutor, scratch: str) -> ClickHouseBars:
    return ClickHouseBars(server, database=scratch)


class TestTables(AdapterBehavior):
    n_examples = 20

    @pytest.fixture
    def store(self, server: DriverExecutor, scratch: str) -> ClickHouseTables:
        return ClickHouseTables(server, database=scratch)

    def check_same_versions(self, versions: list[str], twin: list[str]) -> None:
        assert versions != twin  # the server adds hashes up where the rows lie
