"""The BarStore's twin in memory: the same behaviour in the plainest words, for tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_store.bars.content import rows_sha256, series_version, sort_rows
from qraft_store.bars.partitions import Division
from qraft_store.bars.port import BarPanel, BarRevisions
from qraft_store.bars.raw import EVER_US, checked_rows, span_us, within
from qraft_store.bars.rows import REVISION_MAX, ROW_SCHEMA, VALUES, closed_micros, micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Key = tuple[str, datetime, int]  # symbol, closed_at, revision


@dataclass(frozen=True, slots=True)
class _Row:
    known_at: datetime
    origin: Origin
    values: tuple[float, float, float, float, float]


@dataclass(slots=True)
class _Series:
    rows: dict[_Key, _Row] = field(default_factory=dict)
    end: datetime = _EPOCH

    def append(self, batch: BarBatch) -> int:
        new: dict[_Key, _Row] = {}  # stored when all rows of the batch are right, or none is
        columns = (batch.open, batch.high, batch.low, batch.close, batch.volume)
        for i, symbol in enumerate(batch.symbols):
            key = (symbol, batch.closed_at, batch.revision)
            row = _Row(batch.known_at, batch.origin, tuple(float(column[i]) for column in columns))  # type: ignore[arg-type]
            stored = self.rows.get(key)
            if stored is None:
                self._check_order(batch)
                new[key] = row
            elif not _equal(stored, row):
                raise ValueError(f"expected the stored values again for {key}, received others")
        self.rows |= new
        if new and batch.revision == 0:
            self.end = batch.closed_at
        return len(new)

    def _check_order(self, batch: BarBatch) -> None:
        if batch.revision == 0 and batch.closed_at < self.end:
            raise ValueError(
                f"expected closed_at from {format_instant(self.end)} on, received {format_instant(batch.closed_at)}"
            )
        if batch.revision > 0 and batch.closed_at > self.end:
            raise ValueError(
                f"expected a revision of a bar up to {format_instant(self.end)}, received one of "
                f"{format_instant(batch.closed_at)}: the first row of a bar is revision 0"
            )


class MemoryBarStore:
    """Bars in a dictionary."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}

    def append(self, batches: Sequence[BarBatch]) -> int:
        """Store batches and return how many rows were new; see the port."""
        last: dict[tuple[str, str], datetime] = {}
        n_new = 0
        for batch in batches:
            name = (batch.market, batch.interval)
            if (batch.closed_at - _EPOCH) % timedelta(seconds=INTERVAL_SECONDS[batch.interval]):
                raise ValueError(f"expected closed_at on the {batch.interval} grid, received {batch.closed_at}")
            if batch.known_at < batch.closed_at or not 0 <= batch.revision <= REVISION_MAX:
                raise ValueError(f"expected known_at from {batch.closed_at} on and a revision, received {batch}")
            if batch.revision == 0:
                if batch.closed_at < last.get(name, _EPOCH):
                    raise ValueError(f"expected batches by increasing closed_at, received {batch.closed_at}")
                last[name] = batch.closed_at
            n_new += self._series.setdefault(name, _Series()).append(batch)
        return n_new

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
        if symbols and len(set(symbols)) < len(symbols):
            raise ValueError(f"expected each symbol once, received {list(symbols)}")
        known = self._known(market, interval, symbols, end if as_of is None else as_of, revisions)
        found = {key: row for key, row in known.items() if start < key[1] <= end}
        names = tuple(symbols) if symbols else tuple(sorted({symbol for symbol, _ in found}))
        if not found:
            return None
        step = timedelta(seconds=INTERVAL_SECONDS[interval])
        first = _EPOCH + ((start - _EPOCH) // step + 1) * step
        n_bars = (end - first) // step + 1
        grid = np.full((5, n_bars, len(names)), np.nan)
        for (symbol, closed_at), row in found.items():
            grid[:, (closed_at - first) // step, names.index(symbol)] = row.values
        closed = np.array([(first + i * step).replace(tzinfo=None) for i in range(n_bars)], dtype="datetime64[us]")
        origin = worst_origin(row.origin for row in found.values())
        return BarPanel(market, interval, origin, names, closed, *grid)

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
        if n < 1:
            raise ValueError(f"expected from one bar on, received n = {n}")
        known = self._known(market, interval, symbols, as_of, revisions)
        if not known:
            return None
        newest = max(closed_at for _, closed_at in known)
        start = newest - n * timedelta(seconds=INTERVAL_SECONDS[interval])
        return self.read(
            market=market,
            interval=interval,
            symbols=symbols,
            start=start,
            end=newest,
            as_of=as_of,
            revisions=revisions,
        )

    def _known(
        self, market: str, interval: str, symbols: Sequence[str] | None, as_of: datetime, revisions: BarRevisions
    ) -> dict[tuple[str, datetime], _Row]:
        """Return of each bar the row that a reader sees."""
        rows = self._series.get((market, interval), _Series()).rows
        return {
            (symbol, closed_at): row
            for (symbol, closed_at, revision), row in sorted(rows.items(), key=lambda item: item[0][2])
            if row.known_at <= as_of and (revision == 0 or revisions == "latest") and (not symbols or symbol in symbols)
        }

    def range(self, *, market: str, interval: str) -> tuple[datetime, datetime] | None:
        """Return the first and the last stored closed_at of revision 0, or None when empty."""
        series = self._series.get((market, interval), _Series())
        closed = [closed_at for _, closed_at, revision in series.rows if revision == 0]
        return (min(closed), max(closed)) if closed else None

    def markets(self, interval: str) -> tuple[str, ...]:
        """Return the markets that have rows of an interval, sorted."""
        return tuple(sorted(market for (market, of), series in self._series.items() if of == interval and series.rows))

    def symbols(self, *, market: str, interval: str) -> tuple[str, ...]:
        """Return the symbols stored, in any revision, sorted."""
        return tuple(sorted({symbol for symbol, _, _ in self._series.get((market, interval), _Series()).rows}))

    def version(self, *, market: str, interval: str) -> str:
        """Return the SHA-256 that names the stored rows; see the port."""
        parts = list(self._partitions(market, interval))
        return series_version(market, interval, [(name, rows_sha256(rows)) for name, rows in parts])

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
        (first, last), known = span_us(start, end), EVER_US if as_of is None else micros(as_of)
        for _, rows in self._partitions(market, interval):
            found = within(rows, first_us=first, last_us=last, known_us=known)
            if found.num_rows:
                yield found

    def append_rows(self, rows: pa.Table, *, market: str, interval: str) -> int:
        """Store plain rows; see the port."""
        series = self._series.setdefault((market, interval), _Series())
        new: dict[_Key, _Row] = {}
        for row in checked_rows(rows, interval=interval).to_pylist():
            key = (row["symbol"], row["closed_at"], row["revision"])
            candidate = _Row(row["known_at"], Origin(row["origin"]), tuple(row[name] for name in VALUES))
            stored = series.rows.get(key) or new.get(key)
            if stored is None:
                if not key[2] and key[1] < series.end:
                    raise ValueError(f"expected closed_at from {format_instant(series.end)} on, received {key}")
                new[key] = candidate
            elif not (_equal(stored, candidate) and stored.known_at == candidate.known_at
                      and stored.origin is candidate.origin):  # fmt: skip
                raise ValueError(f"expected the stored values again for {key}, received others")
        series.rows |= new
        series.end = max((closed_at for _, closed_at, revision in new if revision == 0), default=series.end)
        return len(new)

    def _partitions(self, market: str, interval: str) -> Iterator[tuple[str, pa.Table]]:
        """Give the name and the sorted rows of each partition that the lake would have, oldest first."""
        rows = self._series.get((market, interval), _Series()).rows
        columns = ("symbol", "closed_at", "revision", "known_at", "origin", *VALUES)
        table = pa.Table.from_pylist(
            [
                dict(zip(columns, (*key, row.known_at, row.origin.value, *row.values), strict=True))
                for key, row in rows.items()
            ],
            ROW_SCHEMA,
        )
        division = Division(interval)
        ordinals = division.ordinals(closed_micros(table))
        for ordinal in np.unique(ordinals):
            yield division.partition(int(ordinal)).name, sort_rows(table.filter(pa.array(ordinals == ordinal)))


def _equal(left: _Row, right: _Row) -> bool:
    pairs = zip(left.values, right.values, strict=True)
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)
