"""
The TableStore in ClickHouse: one table a kind, every revision kept, reads pushed down.

The rules, revisions and reasons are those of the lake, judged here against the stored rows of the same names.
ClickHouse has no lock to hold: as everywhere in this store one process writes a market's table, and an insert that was
cut off is completed by the same call again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from qraft_store.clickhouse import sql
from qraft_store.clickhouse.inserts import EARLIEST_US, LATEST_US, blocks, within_reach
from qraft_store.clickhouse.port import Executor
from qraft_store.tables.port import Appended, Revisions
from qraft_store.tables.quarantine import quarantine_schema
from qraft_store.tables.rows import canonical, judge
from qraft_store.tables.rules import Reasons, is_refused, reasons_of
from qraft_store.tables.schema import (
    check_market,
    conform,
    distinct,
    instant_of,
    kind_of,
    micros,
    micros_of,
    table_schema,
    wanted_columns,
)

# `last` looks so far back before it looks at everything: most series come at least monthly, the others yearly.
_DAY_US: Final = 86_400_000_000
_LOOK_BACK_US: Final = (31 * _DAY_US, 366 * _DAY_US)
_QUARANTINE: Final = "quarantine"


class ClickHouseTables:
    """Tables of a ClickHouse database, made when the first row comes."""

    def __init__(self, executor: Executor, *, database: str = "qraft") -> None:
        self._executor = executor
        self._database = database
        self._made: set[str] = set()

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """
        Store rows; see the port. A call that is cut off may have stored some of them; the same call again stores the
        others.

        Raises:
            ValueError: as the port says.
            Transient: if ClickHouse cannot be reached or is full.
        """
        check_market(market)
        known_kind = kind_of(kind)
        received = conform(kind, rows)
        reasons = reasons_of(known_kind, received)
        place = np.flatnonzero(~is_refused(reasons))
        if place.size == 0:
            self._keep(kind, market, received, reasons)
            return Appended(0, 0, int(is_refused(reasons).sum()))
        candidates = canonical(known_kind, received.take(place))
        table = self._table(kind)
        if table not in self._made:
            self._executor.execute(sql.create_database(self._database))
            self._executor.execute(sql.create_table(table, known_kind))
            self._made.add(table)
        judged = judge(known_kind, candidates, self._stored(kind, market, candidates))
        reasons[place[judged.refused]] = judged.reasons
        for part in blocks(judged.new, micros_of(judged.new, "event_at")):
            of_market = pa.array([market] * part.num_rows, pa.string())
            self._executor.insert(table, _instants_as_integers(part.add_column(0, "market", of_market)))
        self._keep(kind, market, received, reasons)
        return Appended(judged.new.num_rows, judged.n_repeated, int(is_refused(reasons).sum()))

    def read(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        columns: Sequence[str] | None = None,
        revisions: Revisions = "latest",
    ) -> pa.Table:
        """Return the rows with start < event_at <= end and known_at <= as_of; see the port."""
        first, last, known = micros(start) + 1, micros(end), micros(end if as_of is None else as_of)
        names = wanted_columns(kind, columns)
        wanted = self._range(kind, market, symbols, first=first, last=last, known=known, revisions=revisions)
        return self._read(kind, wanted, names)

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return of each symbol the n newest rows; looks at the last month first."""
        known = micros(as_of)
        names = table_schema(kind).names
        stored = self.symbols(kind, market=market)
        asked = [symbol for symbol in stored if symbols is None or symbol in symbols]
        if n <= 0 or not asked:
            return table_schema(kind).empty_table()
        found = table_schema(kind).empty_table()
        for back in (*_LOOK_BACK_US, known - EARLIEST_US):
            wanted = self._range(kind, market, asked, first=known - back, last=known, known=known, revisions="latest")
            found = self._typed(kind, names, self._executor.select(sql.select_last(wanted, names, n)))
            counts = found["symbol"].value_counts()
            if len(counts) == len(asked) and min(count["counts"].as_py() for count in counts) >= n:
                break
        return found

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets that have rows of a kind, sorted."""
        return self._distinct(kind, "market", None)

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols stored, sorted."""
        return self._distinct(kind, "symbol", check_market(market))

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored event_at, or None when empty."""
        check_market(market)
        if not self._exists(self._table(kind)):
            return None
        (row,) = self._executor.select(sql.select_range(self._table(kind), market=market)).to_pylist()
        return (instant_of(row["first"]), instant_of(row["last"])) if row["n"] else None

    def version(self, kind: str, *, market: str) -> str:
        """Return the SHA-256 that names the stored content; computed by ClickHouse, another one than the lake's."""
        check_market(market)
        table = self._table(kind)
        lines = [f"{kind} {market}"]
        if self._exists(table):
            query = sql.select_contents(table, table_schema(kind).names, market=market)
            lines += [f"{row['month']} {row['n']} {row['content']}" for row in self._executor.select(query).to_pylist()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows, as received, with their `reason`; a row refused twice for one reason once."""
        check_market(market)
        schema = quarantine_schema(kind_of(kind).name)
        table = f"{self._database}.{_QUARANTINE}"
        if not self._exists(table):
            return schema.empty_table()
        kept = self._executor.select(sql.select_quarantine(table, kind=kind, market=market)).to_pylist()
        rows = [json.loads(row["received"]) | {"reason": row["reason"]} for row in kept]
        columns: list[Any] = []
        for field in schema:
            plain = pa.int64() if pa.types.is_timestamp(field.type) else field.type
            columns.append(pa.array([row[field.name] for row in rows], plain, from_pandas=False).cast(field.type))
        found = pa.Table.from_arrays(columns, schema=schema)
        return found.sort_by([("event_at", "ascending"), ("symbol", "ascending"), ("row_id", "ascending")])

    def _table(self, kind: str) -> str:
        return f"{self._database}.{kind_of(kind).name}"

    def _exists(self, table: str) -> bool:
        if table not in self._made and self._executor.select(sql.exists(table)).num_rows:
            self._made.add(table)
        return table in self._made

    def _distinct(self, kind: str, column: str, market: str | None) -> tuple[str, ...]:
        if not self._exists(self._table(kind)):
            return ()
        found = self._executor.select(sql.select_distinct(self._table(kind), column, market=market))
        return tuple(distinct(found[column])) if found.num_rows else ()

    def _range(
        self,
        kind: str,
        market: str,
        symbols: Sequence[str] | None,
        *,
        first: int,
        last: int,
        known: int,
        revisions: Revisions,
    ) -> sql.Range:
        if symbols is not None and len(symbols) > sql.MAX_SYMBOLS:
            raise ValueError(f"expected at most {sql.MAX_SYMBOLS} symbols, received {len(symbols)}: ask for all (None)")
        low, high, until = map(within_reach, (first, last, known))
        names = None if symbols is None else tuple(symbols)
        return sql.Range(self._table(kind), check_market(market), names, low, high, until, revisions)

    def _read(self, kind: str, wanted: sql.Range, names: Sequence[str]) -> pa.Table:
        if wanted.symbols == () or not self._exists(wanted.table):
            return self._typed(kind, names, None)
        return self._typed(kind, names, self._executor.select(sql.select_rows(wanted, names)))

    def _typed(self, kind: str, names: Sequence[str], found: pa.Table | None) -> pa.Table:
        """Return selected columns with the kind's types."""
        schema = pa.schema([table_schema(kind).field(name) for name in names])
        if found is None or not found.num_rows:
            return schema.empty_table()
        return pa.Table.from_arrays(
            [
                column.combine_chunks().cast(field.type)
                for column, field in zip(found.itercolumns(), schema, strict=True)
            ],
            schema=schema,
        )

    def _stored(self, kind: str, market: str, candidates: pa.Table) -> pa.Table:
        """Return the stored rows that the candidates may name again, every revision."""
        event = micros_of(candidates, "event_at")
        symbols = distinct(candidates["symbol"])
        wanted = self._range(
            kind,
            market,
            symbols if len(symbols) <= sql.MAX_SYMBOLS else None,
            first=int(event.min()),
            last=int(event.max()),
            known=LATEST_US,
            revisions="all",
        )
        return self._read(kind, wanted, table_schema(kind).names)

    def _keep(self, kind: str, market: str, received: pa.Table, reasons: Reasons) -> None:
        """Store refused rows as JSON text: a table of typed columns could not hold what does not fit them."""
        refused = np.flatnonzero(is_refused(reasons))
        if not refused.size:
            return
        table = f"{self._database}.{_QUARANTINE}"
        if table not in self._made:
            self._executor.execute(sql.create_database(self._database))
            self._executor.execute(sql.create_quarantine(table))
            self._made.add(table)
        texts = [json.dumps(row) for row in _instants_as_integers(received.take(refused)).to_pylist()]
        why = [str(reason) for reason in reasons[refused]]
        digests = [
            hashlib.sha256(f"{reason} {text}".encode()).hexdigest() for reason, text in zip(why, texts, strict=True)
        ]
        columns = {
            "kind": [kind] * len(texts),
            "market": [market] * len(texts),
            "digest": digests,
            "reason": why,
            "received": texts,
        }
        self._executor.insert(table, pa.table(columns))


def _instants_as_integers(rows: pa.Table) -> pa.Table:
    arrays = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in rows.itercolumns()
    ]
    return pa.Table.from_arrays(arrays, names=rows.column_names)
