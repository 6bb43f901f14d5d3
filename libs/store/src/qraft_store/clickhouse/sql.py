"""
Every statement that the ClickHouse stores send, as text.

Why the tables are as they are:

* `PARTITION BY (market, toYYYYMM(event_at))`: a read opens the months of one market, a market can be dropped whole.
* `ORDER BY (symbol, event_at, row_id, revision)`: a symbol's range is one run of granules.
* `ReplacingMergeTree` with the revision *inside* the sorting key. Replacing over the revision (key without it, revision
  as the version column) would delete older revisions whenever parts are merged, and with them what was known then: an
  as-of read would see a correction before it was made. So every revision stays, and what the engine replaces are equal
  rows of one name, which an insert repeated after a lost answer leaves.
* The newest known revision is chosen when reading, by `LIMIT 1 BY` the name after `revision DESC`: it streams along the
  sorting key. argMax over every column says the same in three times the time (1,050,000 trades on two busy cores:
  3.7 s against 11 s, chdb 26.9), since it builds a hash table of all names.
* Instants are DateTime64(6, 'UTC'): microseconds, as everywhere here. They travel as integers, because the driver's way
  from DateTime64 to Python goes through a float and loses the last digit.
* Fields that may be empty are Nullable, others are not: Nullable costs a second file a column.
* Values are written into the text as literals by `literal`, not bound: the two ways of binding (driver, chdb) differ in
  how they quote lists, and one text is to be proven on both.
"""

# ruff: noqa: S608
# Every value in a statement goes through `literal` or is an integer; names are the dictionary's own.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from qraft_contracts.kinds import BASE_COLUMNS, Field, Kind
from qraft_store.tables.port import Revisions

_INSTANT: Final = "DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1))"
_NAME: Final = ("symbol", "event_at", "row_id", "revision")
_ORDER: Final = "event_at, symbol, row_id, revision"
INSTANTS: Final = ("event_at", "known_at", "closed_at")
_BASE: Final = {
    "symbol": "LowCardinality(String)",
    "event_at": _INSTANT,
    "known_at": _INSTANT,
    "row_id": "String CODEC(ZSTD(1))",
    "revision": "Int32 CODEC(ZSTD(1))",
    "origin": "LowCardinality(String)",
    "source": "LowCardinality(String)",
}
_TYPES: Final = {"float64": "Float64", "int64": "Int64", "bool": "Bool", "utf8": "String"}
# ClickHouse reads a statement of up to 256 KiB; 5,000 symbols are about 100 kB of it.
MAX_SYMBOLS: Final = 5_000


def literal(value: str | int) -> str:
    """Return a value as ClickHouse reads it in a statement; a text cannot end its own quotes."""
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\x00", "\\0")
    return f"'{escaped}'"


def instant(micros: int) -> str:
    """Return an instant as a literal."""
    return f"fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')"


def create_database(database: str) -> str:
    """Return the statement that makes the database."""
    return f"CREATE DATABASE IF NOT EXISTS {database}"


def exists(table: str) -> str:
    """Return the query for whether there is a table."""
    database, name = table.split(".")
    return f"SELECT name FROM system.tables WHERE database = {literal(database)} AND name = {literal(name)}"


def create_table(table: str, kind: Kind) -> str:
    """Return the statement that makes the table of a kind."""
    columns = [f"{name} {_BASE[name]}" for name, _ in BASE_COLUMNS]
    columns += [f"{field.name} {_field_type(field)}" for field in kind.fields]
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (market LowCardinality(String), {', '.join(columns)}) "
        "ENGINE = ReplacingMergeTree PARTITION BY (market, toYYYYMM(event_at)) "
        "ORDER BY (symbol, event_at, row_id, revision)"
    )


def _field_type(field: Field) -> str:
    if field.type == "list<float64>":
        return "Array(Float64) CODEC(ZSTD(1))"
    plain = _TYPES[field.type]
    codec = "ZSTD(3)" if field.type == "utf8" else "ZSTD(1)"
    return f"{plain if field.is_required else f'Nullable({plain})'} CODEC({codec})"


def create_quarantine(table: str) -> str:
    """Return the statement that makes the table of refused rows; equal ones are kept once."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (kind LowCardinality(String), market LowCardinality(String), "
        "digest String, reason LowCardinality(String), received String CODEC(ZSTD(3))) "
        "ENGINE = ReplacingMergeTree ORDER BY (kind, market, digest)"
    )


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of one market with first <= event_at <= last and known_at <= known, in microseconds since 1970."""

    table: str
    market: str
    symbols: tuple[str, ...] | None
    first: int
    last: int
    known: int
    revisions: Revisions

    def where(self) -> str:
        """Return the condition; the engine cuts months, granules and columns by it."""
        return condition(self, of=f"market = {literal(self.market)}", time="event_at")

    def one_by(self) -> str:
        """Return what one row is kept of: of a name the newest revision, or of each revision one."""
        return ", ".join(_NAME if self.revisions == "all" else _NAME[:3])


def select_rows(wanted: Range, columns: Sequence[str]) -> str:
    """Return the query for rows, sorted by name."""
    return f"SELECT {selected(columns)} FROM ({_chosen(wanted, columns)}) ORDER BY {_ORDER}"


def select_last(wanted: Range, columns: Sequence[str], n: int) -> str:
    """Return the query for the n newest rows of each symbol, sorted by name."""
    return (
        f"SELECT {selected(columns)} FROM (SELECT * FROM ({_chosen(wanted, columns)}) "
        f"ORDER BY event_at DESC, row_id DESC LIMIT {n} BY symbol) ORDER BY {_ORDER}"
    )


def _chosen(wanted: Range, columns: Sequence[str]) -> str:
    needed = dict.fromkeys([*columns, *_NAME])
    return (
        f"SELECT {', '.join(needed)} FROM {wanted.table} WHERE {wanted.where()} "
        f"ORDER BY symbol, event_at, row_id, revision DESC LIMIT 1 BY {wanted.one_by()}"
    )


class RowRange(Protocol):
    """What both kinds of ranges say of rows; instants are microseconds since 1970, bounds inclusive."""

    @property
    def symbols(self) -> tuple[str, ...] | None: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def known(self) -> int: ...
    @property
    def revisions(self) -> str: ...


def condition(wanted: RowRange, *, of: str, time: str) -> str:
    """Return the condition of a range. of: that of its series. time: the column that `first` and `last` bound."""
    conditions = [
        of,
        f"{time} >= {instant(wanted.first)}",
        f"{time} <= {instant(wanted.last)}",
        f"known_at <= {instant(wanted.known)}",
    ]
    if wanted.symbols is not None:
        conditions.append(f"symbol IN ({', '.join(literal(symbol) for symbol in wanted.symbols)})")
    if wanted.revisions == "first":
        conditions.append("revision = 0")
    return " AND ".join(conditions)


def selected(columns: Sequence[str]) -> str:
    """Return the columns of a SELECT, instants as integers."""
    return ", ".join(f"toUnixTimestamp64Micro({name}) AS {name}_us" if name in INSTANTS else name for name in columns)


def select_distinct(table: str, column: str, *, market: str | None = None) -> str:
    """Return the query for a column's values, sorted."""
    where = "" if market is None else f" WHERE market = {literal(market)}"
    return f"SELECT DISTINCT {column} FROM {table}{where} ORDER BY {column}"


def select_range(table: str, *, market: str) -> str:
    """Return the query for the number of rows and the first and last event_at."""
    return (
        "SELECT count() AS n, toUnixTimestamp64Micro(min(event_at)) AS first, "
        f"toUnixTimestamp64Micro(max(event_at)) AS last FROM {table} WHERE market = {literal(market)}"
    )


def select_contents(table: str, columns: Sequence[str], *, market: str) -> str:
    """
    Return the query for what names the content: of each month the rows and the sum of their SHA-256 modulo 2^256.

    A sum does not depend on the order of rows or parts, so it needs neither a sort nor the rows on this side. FINAL
    counts a row once that stands twice until parts are merged.
    """
    values = ", ".join(f"toUnixTimestamp64Micro({name})" if name in INSTANTS else name for name in columns)
    return (
        "SELECT toYYYYMM(event_at) AS month, count() AS n, "
        f"hex(sum(reinterpretAsUInt256(SHA256(toString(tuple({values})))))) AS content "
        f"FROM {table} FINAL WHERE market = {literal(market)} GROUP BY month ORDER BY month"
    )


def select_quarantine(table: str, *, kind: str, market: str) -> str:
    """Return the query for refused rows, each once."""
    return (
        f"SELECT reason, received FROM {table} WHERE kind = {literal(kind)} AND market = {literal(market)} "
        "ORDER BY digest LIMIT 1 BY digest"
    )
