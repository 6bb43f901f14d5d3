"""Derived rows into the lake: stamped `derived:<kind they come from>`, and never in place of a row of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Transient
from qraft_store.tables.port import TableStore
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.raw import EVER, FloatArray, Int64Array, instant_of, micros_of
from svc_ingest.domain.shaping import ARROW_TYPES
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Selection

STEP: Final = timedelta(minutes=5)
STEP_US: Final = STEP // timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_HOUR_US: Final = _HOUR // timedelta(microseconds=1)
_FAR: Final = timedelta(days=36_500)
_BASE: Final = ("symbol", "event_at", "known_at", "row_id", "origin", "source")
# Sources of rows that a venue was asked for, as PollRows and Backfill write them; the others were heard as they came.
_ASKED: Final = "ccxt:"
# Eighteen digits fit into 64 bits; longer ids are no running numbers.
_NUMBER: Final = "^[0-9]{1,18}$"


class KnownTimes(Protocol):
    """When what is derived now could first have been known; kept_live and derive_live say it."""

    def known(self, market: str, known_us: Int64Array) -> Int64Array:
        """Return the times, (n,), never earlier than those at which the inputs were known."""
        ...


@dataclass(frozen=True, slots=True)
class Series:
    """Stored rows of one symbol, by event_at; a correction is not among them, as it came later."""

    symbol: str
    origin: str
    rows: pa.Table

    def micros(self, name: str) -> Int64Array:
        """Return an instant, (n,) microseconds."""
        return np.asarray(self.rows[name].cast(pa.int64()).to_numpy(), dtype=np.int64)

    def numbers(self, name: str) -> FloatArray:
        """Return a field, (n,), NaN where it is empty."""
        return np.asarray(self.rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

    def by_known(self) -> Series:
        """Return the rows in the order in which they became known."""
        order = [("known_at", "ascending"), ("event_at", "ascending"), ("row_id", "ascending")]
        return Series(self.symbol, self.origin, self.rows.sort_by(order))  # type: ignore[arg-type]

    def only(self, *, is_asked: bool) -> Series | None:
        """Return the rows that a venue was asked for, or those that were heard as they came; None without any."""
        asked = np.asarray(pc.starts_with(self.rows["source"], _ASKED))
        own = self.rows.filter(pa.array(asked == is_asked))
        return Series(self.symbol, self.origin, own) if own.num_rows else None


@dataclass(frozen=True, slots=True)
class DerivedRows:
    """
    Reads what rows are made of, and adds what was made.

    away: gets each table (kind, market) that could not be written and why, and nothing more is added to it; None =
    the error is raised.
    """

    tables: TableStore
    tally: Tally
    kept_live: KnownTimes | None = None
    away: dict[tuple[str, str], Transient] | None = None

    def series(
        self, kind: str, market: str, start: datetime, end: datetime, *,
        columns: tuple[str, ...], symbols: Sequence[str] = (),
    ) -> list[Series]:  # fmt: skip
        """Return the first published rows of (start, end] of each symbol, or of some; symbols in order."""
        found = self.tables.read(
            kind, market=market, symbols=symbols or None, start=start, end=end, as_of=end + _FAR,
            columns=(*_BASE, *columns), revisions="first",
        )  # fmt: skip
        names = found["symbol"].to_numpy(zero_copy_only=False)
        return [
            Series(str(name), str(own["origin"][0].as_py()), own)
            for name in np.unique(names.astype(str))
            for own in (found.filter(pa.array(names == name)),)
        ]

    def heard_us(self, kind: str, market: str, *, symbol: str = "") -> int:
        """
        Return when the newest rows of a feed became known, by each symbol or by one; -1 where there is none.

        An interval that was not over before may get further rows later: what is made of it would never be corrected.
        """
        last = self.tables.last(kind, market=market, symbols=[symbol] if symbol else None, n=1, as_of=EVER)
        known = last["known_at"].cast(pa.int64()).to_numpy()
        return int(known.max()) if known.size else -1

    def add(
        self, kind: str, market: str, symbol: str, event: Int64Array, known: Int64Array,
        fields: Mapping[str, FloatArray], came_from: str, origin: str,
    ) -> None:  # fmt: skip
        """Add rows where none is stored for the instant; NaN = empty. A second call adds nothing."""
        if event.size == 0 or (self.away is not None and (kind, market) in self.away):
            return
        count = self.tally.of(f"derived:{came_from}", kind, market)
        count.saw(int(event.min()), int(event.max()))
        stored = self.tables.read(
            kind, market=market, symbols=[symbol], start=instant_of(int(event.min()) - 1),
            end=instant_of(int(event.max())), as_of=instant_of(int(event.max())) + _FAR, columns=("event_at",),
        )  # fmt: skip
        is_new = ~np.isin(event, np.asarray(stored["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64))
        count.add(n_repeated=int((~is_new).sum()))
        if not is_new.any():
            return
        n = int(is_new.sum())
        columns: dict[str, Any] = {
            "symbol": [symbol] * n,
            "event_at": pa.array(event[is_new]).cast(US),
            "known_at": pa.array(self._known(market, known[is_new])).cast(US),
            "row_id": [""] * n,
            "revision": pa.array([0] * n, pa.int32()),
            "origin": [origin] * n,
            "source": [f"derived:{came_from}"] * n,
        }
        for field in KINDS[kind].fields:
            values = fields.get(field.name)
            if values is None:
                columns[field.name] = pa.array([None] * n, ARROW_TYPES[field.type])
            else:
                columns[field.name] = pa.array(values[is_new], from_pandas=True)
        try:
            done = self.tables.append(kind, market=market, rows=pa.table(columns))
        except Transient as error:
            if self.away is None:
                raise
            self.away[kind, market] = error
            return
        count.add(n_new=done.n_new, n_repeated=done.n_repeated)
        if done.n_quarantined:
            count.refuse("kept in the store's quarantine", done.n_quarantined)

    def _known(self, market: str, known: Int64Array) -> Int64Array:
        return known if self.kept_live is None else self.kept_live.known(market, known)


def stretches(
    span: tuple[datetime, datetime] | None, selection: Selection, width: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the stretches (start, end] of a stored range, cut at what was asked for; bounded by the range itself."""
    if span is None:
        return
    first = span[0].replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = max(first, selection.start or first), min(span[1] + STEP, selection.end or span[1] + STEP)
    while first < last:
        yield first, min(first + width, last)
        first += width


def busy_hours(
    tables: TableStore, kind: str, market: str, symbol: str, selection: Selection
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the hours (start, end] that hold rows of a symbol: a capture of minutes may lie years from the next."""
    for day, end in stretches(tables.range(kind, market=market), selection, _DAY):
        found = tables.read(
            kind, market=market, symbols=[symbol], start=day, end=end, as_of=end + _FAR, columns=("event_at",),
            revisions="first",
        )  # fmt: skip
        event = np.asarray(found["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        for hour in np.unique((event - 1 - micros_of(day)) // _HOUR_US).tolist():
            start = day + hour * _HOUR
            yield start, min(start + _HOUR, end)


def ends_within(start: datetime, end: datetime) -> Int64Array:
    """Return the ends of the five-minute intervals in (start, end]."""
    return np.arange(micros_of(start) // STEP_US + 1, micros_of(end) // STEP_US + 1, dtype=np.int64) * STEP_US


def running_numbers(series: Series) -> Int64Array | None:
    """Return the ids as numbers; None where the venue names its rows otherwise. Aggregated trades carry an `a`."""
    ids = series.rows["row_id"]
    prefixed = np.asarray(pc.starts_with(ids, "a"))
    plain = pc.utf8_slice_codeunits(ids, 1) if prefixed.any() else ids
    if prefixed.any() != prefixed.all() or not np.asarray(pc.match_substring_regex(plain, _NUMBER)).all():
        return None
    return np.asarray(pc.cast(plain, pa.int64()).to_numpy(), dtype=np.int64)
