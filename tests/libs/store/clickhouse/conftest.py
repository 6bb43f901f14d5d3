"""One engine for all tests of the SQL, so that half a gigabyte is taken once, reached as a server is reached."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import count

import pytest
from tests.libs.store.clickhouse.chdb_process import ChdbProcess
from tests.libs.store.clickhouse.native_server import NativeServer

from qraft_store.clickhouse.driver import DriverExecutor

_DATABASES = count()


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverExecutor]:
    """Today's ClickHouse engine behind clickhouse-driver."""
    if importlib.util.find_spec("chdb") is None:
        pytest.skip("CHDB MISSING: the SQL for ClickHouse is not proven; install the package chdb to run this test")
    process = ChdbProcess(tmp_path_factory.mktemp("chdb"))
    with NativeServer(process) as server:
        executor = DriverExecutor(server.url)
        yield executor
        executor.close()
    process.close()


@pytest.fixture
def database() -> str:
    """Name of a database that no other test uses."""
    return f"t{next(_DATABASES)}"
