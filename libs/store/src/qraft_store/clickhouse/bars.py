"""
The BarStore in ClickHouse. Order, duplicates, panels and versions are those of the lake; reads are pushed down.

One process writes a series, as in the lake; there is no lock here that would turn a second one away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_store.bars.content import rows_sha256, series_version, sort_rows
from qraft_store.bars.panel import MAX_PANEL_CELLS, PanelDraft
from qraft_store.bars.partitions import Division
from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.raw import checked_rows, span_us
from qraft_store.bars.rows import (
    ROW_SCHEMA,
    checked_end,
    closed_micros,
    instant_of,
    is_first_revision,
    micros,
    new_rows,
    table_of,
)
from qraft_store.clickhouse import sql, sql_bars
from qraft_store.clickhouse.inserts import EARLIEST_US, LATEST_US, blocks, months_of, within_reach
from qraft_store.clickhouse.port import Executor
from qraft_store.tables.schema import check_market, distinct

# Hashes of partitions that have not changed; more are of series that nobody asks for again.
_KNOWN_VERSIONS_MAX: Final = 10_000


class ClickHouseBars:
    """Bars of all series in one table, made when the first bar comes."""

    def __init__(self, executor: Executor, *, database: str = "qraft") -> None:
        self._executor = executor
        self._table = f"{database}.bars"
        self._database = database
        self._is_made = False
        self._ends: dict[tuple[str, str], int] = {}  # of the series that this process writes
        self._sha256s: dict[tuple[str, ...], str] = {}

    def append(self, batches: Sequence[BarBatch]) -> int:
        """
        Store batches and return how many rows were new; see the port. Nothing of a faulty series is stored.

        Raises:
            ValueError: as the port says.
            Transient: if ClickHouse cannot be reached or is full; the same call again stores what is missing.
        """
        by_series: dict[tuple[str, str], list[BarBatch]] = {}
        for batch in batches:
            by_series.setdefault((batch.market, batch.interval), []).append(batch)
        return sum(self._append(market, interval, table_of(part)) for (market, interval), part in by_series.items())

    def append_rows(self, rows: pa.Table, *, market: str, interval: str) -> int:
        """
        Store plain rows; see the port. Nothing of a faulty call is stored.

        Raises:
            ValueError: as the port says.
            Transient: if ClickHouse cannot be reached or is full; the same call again stores what is missing.
        """
        _division(market, interval)
        return self._append(market, interval, checked_rows(rows, interval=interval), is_restored=True)

    def _append(self, market: str, interval: str, rows: pa.Table, *, is_restored: bool = False) -> int:
        self._make()
        division = _division(market, interval)
        end = self._ends.pop((market, interval), None)
        if end is None:
            bounds = self.range(market=market, interval=interval)
            end = micros(bounds[1]) if bounds else 0
        ordinals = division.ordinals(closed_micros(rows))
        parts: list[pa.Table] = []
        for ordinal in np.unique(ordinals):
            part = rows.filter(pa.array(ordinals == ordinal)).combine_chunks()
            is_ahead = is_first_revision(part).all() and closed_micros(part).min() > end
            new = new_rows(part, None if is_ahead else self._stored(market, interval, part), is_exact=is_restored)
            end = checked_end(new, end, is_restored=is_restored)
            parts.append(new)
        new = pa.concat_tables([ROW_SCHEMA.empty_table(), *parts])
        for part in _inserts(new):
            self._executor.insert(self._table, _named(part, market, interval))
        self._ends[market, interval] = end
        return new.num_rows

    def read(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """Return the bars with start < closed_at <= end; see the port."""
        step = _division(market, interval).step_us
        first = (micros(start) // step + 1) * step
        n_bars = max(0, micros(end) // step - first // step + 1)
        known = micros(end if as_of is None else as_of)
        asked = tuple(symbols) if symbols else None
        last = first + (n_bars - 1) * step
        rows = self._select(market, interval, asked, first=first, last=last, known=known, revisions=revisions)
        draft = PanelDraft(
            asked if asked is not None else tuple(sorted(distinct(rows["symbol"]))),
            first_us=first,
            n_bars=n_bars,
            step_us=step,
            as_of_us=known,
            revisions=revisions,
        )
        draft.add_rows(rows)
        return draft.panel(market=market, interval=interval, keeps_empty=asked is not None)

    def last(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        n: int,
        as_of: datetime,
        revisions: BarRevisions = "first",
    ) -> BarPanel | None:
        """Return the n grid steps that end with the newest bar known by `as_of`; see the port."""
        if not 1 <= n <= MAX_PANEL_CELLS:
            raise ValueError(f"expected from one bar to {MAX_PANEL_CELLS}, received n = {n}")
        division = _division(market, interval)
        if not self._exists():
            return None
        asked = tuple(symbols) if symbols else None
        known = micros(as_of)
        wanted = self._range(market, interval, asked, first=EARLIEST_US, last=known, known=known, revisions=revisions)
        (found,) = self._executor.select(sql_bars.select_newest(wanted)).to_pylist()
        if not found["n"]:
            return None
        return self.read(
            market=market,
            interval=interval,
            symbols=symbols,
            start=instant_of(found["newest"] - n * division.step_us),
            end=instant_of(found["newest"]),
            as_of=as_of,
            revisions=revisions,
        )

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        _division(market, interval)
        if not self._exists():
            return None
        query = sql_bars.select_bounds(self._table, market=market, interval=interval)
        (found,) = self._executor.select(query).to_pylist()
        return (instant_of(found["first"]), instant_of(found["last"])) if found["n"] else None

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the markets that have rows of an interval, sorted."""
        _division("any", interval)
        return self._distinct("market", sql_bars.select_markets(self._table, interval=interval))

    def symbols(self, *, market: str, interval: str) -> tuple[str, ...]:
        """Return the symbols stored, in any revision, sorted."""
        _division(market, interval)
        return self._distinct("symbol", sql_bars.select_symbols(self._table, market=market, interval=interval))

    def version(self, *, market: str, interval: str) -> str:
        """Return the SHA-256 that names the stored rows, equal to the lake's; reads the partitions that changed."""
        division = _division(market, interval)
        if not self._exists():
            return series_version(market, interval, [])
        query = sql_bars.select_fingerprints(
            self._table, ROW_SCHEMA.names, market=market, interval=interval, unit=division.unit
        )
        found = []
        for row in self._executor.select(query).to_pylist():
            key = (market, interval, str(row["first"]), str(row["n"]), str(row["content"]))
            if key not in self._sha256s:
                if len(self._sha256s) >= _KNOWN_VERSIONS_MAX:
                    self._sha256s.clear()
                rows = self._select(
                    market, interval, None, first=row["first"], last=row["last"], known=LATEST_US, revisions="all"
                )
                self._sha256s[key] = rows_sha256(sort_rows(rows))
            found.append((division.of(row["first"]).name, self._sha256s[key]))
        return series_version(market, interval, found)

    def rows(
        self,
        *,
        market: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> Iterator[pa.Table]:
        """Give every stored revision as plain rows; see the port."""
        unit = _division(market, interval).unit
        first, last = span_us(start, end)
        known = LATEST_US if as_of is None else micros(as_of)
        wanted = self._range(market, interval, None, first=first, last=last, known=known, revisions="all")
        periods = self._executor.select(sql_bars.select_periods(wanted, unit=unit)) if self._exists() else pa.table({})
        for row in periods.to_pylist():
            found = self._select(
                market, interval, None, first=row["first"], last=row["last"], known=known, revisions="all"
            )
            yield sort_rows(found).combine_chunks()

    def _make(self) -> None:
        if not self._is_made:
            self._executor.execute(sql.create_database(self._database))
            self._executor.execute(sql_bars.create_bars(self._table))
            self._is_made = True

    def _exists(self) -> bool:
        self._is_made = self._is_made or bool(self._executor.select(sql.exists(self._table)).num_rows)
        return self._is_made

    def _distinct(self, column: str, query: str) -> tuple[str, ...]:
        found = self._executor.select(query) if self._exists() else pa.table({})
        return tuple(distinct(found[column])) if found.num_rows else ()

    def _stored(self, market: str, interval: str, rows: pa.Table) -> pa.Table:
        """Return every stored revision of the bars of one partition that rows may name again."""
        closed = closed_micros(rows)
        return self._select(
            market,
            interval,
            None,
            first=int(closed.min()),
            last=int(closed.max()),
            known=LATEST_US,
            revisions="all",
        )

    def _range(
        self,
        market: str,
        interval: str,
        symbols: tuple[str, ...] | None,
        *,
        first: int,
        last: int,
        known: int,
        revisions: BarRevisions | Literal["all"],
    ) -> sql_bars.BarRange:
        if symbols is not None and len(symbols) > sql.MAX_SYMBOLS:
            raise ValueError(f"expected at most {sql.MAX_SYMBOLS} symbols, received {len(symbols)}: ask for all (None)")
        low, high, until = map(within_reach, (first, last, known))
        return sql_bars.BarRange(self._table, market, interval, symbols, low, high, until, revisions)

    def _select(
        self,
        market: str,
        interval: str,
        symbols: tuple[str, ...] | None,
        *,
        first: int,
        last: int,
        known: int,
        revisions: BarRevisions | Literal["all"],
    ) -> pa.Table:
        wanted = self._range(market, interval, symbols, first=first, last=last, known=known, revisions=revisions)
        found = self._executor.select(sql_bars.select_bars(wanted)) if self._exists() else pa.table({})
        if not found.num_rows:
            return ROW_SCHEMA.empty_table()
        columns: list[Any] = [
            column.combine_chunks().cast(field.type)
            for column, field in zip(found.itercolumns(), ROW_SCHEMA, strict=True)
        ]
        return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def _division(market: str, interval: str) -> Division:
    check_market(market)
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"expected an interval out of {list(INTERVAL_SECONDS)}, received {interval!r}")
    return Division(interval)


def _named(rows: pa.Table, market: str, interval: str) -> pa.Table:
    """Return rows as the table has them, instants as integers."""
    columns: dict[str, Any] = {"market": [market] * rows.num_rows, "bar_interval": [interval] * rows.num_rows}
    for name in rows.column_names:
        is_instant = pa.types.is_timestamp(rows.schema.field(name).type)
        columns[name] = rows[name].cast(pa.int64()) if is_instant else rows[name]
    return pa.table(columns)


def _inserts(rows: pa.Table) -> Iterator[pa.Table]:
    """Return rows in blocks; their partitions are in order of time."""
    order = np.argsort(months_of(closed_micros(rows)), kind="stable")
    ordered = rows.take(order)
    return blocks(ordered, closed_micros(ordered))
