"""
Every statement about bars. One table holds all markets and intervals; why it is made so is said in `sql.py`.

A bar's name is (market, bar_interval, symbol, closed_at, revision); the interval leads the sorting key, since nothing
reads two intervals at once.
"""

# ruff: noqa: S608
# Every value in a statement goes through `literal` or is an integer.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from qraft_store.bars.port import BarRevisions
from qraft_store.bars.rows import ROW_SCHEMA, VALUES
from qraft_store.clickhouse.sql import condition, literal, selected

_INSTANT: Final = "DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1))"
_PERIODS: Final = {"D": "toDate32(closed_at)", "M": "toStartOfMonth(closed_at)", "Y": "toStartOfYear(closed_at)"}


def create_bars(table: str) -> str:
    """Return the statement that makes the table of bars."""
    values = ", ".join(f"{name} Float64 CODEC(ZSTD(1))" for name in VALUES)
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (market LowCardinality(String), bar_interval LowCardinality(String), "
        f"symbol LowCardinality(String), closed_at {_INSTANT}, known_at {_INSTANT}, revision Int32 CODEC(ZSTD(1)), "
        f"origin LowCardinality(String), {values}) "
        "ENGINE = ReplacingMergeTree PARTITION BY (market, toYYYYMM(closed_at)) "
        "ORDER BY (bar_interval, symbol, closed_at, revision)"
    )


@dataclass(frozen=True, slots=True)
class BarRange:
    """Bars of one series with first <= closed_at <= last and known_at <= known, in microseconds since 1970."""

    table: str
    market: str
    interval: str
    symbols: tuple[str, ...] | None
    first: int
    last: int
    known: int
    revisions: BarRevisions | Literal["all"]

    def where(self) -> str:
        """Return the condition; the engine cuts months, granules and columns by it."""
        return condition(self, of=_of_series(self.market, self.interval), time="closed_at")


def _of_series(market: str, interval: str) -> str:
    return f"market = {literal(market)} AND bar_interval = {literal(interval)}"


def select_bars(wanted: BarRange) -> str:
    """Return the query for bars: of each the newest revision, revision 0, or all of them; in no order."""
    one_by = "symbol, closed_at, revision" if wanted.revisions == "all" else "symbol, closed_at"
    return (
        f"SELECT {selected(ROW_SCHEMA.names)} FROM {wanted.table} WHERE {wanted.where()} "
        f"ORDER BY symbol, closed_at, revision DESC LIMIT 1 BY {one_by}"
    )


def select_newest(wanted: BarRange) -> str:
    """Return the query for the newest closed_at of a range and how many rows it has."""
    return (
        "SELECT count() AS n, toUnixTimestamp64Micro(max(closed_at)) AS newest "
        f"FROM {wanted.table} WHERE {wanted.where()}"
    )


def select_bounds(table: str, *, market: str, interval: str) -> str:
    """Return the query for the first and last closed_at of revision 0."""
    return (
        "SELECT count() AS n, toUnixTimestamp64Micro(min(closed_at)) AS first, "
        f"toUnixTimestamp64Micro(max(closed_at)) AS last FROM {table} "
        f"WHERE {_of_series(market, interval)} AND revision = 0"
    )


def select_markets(table: str, *, interval: str) -> str:
    """Return the query for the markets that have bars of an interval."""
    return f"SELECT DISTINCT market FROM {table} WHERE bar_interval = {literal(interval)} ORDER BY market"


def select_symbols(table: str, *, market: str, interval: str) -> str:
    """Return the query for the symbols of a series."""
    return f"SELECT DISTINCT symbol FROM {table} WHERE {_of_series(market, interval)} ORDER BY symbol"


def select_periods(wanted: BarRange, *, unit: str) -> str:
    """Return the query for the first and last closed_at of each day, month or year of a range that holds rows."""
    return (
        f"SELECT toUnixTimestamp64Micro(min(closed_at)) AS first, toUnixTimestamp64Micro(max(closed_at)) AS last "
        f"FROM {wanted.table} WHERE {wanted.where()} GROUP BY {_PERIODS[unit]} ORDER BY first"
    )


def select_fingerprints(table: str, columns: Sequence[str], *, market: str, interval: str, unit: str) -> str:
    """Return the query for what tells whether a day, month or year has changed: its rows and a sum of hashes."""
    values = selected(columns).replace(" AS closed_at_us", "").replace(" AS known_at_us", "")
    return (
        f"SELECT toUnixTimestamp64Micro(min(closed_at)) AS first, toUnixTimestamp64Micro(max(closed_at)) AS last, "
        f"count() AS n, hex(sum(reinterpretAsUInt128(sipHash128({values})))) AS content FROM {table} FINAL "
        f"WHERE {_of_series(market, interval)} GROUP BY {_PERIODS[unit]} ORDER BY first"
    )
