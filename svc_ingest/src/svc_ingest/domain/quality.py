"""
From raw rows to closed bars: order, duplicates, gaps, impossible values. Every fault is counted, nothing is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_frames.bars import BarBatch
from svc_ingest.domain.faults import FaultKind, QualityReport
from svc_ingest.domain.raw import FloatArray, Int64Array, RawChunk, RawRows, instant_of, micros_of
from svc_ingest.domain.row_judge import RowJudge
from svc_ingest.domain.shaping import Refused

# How many published bars a symbol's late or changed row is compared with. A venue corrects the last few bars.
RECENT_BARS: Final = 64

_Values = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Revision:
    symbol: str
    closed_at: int
    revision: int
    values: _Values


class QualityCheck:
    """
    Turns chunks of raw rows into batches, in the order in which they are to be published.

    A bar's first batch (r0) holds every symbol that has the bar when it is first seen. What comes later for a bar that
    was given out already is a revision. Two checks over the same chunks give the same batches.
    """

    def __init__(
        self, *, market: str, interval: str, origin: Origin, report: QualityReport, judge: RowJudge | None = None
    ) -> None:
        """judge: refuses rows that are possible in themselves, and keeps what is refused; None = neither."""
        self.report = report
        self._judge = judge
        self._market, self._interval, self._origin = market, interval, origin
        self._step = INTERVAL_SECONDS[interval] * 1_000_000
        self._since: int | None = None  # closed_at of the oldest bar that we know to be given out
        self._until = 0  # closed_at of the newest r0 batch given out
        self._recent: dict[str, dict[int, tuple[int, _Values]]] = {}  # symbol → closed_at → (revision, values)

    def prime(self, rows: Mapping[str, RawRows], *, until: int) -> None:
        """
        Take up after a restart: `rows` are the stored first revisions of each symbol up to `until`, in order.

        Gaps, late rows and corrections across the restart are found then as they would have been without it.
        """
        self._until = max(self._until, until)
        oldest = [int(stored.closed_at.min()) for stored in rows.values() if stored.closed_at.size]
        self._since = min([until, *oldest, *([] if self._since is None else [self._since])])
        for symbol, stored in rows.items():
            recent = self._recent.get(symbol, {})
            kept = (stored.closed_at <= until) & (stored.closed_at > max(recent, default=0))
            self._remember(symbol, stored.closed_at[kept], stored.values[kept])

    def keep_refused(self, rows: Sequence[tuple[str, Refused]]) -> None:
        """Keep rows that another check refused on their way to the same bars, each with its symbol. Blocks."""
        if self._judge is not None and rows:
            self._judge.on_refused(rows)

    def take(self, chunk: RawChunk) -> list[BarBatch]:
        """Return the batches of a chunk, by closed_at and revision. Blocks where rows are refused and kept."""
        firsts: list[tuple[str, Int64Array, FloatArray]] = []
        revisions: list[_Revision] = []
        for symbol in sorted(chunk.rows):
            closed_at, values = self._usable(symbol, chunk.rows[symbol])
            is_first = np.ones(closed_at.size, dtype=bool)
            is_first[1:] = closed_at[1:] != closed_at[:-1]
            is_first &= closed_at > self._until
            firsts.append((symbol, closed_at[is_first], values[is_first]))
            self.report.n_rows[symbol] += int(is_first.sum())
            rest = np.flatnonzero(~is_first)
            revised = self._revise(
                symbol, closed_at[rest], values[rest], firsts[-1], is_reread=chunk.known_at is not None
            )
            late = np.array([row.closed_at for row in revised], dtype=np.int64)
            self._count_gaps(symbol, np.union1d(closed_at[is_first], late))
            self._remember(symbol, closed_at[is_first], values[is_first], revised)
            revisions += revised
        batches = [*self._first_batches(firsts), *self._revision_batches(revisions, chunk)]
        if any(closed_at.size for _, closed_at, _ in firsts):
            self._since = self._since or min(int(closed_at[0]) for _, closed_at, _ in firsts if closed_at.size)
            self._until = max(int(closed_at[-1]) for _, closed_at, _ in firsts if closed_at.size)
        return sorted(batches, key=lambda batch: (batch.closed_at, batch.revision))

    def _usable(self, symbol: str, rows: RawRows) -> tuple[Int64Array, FloatArray]:
        """Return the possible rows on the grid, sorted by time; rows of the same time keep their order."""
        impossible = is_impossible(rows.values)
        off_grid = ~impossible & (rows.closed_at % self._step != 0)
        for kind, found in ((FaultKind.IMPOSSIBLE, impossible), (FaultKind.OFF_GRID, off_grid)):
            if found.any():
                self.report.add(symbol, kind, int(found.sum()), at_us=int(rows.closed_at[found][0]))
        refused = [(FaultKind.IMPOSSIBLE, impossible), (FaultKind.OFF_GRID, off_grid)]
        if self._judge is not None:
            recent = self._recent.get(symbol, {})
            further = self._judge.refuse(rows, recent={time: known[1][3] for time, known in recent.items()})
            for kind, found in further:
                own = found & ~(impossible | off_grid)
                self.report.add(symbol, kind, int(own.sum()), at_us=int(rows.closed_at[own][0]) if own.any() else None)
                refused.append((kind, own))
                off_grid = off_grid | own
            self._judge.keep(symbol, rows, refused)
        usable = ~(impossible | off_grid)
        closed_at, values = rows.closed_at[usable], rows.values[usable]
        if n_behind := count_out_of_order(closed_at):
            self.report.add(symbol, FaultKind.OUT_OF_ORDER, n_behind)
            order = np.argsort(closed_at, kind="stable")
            closed_at, values = closed_at[order], values[order]
        return closed_at, values

    def _count_gaps(self, symbol: str, closed_at: Int64Array) -> None:
        recent = self._recent.get(symbol)
        newest = next(reversed(recent)) if recent else None
        known = closed_at if newest is None else np.append(np.int64(newest), closed_at[closed_at > newest])
        n_missing = np.diff(known) // self._step - 1
        for i in np.flatnonzero(n_missing > 0):
            self.report.add_gap(symbol, int(known[i]), int(n_missing[i]))

    def _revise(
        self,
        symbol: str,
        closed_at: Int64Array,
        values: FloatArray,
        first: tuple[str, Int64Array, FloatArray],
        *,
        is_reread: bool,
    ) -> list[_Revision]:
        """Return the rows that say something new about a bar that was given out; count the others."""
        recent = self._recent.setdefault(symbol, {})
        latest: dict[int, tuple[int, _Values]] = {}
        revisions: list[_Revision] = []
        for time, row in zip(closed_at.tolist(), values.tolist(), strict=True):
            known = latest.get(time) or recent.get(time) or _row_at(time, first)
            if known is None and not self._can_judge(symbol, time):
                self.report.add(symbol, FaultKind.TOO_OLD, 0 if is_reread else 1, at_us=time)
                continue
            if known is not None and known[1] == tuple(row):
                self.report.add(symbol, FaultKind.DUPLICATE, 0 if is_reread else 1, at_us=time)
                continue
            kind = FaultKind.LATE if known is None else FaultKind.REVISION
            self.report.add(symbol, kind, at_us=time)
            latest[time] = (known[0] + 1 if known else 1, tuple(row))
            revisions.append(_Revision(symbol, time, *latest[time]))
        return revisions

    def _can_judge(self, symbol: str, time: int) -> bool:
        """Return whether a bar that we do not remember was missing, rather than forgotten or before our time."""
        oldest = next(iter(self._recent[symbol]), time)
        return max(oldest, self._since or 0) <= time and time > self._until - RECENT_BARS * self._step

    def _remember(
        self, symbol: str, closed_at: Int64Array, values: FloatArray, revised: Sequence[_Revision] = ()
    ) -> None:
        """Keep the newest bars of a symbol, each in its latest revision."""
        recent = self._recent.setdefault(symbol, {})
        for time, row in zip(closed_at[-RECENT_BARS:].tolist(), values[-RECENT_BARS:].tolist(), strict=True):
            recent[time] = (0, tuple(row))
        for found in revised:
            recent[found.closed_at] = (found.revision, found.values)
        if revised:
            self._recent[symbol] = recent = dict(sorted(recent.items()))
        while len(recent) > RECENT_BARS:
            del recent[next(iter(recent))]

    def _first_batches(self, firsts: list[tuple[str, Int64Array, FloatArray]]) -> list[BarBatch]:
        found = [(symbol, closed_at, values) for symbol, closed_at, values in firsts if closed_at.size]
        if not found:
            return []
        closed_at = np.concatenate([times for _, times, _ in found])
        code = np.repeat(np.arange(len(found)), [times.size for _, times, _ in found])
        order = np.lexsort((code, closed_at))  # symbols are sorted, so their codes are
        closed_at, code = closed_at[order], code[order]
        columns = np.ascontiguousarray(np.concatenate([values for _, _, values in found])[order].T)
        names = [symbol for symbol, _, _ in found]
        starts = np.flatnonzero(np.diff(closed_at, prepend=-1)).tolist()
        return [
            self._batch(int(closed_at[a]), 0, [names[c] for c in code[a:b]], columns[:, a:b])
            for a, b in zip(starts, [*starts[1:], closed_at.size], strict=True)
        ]

    def _revision_batches(self, revisions: list[_Revision], chunk: RawChunk) -> list[BarBatch]:
        groups: dict[tuple[int, int], list[_Revision]] = {}
        for found in revisions:
            groups.setdefault((found.closed_at, found.revision), []).append(found)
        known_at = None if chunk.known_at is None else micros_of(chunk.known_at)
        return [
            self._batch(
                time, revision, [row.symbol for row in group], np.array([row.values for row in group]).T, known_at
            )
            for (time, revision), group in groups.items()
        ]

    def _batch(
        self, closed_at: int, revision: int, symbols: list[str], columns: FloatArray, known_at: int | None = None
    ) -> BarBatch:
        end = instant_of(closed_at)
        return BarBatch(
            self._market, self._interval, end, end if known_at is None else max(end, instant_of(known_at)), revision,
            self._origin, tuple(symbols), *columns,
        )  # fmt: skip


def is_impossible(values: FloatArray) -> npt.NDArray[np.bool_]:
    """
    Return which rows cannot be bars: not finite, a price <= 0, high or low inside the body, volume < 0.

    Args:
        values: (n, 5), columns open, high, low, close, volume.
    """
    open_, high, low, close, volume = values.T
    with np.errstate(invalid="ignore"):
        possible = (low > 0) & (low <= np.minimum(open_, close)) & (high >= np.maximum(open_, close)) & (volume >= 0)
    return np.asarray(~(possible & np.isfinite(values).all(axis=1)))


def count_out_of_order(closed_at: Int64Array) -> int:
    """Return how many rows stand behind a row of a later time."""
    if closed_at.size == 0:
        return 0
    return int((closed_at < np.maximum.accumulate(closed_at)).sum())


def _row_at(time: int, first: tuple[str, Int64Array, FloatArray]) -> tuple[int, _Values] | None:
    """Return the first revision that this chunk holds for a bar."""
    _, closed_at, values = first
    i = int(np.searchsorted(closed_at, time))
    return (0, tuple(values[i].tolist())) if i < closed_at.size and closed_at[i] == time else None
