"""
The native protocol, with a real server: Debian's old clickhouse-server, for what that release speaks.

It has no DateTime64, no codecs and no Bool, so the stores' own SQL is proven elsewhere (chdb, and `test_server.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_driver.errors import ServerException
from tests.libs.store.clickhouse.old_server import find_server, old_server

from qraft_cli.stack.ports import free_port
from qraft_contracts.outcomes import Transient
from qraft_store.clickhouse.driver import DriverExecutor
from qraft_store.clickhouse.sql import literal

PROGRAM = find_server()
pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="CLICKHOUSE-SERVER MISSING: the wire path is not proven; `apt install clickhouse-server` to run this test",
)
TABLE = (
    "CREATE TABLE t (symbol String, event_at Int64, row_id String, revision Int32, price Float64, "
    "size Nullable(Float64), note Nullable(String), bid_px Array(Float64)) ENGINE = ReplacingMergeTree "
    "PARTITION BY symbol ORDER BY (symbol, event_at, row_id, revision)"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert PROGRAM is not None
    with old_server(PROGRAM, tmp_path_factory.mktemp("clickhouse"), port=free_port()) as address:
        yield address


@pytest.fixture
def executor(url: str) -> Iterator[DriverExecutor]:
    found = DriverExecutor(url)
    found.execute("DROP TABLE IF EXISTS t")
    found.execute(TABLE)
    yield found
    found.close()


def rows(n: int = 3) -> pa.Table:
    return pa.table(
        {
            "symbol": ["BTCUSDT", "Ω'\\"] * n,
            "event_at": [1_748_736_000_000_000 + i for i in range(2 * n)],
            "row_id": [str(i) for i in range(2 * n)],
            "revision": pa.array([0] * 2 * n, pa.int32()),
            "price": [0.1 + i for i in range(2 * n)],
            "size": [None if i % 2 else i / 3 for i in range(2 * n)],
            "note": [None, "a\nb"] * n,
            "bid_px": [[float(j) for j in range(i % 5)] for i in range(2 * n)],
        }
    )


def test_rows_go_in_by_column_and_come_out_as_arrow(executor: DriverExecutor) -> None:
    executor.insert("t", rows())

    found = executor.select("SELECT * FROM t ORDER BY event_at")

    assert found.to_pylist() == rows().to_pylist()
    assert [str(field.type) for field in found.schema][:6] == ["string", "int64", "string", "int32", "double", "double"]


def test_many_rows_come_back_whole(executor: DriverExecutor) -> None:
    executor.insert("t", rows(100_000))

    found = executor.select("SELECT event_at, price FROM t ORDER BY event_at")

    assert found.num_rows == 200_000
    assert found["event_at"].to_pylist() == rows(100_000)["event_at"].to_pylist()


def test_no_row_is_an_empty_table(executor: DriverExecutor) -> None:
    assert executor.select("SELECT symbol, price FROM t").num_rows == 0


def test_literals_stay_literals(executor: DriverExecutor) -> None:
    for text in ("a'b", "\\", "\\'", "'; DROP TABLE t; --", "new\nline", "Ω", "nul\x00l", "{x:String}", "%(a)s"):
        found = executor.select(f"SELECT {literal(text)} AS text, {literal(-5)} AS number")

        assert found.to_pylist() == [{"text": text, "number": -5}]


def test_newest_revision_and_final_are_spoken(executor: DriverExecutor) -> None:
    revised = rows().set_column(3, "revision", pa.array([1] * 6, pa.int32()))
    for part in (rows(), revised, revised):
        executor.insert("t", part)

    newest = executor.select(
        "SELECT symbol, revision FROM t ORDER BY event_at, revision DESC LIMIT 1 BY symbol, event_at"
    )

    assert newest["revision"].to_pylist() == [1] * 6
    assert executor.select("SELECT count() AS n FROM t FINAL")["n"].to_pylist() == [12]


def test_faulty_statement_is_an_error_and_the_connection_goes_on(executor: DriverExecutor) -> None:
    with pytest.raises(ServerException, match="no_such_table"):
        executor.execute("SELECT * FROM no_such_table")

    assert executor.select("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_server_that_is_away_is_transient_and_used_again_when_back(tmp_path: Path) -> None:
    assert PROGRAM is not None
    port = free_port()
    executor = DriverExecutor(f"clickhouse://127.0.0.1:{port}/default")
    with pytest.raises(Transient, match="clickhouse_unreachable"):
        executor.execute("SELECT 1")
    for _ in range(2):
        with old_server(PROGRAM, tmp_path, port=port):
            assert executor.select("SELECT 1 AS one").num_rows == 1
        with pytest.raises(Transient, match="clickhouse_unreachable"):
            executor.select("SELECT 1")
    executor.close()
