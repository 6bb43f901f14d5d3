"""Rows of one kind and market into the table store: units compared with what is there, second sources agreed with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_store.tables.port import Revisions, TableStore
from svc_ingest.domain.datasets import TableRule
from svc_ingest.domain.drift import BLOCK_ROWS, DRIFT_FIELDS, IMPLIED, IMPLIED_RATIO_MAX, find_unit_drift, limit_of
from svc_ingest.domain.overlap import agreeing
from svc_ingest.domain.raw import FloatArray, Int64Array, instant_of
from svc_ingest.domain.shaping import FILE_FAULT_FRAC, FILE_FAULT_ROWS, Refused, Shaped, as_received
from svc_ingest.domain.tally import Count

# Rows of one append; the store sorts and checks them in memory.
MAX_ROWS_PER_APPEND: Final = 500_000
_FAR: Final = timedelta(days=36_500)  # known_at beyond every row
# Polled rows of the last two polls are known by the next one.
_NEAR: Final = timedelta(minutes=15)


def check_not_swapped(kind: str, shaped: Shaped, n_rows: int) -> None:
    """
    Refuse a file when one fault stands on a large part of its rows: that is no bad row, it is another file.

    Raises:
        Malformed: naming the fault; swapped columns where a high stands below its low.
    """
    reasons: dict[str, int] = {}
    for row in shaped.refused:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1
    for reason, n in reasons.items():
        _check_share(reason, n, n_rows, "is it the unit, the time zone, the column that the catalogue says?")
    for rows in shaped.rows.values():
        for low, high in KINDS[kind].at_most:
            left, right = (np.asarray(rows[name].to_numpy(zero_copy_only=False), dtype=float) for name in (low, high))
            n = int((left > right).sum())
            _check_share(f"{low} above {high}", n, rows.num_rows, "swapped columns?")


def _check_share(what: str, n: int, n_rows: int, ask: str) -> None:
    if n >= FILE_FAULT_ROWS and n > FILE_FAULT_FRAC * n_rows:
        raise Malformed("file_fault", f"expected rows with a bad one here and there, {n} of {n_rows}: {what}; {ask}")


@dataclass(frozen=True, slots=True)
class TableWriter:
    """Writes rows of one kind and market. has_revisions: they carry their revisions, none is given here."""

    tables: TableStore
    rule: TableRule
    market: str
    has_revisions: bool = False

    def write(self, rows: pa.Table, count: Count) -> list[Refused]:
        """
        Store rows and count them; return those of another unit than the rows before them.

        Raises:
            Transient: as the store.
        """
        event = _micros(rows)
        count.saw(int(event.min()), int(event.max()))
        agree = self._agreeing(rows)
        count.add(n_repeated=int(agree.sum()))
        rows = rows.filter(pa.array(~agree))
        rows, refused = self._of_one_unit(rows)
        for row in refused:
            count.refuse(row.reason)
        rows = rows if self.has_revisions else self._over_derived(rows)
        for start in range(0, rows.num_rows, MAX_ROWS_PER_APPEND):
            done = self.tables.append(self.rule.kind, market=self.market, rows=rows.slice(start, MAX_ROWS_PER_APPEND))
            count.add(n_new=done.n_new, n_repeated=done.n_repeated)
            if done.n_quarantined:
                count.refuse("kept in the store's quarantine", done.n_quarantined)
        return refused

    def _over_derived(self, rows: pa.Table) -> pa.Table:
        """Return the rows; one that stands in the store as derived follows it as revision 1: the source counts."""
        if not KINDS[self.rule.kind].derived_from or rows.num_rows == 0:
            return rows
        first = self._stored(rows, ("symbol", "event_at", "known_at", "source"), "first")
        derived: dict[tuple[str, int], int] = {
            name: known
            for name, known, row in zip(
                _names(first), _micros(first, "known_at").tolist(), first.to_pylist(), strict=True
            )
            if row["source"].startswith("derived:")
        }
        names = _names(rows)
        known_us = _micros(rows, "known_at")
        known_at = [max(known, derived.get(name, 0)) for name, known in zip(names, known_us.tolist(), strict=True)]
        for column, values in (("revision", [int(name in derived) for name in names]), ("known_at", known_at)):
            place = rows.schema.get_field_index(column)
            rows = rows.set_column(place, column, pa.array(values, pa.int64()).cast(rows.schema.field(column).type))
        return rows

    def _stored(self, rows: pa.Table, columns: tuple[str, ...], revisions: Revisions) -> pa.Table:
        """Return what is stored of the symbols and the stretch of time of some rows."""
        event = _micros(rows)
        return self.tables.read(
            self.rule.kind, market=self.market, symbols=[str(name) for name in rows["symbol"].unique().to_pylist()],
            start=instant_of(int(event.min()) - 1), end=instant_of(int(event.max())),
            as_of=instant_of(int(event.max())) + _FAR, columns=columns, revisions=revisions,
        )  # fmt: skip

    def _agreeing(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows another source stored already, the same but for rounding."""
        within = dict(self.rule.agrees_within)
        if not within:
            return np.zeros(rows.num_rows, dtype=bool)
        stored = self._stored(rows, ("symbol", "event_at", "row_id", *within), "latest")
        return agreeing(rows, stored, within)

    def _of_one_unit(self, rows: pa.Table) -> tuple[pa.Table, list[Refused]]:
        """Leave out a symbol's rows from where their unit differs from that of the rows before."""
        drifted: dict[int, str] = {}
        names = np.asarray(rows["symbol"].to_pylist(), dtype=object)
        event = _micros(rows)
        for symbol in np.unique(names.astype(str)):
            own = np.flatnonzero(names == symbol)
            own = own[np.argsort(event[own], kind="stable")]
            stored = self._before(symbol, int(event[own[0]])) if DRIFT_FIELDS.get(self.rule.kind) else rows.slice(0, 0)
            before = levels_of(self.rule.kind, stored)
            for name, (values, limit) in levels_of(self.rule.kind, rows).items():
                found = find_unit_drift(
                    event[own], values[own], stored_us=_micros(stored), stored=before[name][0], ratio_max=limit
                )
                if found:
                    reason = f"unit_drift: {name} is {found[1]:.3g} times what it was"
                    drifted = {int(i): reason for i in own[found[0] :]} | drifted
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[list(drifted)] = False
        refused = [
            Refused(self.rule.kind, self.market, i, reason, as_received(rows.slice(i, 1).to_pylist()[0]))
            for i, reason in sorted(drifted.items())
        ]
        return rows.filter(pa.array(keep)), refused

    def _before(self, symbol: str, first_us: int) -> pa.Table:
        if KINDS[self.rule.kind].has_row_id:  # of hundreds a minute: the newest rows of all would open a whole day
            near = self.tables.read(
                self.rule.kind, market=self.market, symbols=[symbol], start=instant_of(first_us) - _NEAR,
                end=instant_of(first_us - 1), columns=("event_at", *DRIFT_FIELDS[self.rule.kind]),
            )  # fmt: skip
            if near.num_rows >= BLOCK_ROWS:
                return near.slice(near.num_rows - BLOCK_ROWS)
        return self.tables.last(
            self.rule.kind, market=self.market, symbols=[symbol], n=BLOCK_ROWS, as_of=instant_of(first_us - 1)
        )


def levels_of(kind: str, rows: pa.Table) -> dict[str, tuple[FloatArray, float]]:
    """Return what of a kind has a level, (n_rows,) by name, and how many times it may change from block to block."""
    found = {name: (_floats(rows, name), limit_of(kind)) for name in DRIFT_FIELDS.get(kind, ())}
    if kind in IMPLIED:
        above, below = IMPLIED[kind]
        with np.errstate(divide="ignore", invalid="ignore"):
            found[f"{above} / {below}"] = (_floats(rows, above) / _floats(rows, below), IMPLIED_RATIO_MAX)
    return found


def _floats(rows: pa.Table, name: str) -> FloatArray:
    return np.asarray(rows[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _names(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(map(str, rows["symbol"].to_pylist()), _micros(rows, "event_at").tolist(), strict=True))


def _micros(rows: pa.Table, column: str = "event_at") -> Int64Array:
    return np.asarray(rows[column].cast(pa.int64()).to_numpy(), dtype=np.int64)
