"""The TableStore's twin in memory: the same behavior in the plainest words, for tests."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import pyarrow as pa

from qraft_contracts.kinds import Field, Kind
from qraft_store.tables.content import content_hash, version_of
from qraft_store.tables.layout import partition_name
from qraft_store.tables.port import Appended, Pieces, Revisions
from qraft_store.tables.rows import KNOWN_EARLIER, OTHER_VALUES
from qraft_store.tables.rules import LAST_MICROS, ORIGINS, first_micros
from qraft_store.tables.schema import check_market, conform, instant_of, kind_of, micros, table_schema, wanted_columns

_Row = dict[str, Any]  # column → value; instants as microseconds since 1970
_INSTANTS = ("event_at", "known_at")


@dataclass(slots=True)
class _Table:
    kind: Kind
    # (event_at, symbol, row_id) → revision → row
    rows: dict[tuple[int, str, str], dict[int, _Row]] = field(default_factory=dict)
    quarantined: dict[str, tuple[_Row, str]] = field(default_factory=dict)

    def append(self, row: _Row) -> str:
        """Store one row and return `new`, `repeated` or why it is refused."""
        row = {name: None if _is_nan(value) else value for name, value in row.items()}
        revisions = self.rows.setdefault((row["event_at"], row["symbol"], row["row_id"]), {})
        number = row["revision"]
        if number in revisions:
            same = all(revisions[number][name] == row[name] for name in self.kind.field_names)
            return "repeated" if same else OTHER_VALUES
        for other, sibling in revisions.items():
            if (sibling["known_at"] > row["known_at"]) if other < number else (sibling["known_at"] < row["known_at"]):
                return KNOWN_EARLIER
        revisions[number] = row
        return "new"

    def sorted(self) -> Iterator[list[_Row]]:
        """Return the revisions of each name, names and revisions in order."""
        for name in sorted(self.rows):
            if self.rows[name]:
                yield [self.rows[name][number] for number in sorted(self.rows[name])]


class MemoryTables:
    """Tables in dictionaries."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], _Table] = {}

    def append(self, kind: str, *, market: str, rows: pa.Table) -> Appended:
        """Store rows; see the port."""
        check_market(market)
        received = _rows_of(conform(kind, rows))
        table = self._tables.setdefault((kind, market), _Table(kind_of(kind)))
        counts = {"new": 0, "repeated": 0, "refused": 0}
        judged = [(row, _broken_rule(table.kind, row)) for row in received]
        # Within a call a row comes before its revisions, however they were sent.
        clean = sorted((row for row, reason in judged if reason is None), key=lambda row: row["revision"])
        refused = [(row, reason) for row, reason in judged if reason is not None]
        for row in clean:
            outcome = table.append(row)
            if outcome in counts:
                counts[outcome] += 1
            else:
                refused.append((row, outcome))
        for row, reason in refused:
            table.quarantined.setdefault(repr((row, reason)), (row, reason))
        return Appended(counts["new"], counts["repeated"], len(refused))

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
        first, last, known = micros(start), micros(end), micros(end if as_of is None else as_of)
        wanted = wanted_columns(kind, columns)
        found = [
            row
            for group in self._table(kind, market).sorted()
            if first < group[0]["event_at"] <= last and (symbols is None or group[0]["symbol"] in symbols)
            for row in _chosen(group, known, revisions)
        ]
        return _table_of(kind, found).select(wanted)

    def last(self, kind: str, *, market: str, symbols: Sequence[str] | None, n: int, as_of: datetime) -> pa.Table:
        """Return of each symbol the n newest rows; see the port."""
        known = micros(as_of)
        found = [row for group in self._table(kind, market).sorted() for row in _chosen(group, known, "latest")]
        by_symbol = groupby(sorted(found, key=lambda row: str(row["symbol"])), key=lambda row: row["symbol"])
        newest = [
            row
            for symbol, rows in by_symbol
            if symbols is None or symbol in symbols
            for row in list(rows)[-n:]
            if n > 0
        ]
        return _table_of(kind, sorted(newest, key=lambda row: (row["event_at"], row["symbol"], row["row_id"])))

    def mark(self, kind: str, *, market: str) -> str:
        """Return how many rows there are: rows only come; see the port."""
        n_rows = sum(len(group) for group in self._table(kind, market).sorted())
        return str(n_rows) if n_rows else ""

    def pieces(
        self,
        kind: str,
        *,
        market: str,
        symbols: Sequence[str],
        start: datetime,
        end: datetime,
        columns: Sequence[str],
        known: Collection[str],
    ) -> Pieces:
        """Return the table as one piece, another one after every row; see the port."""
        name, first, last = self.mark(kind, market=market), micros(start), micros(end)
        groups = [
            group for group in self._table(kind, market).sorted()
            if group[0]["symbol"] in symbols and group[0]["event_at"] > first
        ]  # fmt: skip
        found = [row for group in groups if group[0]["event_at"] <= last for row in group]
        cut = frozenset({name} if len(found) < sum(len(group) for group in groups) else ())
        if not found:
            return Pieces(frozenset(), cut, {})
        rows = {} if name in known else {name: _table_of(kind, found).select(wanted_columns(kind, columns))}
        return Pieces(frozenset({name}), cut, rows)

    def markets(self, kind: str) -> tuple[str, ...]:
        """Return the markets that have rows of a kind, sorted."""
        kind_of(kind)
        return tuple(sorted(m for (k, m), table in self._tables.items() if k == kind and any(table.sorted())))

    def symbols(self, kind: str, *, market: str) -> tuple[str, ...]:
        """Return the symbols stored, sorted."""
        return tuple(sorted({group[0]["symbol"] for group in self._table(kind, market).sorted()}))

    def range(self, kind: str, *, market: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored event_at, or None when empty."""
        events = [group[0]["event_at"] for group in self._table(kind, market).sorted()]
        return (instant_of(events[0]), instant_of(events[-1])) if events else None

    def version(self, kind: str, *, market: str) -> str:
        """Return the SHA-256 that names the stored content; a Parquet lake of the same rows has the same."""
        rows = [row for group in self._table(kind, market).sorted() for row in group]
        partitions = groupby(rows, key=lambda row: partition_name(kind, market, row["event_at"]))
        return version_of(
            kind, market, [(name, content_hash(_table_of(kind, list(part)))) for name, part in partitions]
        )

    def quarantine(self, kind: str, *, market: str) -> pa.Table:
        """Return the quarantined rows, as received, with their `reason`; a row refused twice for one reason once."""
        kept = list(self._table(kind, market).quarantined.values())
        table = _table_of(kind, [row for row, _ in kept])
        return table.append_column("reason", pa.array([reason for _, reason in kept], pa.string()))

    def _table(self, kind: str, market: str) -> _Table:
        check_market(market)
        return self._tables.get((kind, market)) or _Table(kind_of(kind))


def _chosen(group: list[_Row], known: int, revisions: Revisions) -> list[_Row]:
    """Return of one name's revisions those that a read wants."""
    seen = [row for row in group if row["known_at"] <= known]
    if revisions == "latest":
        return seen[-1:]
    return [row for row in seen if row["revision"] == 0] if revisions == "first" else seen


def _rows_of(table: pa.Table) -> list[_Row]:
    for name in _INSTANTS:
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, table[name].cast(pa.int64()))
    return table.to_pylist()


def _table_of(kind: str, rows: list[_Row]) -> pa.Table:
    schema = table_schema(kind)
    arrays: list[Any] = []
    for column in schema:
        values = [row[column.name] for row in rows]
        plain = pa.int64() if column.name in _INSTANTS else column.type
        arrays.append(pa.array(values, plain, from_pandas=False).cast(column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _broken_rule(kind: Kind, row: _Row) -> str | None:
    """Return why the kind forbids a row, None if it does not: the rules of rules.py, said row by row."""
    if not row["symbol"]:
        return "missing: symbol"
    for name in _INSTANTS:
        if row[name] is None:
            return f"missing: {name}"
        if not first_micros(kind) <= row[name] < LAST_MICROS:
            return f"impossible_time: {name}"
    if row["known_at"] < row["event_at"]:
        return "known_before_event"
    if row["row_id"] is None or (kind.has_row_id and not row["row_id"]):
        return "missing: row_id"
    if row["row_id"] and not kind.has_row_id:
        return "unexpected: row_id"
    if row["revision"] is None or row["revision"] < 0:
        return "missing: revision" if row["revision"] is None else "out_of_bounds: revision"
    if row["origin"] not in ORIGINS:
        return "unknown: origin"
    if not row["source"]:
        return "missing: source"
    for declared in kind.fields:
        code = _broken_bound(declared, row[declared.name])
        if code is not None:
            return f"{code}: {declared.name}"
    for left, right in kind.same_length:
        if len(row[left]) != len(row[right]):
            return f"unequal_lengths: {left} {right}"
    for low, high in kind.at_most:
        if row[low] > row[high]:
            return f"not_at_most: {low} {high}"
    return None


def _broken_bound(declared: Field, value: Any) -> str | None:
    if declared.type == "list<float64>" and value is not None:
        if any(number is None or not math.isfinite(number) for number in value):
            return "not_finite"
        return "out_of_bounds" if any(not declared.low <= number <= declared.high for number in value) else None
    if value is None or value == "" or _is_nan(value):
        return "missing" if declared.is_required else None
    if isinstance(value, float) and math.isinf(value):
        return "not_finite"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "out_of_bounds" if is_number and not declared.low <= value <= declared.high else None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
