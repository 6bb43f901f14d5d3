"""Bars of a data set into the bar store, by time: impossible rows are refused by name, late ones become revisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from qraft_store.bars.port import BarPanel, BarRevisions, BarStore
from svc_ingest.domain.drift import BLOCK_ROWS, find_unit_drift
from svc_ingest.domain.faults import FaultKind, QualityReport
from svc_ingest.domain.quality import QualityCheck, is_impossible
from svc_ingest.domain.raw import EVER, VALUES, FloatArray, Int64Array, RawChunk, RawRows, instant_of, micros_of
from svc_ingest.domain.shaping import FILE_FAULT_FRAC, FILE_FAULT_ROWS, Refused, as_received
from svc_ingest.domain.tally import Count

# A stretch of bars that is judged and stored at once: 30 days of 5-minute bars are 8,640 batches.
_WINDOW_BARS: Final = 8_640
# Revision numbers that are tried for a bar that came late or changed.
_MAX_REVISIONS: Final = 16
# From so many rows on, a symbol without two bars in a row has longer bars rather than gaps.
_ENOUGH_ROWS: Final = 20
# As the tables: milliseconds read as microseconds land in January 1970, nanoseconds beyond every calendar.
_FIRST_US: Final = micros_of(datetime(KINDS["bars"].first_year, 1, 1, tzinfo=UTC))
_LAST_US: Final = micros_of(EVER)
_REVISIONS: Final[tuple[BarRevisions, ...]] = ("first", "latest")
Reasons = npt.NDArray[np.object_]


class BarWriter:
    """Writes the bars of one market and interval; what is known later than its end carries `known_at`."""

    def __init__(
        self, bars: BarStore, market: str, interval: str, count: Count, *, origin: Origin = Origin.REPLAY
    ) -> None:
        self._bars, self._market, self._interval, self._count = bars, market, interval, count
        self._origin = origin
        self._step = INTERVAL_SECONDS[interval] * 1_000_000

    def write(self, rows: pa.Table, *, last_may_form: bool, known_at: datetime | None = None) -> list[Refused]:
        """
        Store bars and count them; return those that are none.

        Rows of a bar before the stored end are its revisions: first reads do not see them, latest reads do. The second
        row of a bar in the data set is a revision too. Rows of one symbol keep their order in the file.

        Args:
            rows: columns symbol, event_at (end of the bar) and the five values.
            last_may_form: leave out the last bar of each symbol, which may have been captured before it closed.
            known_at: when late rows were read; None = a record, known at the bar's end.

        Raises:
            Malformed: if the bars are of another interval, or most of them cannot be bars.
            Transient: as the store.
        """
        symbols = np.asarray(rows["symbol"].to_pylist(), dtype=object)
        closed_at = np.asarray(rows["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        values = np.column_stack([np.asarray(rows[name].cast(pa.float64()).to_numpy(), dtype=float) for name in VALUES])
        self._count.saw(int(closed_at.min()), int(closed_at.max()))
        reasons = self._reasons(symbols.astype(str), closed_at, values, last_may_form=last_may_form)
        refused = self._refused(rows, reasons)
        raw = {
            str(symbol): _ordered(closed_at[own], values[own])
            for symbol in np.unique(symbols.astype(str))
            for own in [np.flatnonzero((symbols == symbol) & (reasons == ""))]
            if own.size
        }
        n_good = sum(it.closed_at.size for it in raw.values())
        n_new = self._store(raw, known_at) if raw else 0
        self._count.add(n_new=n_new, n_repeated=n_good - n_new)
        return refused

    def _reasons(
        self, symbols: npt.NDArray[np.str_], closed_at: Int64Array, values: FloatArray, *, last_may_form: bool
    ) -> Reasons:
        reasons = np.full(closed_at.size, "", dtype=object)
        impossible = is_impossible(values)
        if impossible.sum() >= FILE_FAULT_ROWS and impossible.mean() > FILE_FAULT_FRAC:
            raise Malformed(
                "file_fault", f"expected bars, {int(impossible.sum())} of {impossible.size} rows are none: are columns "
                "swapped? The first: " + str(dict(zip(VALUES, values[impossible][0].tolist(), strict=True)))
            )  # fmt: skip
        for i in np.flatnonzero(impossible):
            reasons[i] = _why_impossible(values[i])
        impossible_time = (closed_at < _FIRST_US) | (closed_at >= _LAST_US)
        reasons[impossible_time & (reasons == "")] = "impossible_time: event_at"
        reasons[(closed_at % self._step != 0) & (reasons == "")] = "off_grid"
        for symbol in np.unique(symbols):
            own = np.flatnonzero((symbols == symbol) & (reasons == ""))
            own = own[np.argsort(closed_at[own], kind="stable")]
            if own.size:
                self._check_interval(symbol, closed_at[own])
                self._mark_drift(symbol, own, closed_at, values[:, 3], reasons)
            if own.size and last_may_form:
                reasons[own[closed_at[own] == closed_at[own[-1]]]] = "may_be_forming"
        return reasons

    def _check_interval(self, symbol: str, closed_at: Int64Array) -> None:
        between = np.diff(np.unique(closed_at))
        if between.size >= _ENOUGH_ROWS and int(between.min()) > self._step:
            usual = timedelta(microseconds=int(np.median(between)))
            raise Malformed("wrong_interval", f"expected bars of {self._interval}, {symbol} has one every {usual}")

    def _mark_drift(
        self, symbol: str, own: Int64Array, closed_at: Int64Array, close: FloatArray, reasons: Reasons
    ) -> None:
        before_us, before = self._before(symbol, int(closed_at[own[0]]))
        found = find_unit_drift(closed_at[own], close[own], stored_us=before_us, stored=before)
        if found:
            reasons[own[found[0] :]] = f"unit_drift: close is {found[1]:.3g} times what it was"

    def _before(self, symbol: str, first_us: int) -> tuple[Int64Array, FloatArray]:
        end = instant_of(first_us - self._step)
        start = end - BLOCK_ROWS * timedelta(microseconds=self._step)
        panel = self._bars.read(market=self._market, interval=self._interval, symbols=[symbol], start=start, end=end)
        if panel is None:
            return np.empty(0, np.int64), np.empty(0)
        there = ~np.isnan(panel.close[:, 0])
        return panel.closed_at[there].astype("datetime64[us]").astype(np.int64), panel.close[there, 0]

    def _refused(self, rows: pa.Table, reasons: Reasons) -> list[Refused]:
        found = np.flatnonzero(reasons != "").astype(np.int64)
        for reason in reasons[found]:
            self._count.refuse(str(reason))
        received = rows.take(found).to_pylist()
        return [
            Refused("bars", f"{self._market}.{self._interval}", int(i), str(reasons[i]), as_received(row))
            for i, row in zip(found, received, strict=True)
        ]

    def _store(self, raw: dict[str, RawRows], known_at: datetime | None) -> int:
        report = QualityReport()
        check = QualityCheck(market=self._market, interval=self._interval, origin=self._origin, report=report)
        stored = self._bars.range(market=self._market, interval=self._interval)
        n_new = 0
        for chunk in self._windows(raw):
            batches = check.take(chunk)
            end = stored[1] if stored else None
            late = [batch for batch in batches if end is not None and batch.closed_at <= end and not batch.revision]
            n_new += self._append_late(late, known_at) if late else 0
            rest = [batch for batch in batches if end is None or batch.closed_at > end or batch.revision]
            n_new += self._append(rest)
        for kind in (FaultKind.REVISION, FaultKind.OUT_OF_ORDER):
            if n := report.count(kind):
                self._count.reasons[f"kept: {kind.value}"] += n
        return n_new

    def _windows(self, raw: dict[str, RawRows]) -> Iterator[RawChunk]:
        first = min(int(rows.closed_at[0]) for rows in raw.values())
        last = max(int(rows.closed_at[-1]) for rows in raw.values())
        width = _WINDOW_BARS * self._step
        for start in range(first, last + 1, width):
            bounds = {
                symbol: np.searchsorted(rows.closed_at, [start, start + width]).tolist() for symbol, rows in raw.items()
            }
            chunk = {s: RawRows(raw[s].closed_at[a:b], raw[s].values[a:b]) for s, (a, b) in bounds.items() if b > a}
            if chunk:
                yield RawChunk(chunk, until=instant_of(min(start + width, last)))

    def _append(self, batches: list[BarBatch]) -> int:
        try:
            return self._bars.append(batches) if batches else 0
        except ValueError as error:
            raise Malformed("lake_conflict", f"{error}; bars of another source need another market") from error

    def _append_late(self, batches: list[BarBatch], known_at: datetime | None) -> int:
        """Store rows of bars up to the stored end: repetitions are skipped, others become the next revision."""
        n_new, free = 0, list[BarBatch]()
        for batch, is_free in self._not_stored(batches):
            late = replace(batch, revision=1, known_at=max(batch.closed_at, known_at or batch.closed_at))
            self._count.reasons["kept: late"] += len(batch.symbols)
            if is_free:
                free.append(late)
            else:
                n_new += self._append_revision(late)
        # Where nothing is stored revision 1 is free: one append, since each is 24 ms and a new symbol has thousands.
        return n_new + self._append(free)

    def _not_stored(self, batches: list[BarBatch]) -> Iterator[tuple[BarBatch, bool]]:
        """
        Yield of each batch the symbols whose first and newest stored revisions, if any, have other values, and whether
        no revision of any of them is stored.
        """
        step = timedelta(microseconds=self._step)
        start, end = batches[0].closed_at - step, batches[-1].closed_at
        panels = [
            self._bars.read(market=self._market, interval=self._interval, symbols=None, start=start, end=end,
                            as_of=EVER, revisions=it)
            for it in _REVISIONS
        ]  # fmt: skip
        for batch in batches:
            row = (batch.closed_at - batches[0].closed_at) // step
            is_new = np.ones(len(batch.symbols), dtype=bool)
            for panel in panels:
                if panel is not None:
                    is_new &= ~_stored_equal(batch, panel, row)
            if is_new.any():
                columns = {name: getattr(batch, name)[is_new] for name in VALUES}
                late = replace(batch, symbols=tuple(compress(batch.symbols, is_new)), **columns)
                yield late, not any(_holds_any(late, panel, row) for panel in panels if panel is not None)

    def _append_revision(self, batch: BarBatch) -> int:
        for revision in range(batch.revision, batch.revision + _MAX_REVISIONS):
            try:
                return self._bars.append([replace(batch, revision=revision)])
            except ValueError as error:
                conflict = error
        raise Malformed("lake_conflict", f"{conflict}; it changed more than {_MAX_REVISIONS} times") from conflict


def _stored_equal(batch: BarBatch, panel: BarPanel, row: int) -> npt.NDArray[np.bool_]:
    """Return which symbols of a batch stand in a row of the panel with the same values."""
    place = {symbol: i for i, symbol in enumerate(panel.symbols)}
    own = np.array([place.get(symbol, -1) for symbol in batch.symbols])
    same = own >= 0
    for name in VALUES:
        same &= getattr(panel, name)[row, own] == getattr(batch, name)
    return same


def _holds_any(batch: BarBatch, panel: BarPanel, row: int) -> bool:
    """Return whether a row of the panel has a bar of one of the batch's symbols."""
    own = [panel.symbols.index(symbol) for symbol in batch.symbols if symbol in panel.symbols]
    return bool(np.isfinite(panel.close[row, own]).any())


def _ordered(closed_at: Int64Array, values: FloatArray) -> RawRows:
    order = np.argsort(closed_at, kind="stable")
    return RawRows(closed_at[order], np.ascontiguousarray(values[order]))


def _why_impossible(row: FloatArray) -> str:
    if not np.isfinite(row).all():
        return f"not_finite: {VALUES[int(np.flatnonzero(~np.isfinite(row))[0])]}"
    if (row[:4] <= 0).any():
        return f"not_positive: {VALUES[int(np.flatnonzero(row[:4] <= 0)[0])]}"
    return "out_of_bounds: volume" if row[4] < 0 else "not_at_most: low high"
