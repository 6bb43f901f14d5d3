"""Read the stores onto a grid of rows: bars by their own time, every other kind by the aligner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import stale_after_s
from qraft_contracts.origin import Origin, worst_origin
from qraft_data.calendars import expected_times
from qraft_data.query import FieldRef, Revisions
from qraft_data.times import SECOND_US, FloatArray, Int64Array, float_column, instant_of, micros, micros_column
from qraft_quant.align import as_of_index
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.port import TableStore

CALENDARS: Final = "calendars/"
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Reader:
    """
    One query's reading: the stores, the range, and what has been read so far.

    start, end, as_of, revisions: of the query. at_us: (n_rows,) the rows to fill, strictly increasing. has_versions:
    note of each source its version before it is read, for a snapshot.
    """

    bars: BarStore
    tables: TableStore
    start: datetime
    end: datetime
    as_of: datetime
    interval: str
    revisions: Revisions
    at_us: Int64Array
    has_versions: bool
    origins: set[Origin] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)

    def use(self, source: str) -> None:
        """Note a source that is about to be read, with its version where versions are wanted."""
        if source not in self.sources:
            self.sources[source] = version_of(self.bars, self.tables, source) if self.has_versions else ""

    def from_earlier(self, start: datetime, *, calendar: str | None) -> Reader:
        """Return a reader of the same rows and those from an earlier start before them; what it reads is noted here."""
        earlier = expected_times(calendar, self.interval, start, self.start)
        return replace(self, start=start, at_us=np.concatenate([earlier, self.at_us]))

    def bar_panel(self, market: str, symbols: Sequence[str]) -> BarPanel | None:
        """Return the bars of the range, or None when there is none."""
        self.use(f"bars/{self.interval}/{market}")
        panel = self.bars.read(
            market=market,
            interval=self.interval,
            symbols=tuple(symbols),
            start=self.start,
            end=self.end,
            as_of=self.as_of,
            revisions=self.revisions,
        )
        if panel is not None:
            self.origins.add(panel.origin)
        return panel

    def on_rows(self, panel: BarPanel | None, name: str, n_symbols: int) -> FloatArray:
        """Return one value of the bars that end at the rows' times, NaN where there is none."""
        found = np.full((self.at_us.size, n_symbols), np.nan)
        if panel is not None:
            _, of_panel, of_rows = np.intersect1d(
                panel.closed_at.astype(np.int64), self.at_us, assume_unique=True, return_indices=True
            )
            found[of_rows] = getattr(panel, name)[of_panel]
        return found

    def metric(self, ref: FieldRef, market: str, symbols: Sequence[str]) -> FloatArray:
        """Return one metric as `metrics` does."""
        return self.metrics([ref], market, symbols)[ref.name]

    def metrics(self, refs: Sequence[FieldRef], market: str, symbols: Sequence[str]) -> dict[str, FloatArray]:
        """
        Return the newest values known at each row's time, by name; NaN where none is or it is too old.

        Every revision is read, so a row sees what was known at its own time even where it was corrected later.

        Args:
            refs: of one kind, one series and one age, so that they are read and joined at once.

        Returns:
            (n_rows, n_symbols) each; one column where the references name a series.
        """
        kind, series, max_age_s = refs[0].kind, refs[0].symbol, refs[0].max_age_s
        assert all((ref.kind, ref.symbol, ref.max_age_s) == (kind, series, max_age_s) for ref in refs), "one table"
        age_s = stale_after_s(kind.name, series or "") if max_age_s is None else max_age_s
        start = earliest_event(int(self.at_us[0]) if self.at_us.size else micros(self.start), age_s)
        wanted = symbols if series is None else (series,)
        columns = tuple(ref.field.name for ref in refs)
        rows = self.rows(kind.name, market, wanted, start=start, columns=columns)
        found = as_of_columns(rows, columns, wanted, self.at_us, max_age_s=age_s)
        return {ref.name: found[ref.field.name] for ref in refs}

    def rows(
        self, kind: str, market: str, symbols: Sequence[str] | None, *, start: datetime, columns: Sequence[str]
    ) -> pa.Table:
        """Return all revisions known by as_of with start < event_at <= end, in the order in which they became known."""
        self.use(f"tables/{kind}/{market}")
        found = known_rows(
            self.tables, kind, market, symbols, start=start, end=self.end, as_of=self.as_of, columns=columns
        )
        self.origins.update(origins_of(found))
        return found

    def origin(self) -> Origin | None:
        """Return the worst origin of what was read, None when nothing was found."""
        return worst_origin(self.origins) if self.origins else None


def known_rows(
    tables: TableStore, kind: str, market: str, symbols: Sequence[str] | None, *,
    start: datetime, end: datetime, as_of: datetime, columns: Sequence[str],
) -> pa.Table:  # fmt: skip
    """Return all revisions known by as_of with start < event_at <= end, in the order in which they became known."""
    names = ("symbol", "event_at", "known_at", "origin", *columns)
    found = tables.read(
        kind,
        market=market,
        symbols=None if symbols is None else tuple(symbols),
        start=start,
        end=end,
        as_of=as_of,
        columns=names,
        revisions="all",
    )
    # A read comes sorted by event, row and revision, which a stable sort keeps among rows known at one instant. Most
    # rows are known at their event and in order already.
    order = np.argsort(micros_column(found, "known_at"), kind="stable")
    return found if (order == np.arange(order.size)).all() else found.take(order)


def origins_of(rows: pa.Table) -> set[Origin]:
    """Return the origins that rows of a table have."""
    return {Origin(str(name)) for name in rows["origin"].unique().to_pylist()}


def earliest_event(first_us: int, age_s: int | None) -> datetime:
    """Return the start, exclusive, of the events that may still stand at an instant; None = of any age."""
    if age_s is None:
        return _FIRST
    # One microsecond more: an event of exactly the greatest age still stands.
    return max(_FIRST, instant_of(first_us - age_s * SECOND_US - 1))


def version_of(bars: BarStore, tables: TableStore, source: str) -> str:
    """Return the version of `bars/<interval>/<market>` or `tables/<kind>/<market>`."""
    place, name, market = source.split("/", maxsplit=2)
    if place == "bars":
        return bars.version(market=market, interval=name)
    return tables.version(name, market=market)


def as_of_columns(
    rows: pa.Table, columns: Sequence[str], symbols: Sequence[str], at_us: Int64Array, *, max_age_s: int | None
) -> dict[str, FloatArray]:
    """
    Return columns of table rows as of each time, (n_rows, n_symbols) each: the newest event known then, NaN = none.

    Args:
        rows: of these symbols only, in the order in which they became known, with symbol, event_at, known_at.
        max_age_s: greatest age of the event; None = it stands until the next.
    """
    return as_of_values(known_columns(rows, columns, symbols), len(symbols), at_us, max_age_s=max_age_s)


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """Rows of a table in the order in which they became known, (n_rows,) each. number: of the row's symbol."""

    known_us: Int64Array
    event_us: Int64Array
    number: Int64Array
    values: dict[str, FloatArray]


def known_columns(rows: pa.Table, columns: Sequence[str], symbols: Sequence[str]) -> KnownColumns:
    """Return the rows as arrays. rows: of these symbols only, with symbol, event_at, known_at."""
    encoded = rows["symbol"].combine_chunks().dictionary_encode()
    numbers = {name: i for i, name in enumerate(symbols)}
    number_of = np.array([numbers[str(name)] for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    return KnownColumns(
        micros_column(rows, "known_at"),
        micros_column(rows, "event_at"),
        number_of[np.asarray(encoded.indices)],
        {column: float_column(rows, column) for column in columns},
    )


def as_of_values(
    rows: KnownColumns, n_symbols: int, at_us: Int64Array, *, max_age_s: int | None
) -> dict[str, FloatArray]:
    """Return the columns of rows as of each time, as as_of_columns does."""
    shape = (at_us.size, n_symbols)
    if not rows.known_us.size or not at_us.size:
        return {column: np.full(shape, np.nan) for column in rows.values}
    index = as_of_index(
        np.repeat(at_us, n_symbols),
        rows.known_us,
        event_at=rows.event_us,
        key=np.tile(np.arange(n_symbols), at_us.size),
        known_key=rows.number,
        tolerance_us=None if max_age_s is None else max_age_s * SECOND_US,
    ).reshape(shape)
    return {column: np.where(index >= 0, values[index], np.nan) for column, values in rows.values.items()}


def day_before(instant: datetime, n_days: int) -> datetime:
    """Return the instant so many days earlier, not before 1970."""
    return max(_FIRST, instant - timedelta(days=n_days))
