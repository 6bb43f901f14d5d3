"""Reading a table of the lake: which parts, row groups and columns a query needs, and nothing more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import Kind
from qraft_store.tables.folder import TableFolder
from qraft_store.tables.manifest import Manifest, Part, overlaps
from qraft_store.tables.parts import keep, read_part, with_symbols
from qraft_store.tables.port import Pieces, Revisions
from qraft_store.tables.rows import latest, order_of
from qraft_store.tables.schema import NAME_COLUMNS, micros_of, table_schema

# After every instant that a row may name.
END_OF_TIME: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Query:
    """What a read asks for. first, last (inclusive) and known: microseconds since 1970."""

    kind: Kind
    symbols: tuple[str, ...] | None
    first: int
    last: int
    known: int
    columns: tuple[str, ...]
    revisions: Revisions

    def touches(self, part: Part, bits: int | None) -> bool:
        """Return whether a part may hold a wanted row, by what the manifest says of it."""
        return (
            part.first <= self.last
            and part.last >= self.first
            and part.known_first <= self.known
            and (bits is None or bool(int(part.symbols, 16) & bits))
        )


def scan(folder: TableFolder, manifest: Manifest, query: Query) -> pa.Table:
    """Return the rows that a query wants, sorted, with its columns in its order."""
    bits = None if query.symbols is None else manifest.bits(query.symbols)
    found = []
    for name in sorted(manifest.partitions):
        parts = [part for part in manifest.partitions[name] if query.touches(part, bits)]
        if parts:
            found.append(_partition(folder, parts, query))
    schema = table_schema(query.kind.name)
    wanted = pa.schema([schema.field(name) for name in query.columns])
    return pa.concat_tables([wanted.empty_table(), *(table.select(query.columns) for table in found)]).cast(wanted)


def pieces(folder: TableFolder, manifest: Manifest, query: Query, known: Collection[str]) -> Pieces:
    """Return the files that a query wants, and the wanted rows of those that are not known."""
    bits = None if query.symbols is None else manifest.bits(query.symbols)
    parts = [part for parts in manifest.partitions.values() for part in parts]
    touched = [part for part in parts if query.touches(part, bits)]
    later = replace(query, first=query.last + 1, last=END_OF_TIME)
    rows = {
        part.file: _partition(folder, [part], query).select(list(query.columns))
        for part in touched
        if part.file not in known
    }
    cut = frozenset(part.file for part in parts if later.touches(part, bits))
    return Pieces(frozenset(part.file for part in touched), cut, rows)


def _partition(folder: TableFolder, parts: Sequence[Part], query: Query, *, newest_groups: int = 0) -> pa.Table:
    """Return one partition's wanted rows with the columns of the query, and more that were needed to choose them."""
    is_mixed = overlaps(parts)
    columns = _needed(parts, query, is_mixed=is_mixed)
    tables = []
    for part in sorted(parts, key=lambda part: part.first):
        table = read_part(
            folder,
            part,
            kind=query.kind,
            columns=columns,
            first=query.first,
            last=query.last,
            newest_groups=newest_groups,
        )
        tables.append(_filtered(table, part, query))
    rows = pa.concat_tables(tables).combine_chunks()
    if is_mixed:
        rows = rows.take(order_of(rows))
    if query.revisions == "latest" and any(part.revision_max for part in parts):
        rows = latest(rows)
    return rows


def _needed(parts: Sequence[Part], query: Query, *, is_mixed: bool) -> list[str]:
    """Return the columns to decode: those asked for, and what filtering, sorting and revisions of these parts take."""
    extra: list[str] = []
    has_revisions = any(part.revision_max for part in parts)
    if is_mixed or (has_revisions and query.revisions == "latest"):
        extra += NAME_COLUMNS
    if has_revisions and query.revisions == "first":
        extra.append("revision")
    if any(part.known_last > query.known for part in parts):
        extra.append("known_at")
    if query.symbols is not None:
        extra.append("symbol")
    return list(dict.fromkeys([*query.columns, *extra]))


def _filtered(table: pa.Table, part: Part, query: Query) -> pa.Table:
    if part.known_last > query.known:
        table = keep(table, micros_of(table, "known_at") <= query.known)
    if query.revisions == "first" and part.revision_max:
        table = keep(table, np.asarray(table["revision"]) == 0)
    return with_symbols(table, query.symbols)


def partition_rows(folder: TableFolder, parts: Sequence[Part], *, kind: Kind) -> pa.Table:
    """Return all rows of a partition, every revision, sorted."""
    columns = tuple(table_schema(kind.name).names)
    first, last = min(part.first for part in parts), max(part.last for part in parts)
    known = max(part.known_last for part in parts)
    return _partition(folder, parts, Query(kind, None, first, last, known, columns, "all")).select(columns)


def last_rows(folder: TableFolder, manifest: Manifest, query: Query, n: int) -> pa.Table:
    """Return of each symbol the n newest rows, walking back from the newest partition until all have them."""
    missing = set(manifest.symbols) if query.symbols is None else set(query.symbols) & set(manifest.symbols)
    have = dict.fromkeys(missing, 0)
    found: list[pa.Table] = []
    for name in sorted(manifest.partitions, reverse=True):
        if not missing or n <= 0:
            break
        now = replace(query, symbols=tuple(missing))
        bits = manifest.bits(missing)
        parts = [part for part in manifest.partitions[name] if now.touches(part, bits)]
        if not parts:
            continue
        rows = _newest(folder, parts, now, {symbol: n - have[symbol] for symbol in missing})
        found.append(rows)
        for symbol, count in _counts(rows).items():
            have[symbol] += count
        missing = {symbol for symbol in missing if have[symbol] < n}
    schema = table_schema(query.kind.name)
    return pa.concat_tables([schema.empty_table(), *reversed(found)]).select(list(query.columns)).cast(schema)


def _newest(folder: TableFolder, parts: Sequence[Part], query: Query, wanted: dict[str, int]) -> pa.Table:
    """
    Return of each symbol its newest wanted rows of a partition.

    One part is read from its last row group back, twice as many each time. Where a row group begins amid the revisions
    of a name it holds the highest ones; if none of these was known yet the name is missing, but it is older than every
    other row that was read.
    """
    n_groups = parts[0].n_groups if len(parts) == 1 else 0
    groups = 1
    while groups < n_groups:
        rows = _tail(_partition(folder, parts, query, newest_groups=groups), wanted)
        counts = _counts(rows)
        if all(counts.get(symbol, 0) >= n for symbol, n in wanted.items()):
            return rows
        groups *= 2
    return _tail(_partition(folder, parts, query), wanted)


def _tail(rows: pa.Table, wanted: dict[str, int]) -> pa.Table:
    """Return of each symbol at most so many rows, the last ones."""
    encoded: Any = pc.dictionary_encode(rows["symbol"].combine_chunks())
    codes = np.asarray(encoded.indices)
    limits = np.array([wanted.get(symbol, 0) for symbol in encoded.dictionary.to_pylist()], dtype=np.int64)
    order = np.argsort(codes[::-1], kind="stable")  # newest first within a symbol
    starts = np.searchsorted(codes[::-1][order], np.arange(limits.size))
    rank = np.empty(codes.size, dtype=np.int64)
    rank[order] = np.arange(codes.size) - starts[codes[::-1][order]]
    return keep(rows, rank[::-1] < limits[codes])


def _counts(rows: pa.Table) -> dict[str, int]:
    symbols, counts = np.unique(rows["symbol"].to_numpy(), return_counts=True)
    return dict(zip(symbols.tolist(), counts.tolist(), strict=True))
