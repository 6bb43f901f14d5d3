"""What the ClickHouse stores need of a ClickHouse: statements as text, rows as Arrow. Adapter: `driver.py`."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Executor(Protocol):
    """
    A ClickHouse with DateTime64 and codecs, the port between the SQL (`sql.py`, `sql_bars.py`) and how it is reached.

    All three raise Transient when ClickHouse cannot be reached, is out of time, memory or disk.
    """

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        ...

    def select(self, sql: str) -> pa.Table:
        """Return the rows of a SELECT, without columns when there is none. Instants are selected as integers."""
        ...

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows into the columns of the same names; instants are microseconds since 1970 as integers."""
        ...
