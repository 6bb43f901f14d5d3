"""A ClickHouse server over its native protocol (port 9000) by clickhouse-driver."""

from __future__ import annotations

import threading
from typing import Any, Final

import pyarrow as pa
from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError, ServerException, SocketTimeoutError

from qraft_contracts.outcomes import Transient

_CONNECT_S: Final = 10
_ANSWER_S: Final = 120
# What a server says when it is short of something: the same statement may succeed later.
_BRIEFLY: Final = {
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    394: "QUERY_WAS_CANCELLED",
}


class DriverExecutor:
    """
    One connection, used by one thread at a time; it is made on first use and again after it broke.

    url: such as `clickhouse://user:password@host:9000/default`.
    """

    def __init__(self, url: str) -> None:
        self._client = Client.from_url(url)
        self._client.connection.connect_timeout = _CONNECT_S
        self._client.connection.send_receive_timeout = _ANSWER_S
        self._lock = threading.Lock()

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        self._call(lambda: self._client.execute(sql))

    def select(self, sql: str) -> pa.Table:
        """Return the rows of a SELECT."""
        table: pa.Table = self._call(lambda: self._client.query_arrow(sql, field_metadata=False))
        return table

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows, column by column."""
        columns = [column.to_pylist() for column in rows.itercolumns()]
        statement = f"INSERT INTO {table} ({', '.join(rows.column_names)}) VALUES"
        self._call(lambda: self._client.execute(statement, columns, columnar=True))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._client.disconnect()

    def _call(self, call: Any) -> Any:
        with self._lock:
            try:
                return call()
            except (NetworkError, SocketTimeoutError, EOFError, OSError) as error:
                raise Transient("clickhouse_unreachable", f"{error}; is ClickHouse up?") from error
            except ServerException as error:
                if error.code in _BRIEFLY:
                    raise Transient("clickhouse_busy", f"{_BRIEFLY[error.code]}: {error.message}") from error
                raise
