"""Rows of one kind as Arrow tables: their order, which are new, and which revision counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import Kind
from qraft_store.tables.schema import BoolArray, Int64Array, micros_of

OTHER_VALUES: Final = "other_values"
KNOWN_EARLIER: Final = "known_before_the_revision_it_replaces"
_STORED, _NEW, _REPEATED, _OTHER, _EARLIER = range(5)
_REASONS: Final = {_OTHER: OTHER_VALUES, _EARLIER: KNOWN_EARLIER}


def canonical(kind: Kind, rows: pa.Table) -> pa.Table:
    """Return accepted rows with one sign for an empty number: NaN, where a field may be empty, becomes null."""
    for field in kind.fields:
        if field.type == "float64" and not field.is_required:
            column: Any = rows[field.name].combine_chunks()
            is_nan = pc.fill_null(pc.is_nan(column), False)
            if pc.any(is_nan).as_py():
                column = pc.if_else(is_nan, pa.scalar(None, pa.float64()), column)
                rows = rows.set_column(rows.schema.get_field_index(field.name), rows.schema.field(field.name), column)
    return rows


def order_of(table: pa.Table) -> Int64Array:
    """
    Return the positions that sort the rows by (event_at, symbol, row_id, revision); equal names keep their order.

    Texts are ordered by their UTF-8 bytes. They are ranked, which takes a second for a million ids, only where rows of
    one instant are not in order as they come.
    """
    event = micros_of(table, "event_at")
    order = np.argsort(event, kind="stable")
    starts = np.ones(order.size, dtype=bool)
    starts[1:] = event[order[1:]] != event[order[:-1]]
    tied = np.flatnonzero(~starts)
    if not tied.size:
        return order
    is_back = _is_before(table, order[tied], order[tied - 1])
    if not is_back.any():
        return order
    group = np.cumsum(starts) - 1
    is_mixed = np.zeros(int(group[-1]) + 1, dtype=bool)
    is_mixed[group[tied[is_back]]] = True
    place = np.flatnonzero(is_mixed[group])
    rows = order[place]
    part = table.select(["symbol", "row_id", "revision"]).take(rows)
    keys = (np.asarray(part["revision"]), _ranks(part["row_id"]), _ranks(part["symbol"]), event[rows])
    order[place] = rows[np.lexsort(keys)]
    return order


def _is_before(table: pa.Table, left: Int64Array, right: Int64Array) -> BoolArray:
    """Return where the left row comes before the right one of the same instant."""
    result = np.zeros(left.size, dtype=bool)
    is_open = np.ones(left.size, dtype=bool)  # equal so far
    for name in ("symbol", "row_id", "revision"):
        column: Any = table[name].combine_chunks()
        one, two = column.take(left), column.take(right)
        result |= is_open & np.asarray(pc.less(one, two), dtype=bool)
        is_open &= np.asarray(pc.equal(one, two), dtype=bool)
    return result


def _ranks(column: Any) -> Int64Array:
    """Return of each text its place among the column's distinct texts."""
    encoded: Any = pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    ranks = np.empty(len(encoded.dictionary), dtype=np.int64)
    ranks[np.asarray(pc.array_sort_indices(encoded.dictionary))] = np.arange(ranks.size)
    return ranks[np.asarray(encoded.indices, dtype=np.int64)]


def is_ordered(table: pa.Table) -> bool:
    """Return whether event_at never goes back."""
    event = micros_of(table, "event_at")
    return bool((event[1:] >= event[:-1]).all())


def group_starts(table: pa.Table) -> BoolArray:
    """Return of sorted rows where another (symbol, event_at, row_id) begins; what follows are its revisions."""
    result = np.ones(table.num_rows, dtype=bool)
    if result.size:
        event = micros_of(table, "event_at")
        result[1:] = event[1:] != event[:-1]
    if result[1:].all():
        return result
    for name in ("symbol", "row_id"):
        column: Any = table[name].combine_chunks()
        result[1:] |= np.asarray(pc.not_equal(column[1:], column[:-1]), dtype=bool)
    return result


def _differ(column: Any, left: Int64Array, right: Int64Array) -> BoolArray:
    """Return where the cells at two lists of positions differ; empty equals empty. Lists are compared whole."""
    one, two = column.take(left), column.take(right)
    if pa.types.is_list(column.type):
        return _lists_differ(one, two)
    equal = pc.fill_null(pc.equal(one, two), False)
    both_empty = pc.and_(pc.is_null(one), pc.is_null(two))
    return ~np.asarray(pc.or_(equal, both_empty), dtype=bool)


def _lists_differ(one: Any, two: Any) -> BoolArray:
    lengths = [np.asarray(pc.fill_null(pc.list_value_length(side), -1)) for side in (one, two)]
    result: BoolArray = lengths[0] != lengths[1]
    same = np.flatnonzero(~result)
    values = [np.asarray(side.take(same).flatten()) for side in (one, two)]
    owner = np.repeat(same, np.maximum(lengths[0][same], 0))
    result[owner[values[0] != values[1]]] = True
    return result


@dataclass(frozen=True, slots=True)
class Judged:
    """New rows in order, and the positions (among the candidates) of repetitions and of refused rows with reasons."""

    new: pa.Table
    n_repeated: int
    refused: Int64Array
    reasons: list[str]


def judge(kind: Kind, candidates: pa.Table, stored: pa.Table | None) -> Judged:
    """
    Return what is new among the candidates.

    A row whose name (symbol, event_at, row_id, revision) is taken is a repetition when the kind's fields are equal: the
    first stored known_at, origin and source stay, since what was known then cannot change later. With other values it
    is refused. So is a revision known before the one it replaces, or after the one that replaces it. Among candidates
    of one name the first counts.

    Args:
        candidates: canonical rows without a broken rule, in any order.
        stored: every stored row whose (symbol, event_at, row_id) is among the candidates; others do no harm.
    """
    n_stored = 0 if stored is None else stored.num_rows
    both = candidates if stored is None or not n_stored else pa.concat_tables([stored, candidates])
    both = both.combine_chunks()
    order = order_of(both)
    is_sorted = bool((order[1:] > order[:-1]).all())
    ordered = both if is_sorted else both.take(order)
    is_stored = order < n_stored
    starts = group_starts(ordered)
    if starts.all():
        new = ordered.filter(pa.array(~is_stored)) if n_stored else ordered
        return Judged(new, 0, np.empty(0, np.int64), [])
    revision, known = np.asarray(ordered["revision"], dtype=np.int64), micros_of(ordered, "known_at")
    leads = starts.copy()
    leads[1:] |= revision[1:] != revision[:-1]
    lead_of = np.maximum.accumulate(np.where(leads, np.arange(leads.size), 0))
    followers = np.flatnonzero(~leads)
    differs = _rows_differ(kind, ordered, followers, lead_of[followers])
    verdict = np.full(leads.size, _NEW, dtype=np.int8)
    verdict[followers] = np.where(differs, _OTHER, _REPEATED)
    verdict[is_stored] = _STORED
    _judge_known(kind, ordered, starts=starts, leads=leads, known=known, verdict=verdict)
    refused = verdict >= _OTHER
    return Judged(
        ordered.filter(pa.array(verdict == _NEW)),
        int((verdict == _REPEATED).sum()),
        order[refused] - n_stored,
        [_REASONS[int(code)] for code in verdict[refused]],
    )


def _rows_differ(kind: Kind, table: pa.Table, left: Int64Array, right: Int64Array) -> BoolArray:
    result = np.zeros(left.size, dtype=bool)
    for name in kind.field_names:
        result |= _differ(table[name].combine_chunks(), left, right)
    return result


def _judge_known(
    kind: Kind,
    table: pa.Table,
    *,
    starts: BoolArray,
    leads: BoolArray,
    known: Int64Array,
    verdict: npt.NDArray[np.int8],
) -> None:
    """Judge again, row by row, the few groups in which a revision is known before an earlier one."""
    lead = np.flatnonzero(leads)
    back = lead[1:][(known[lead[1:]] < known[lead[:-1]]) & ~starts[lead[1:]]]
    if not back.size:
        return
    revision = np.asarray(table["revision"], dtype=np.int64)
    group = np.cumsum(starts) - 1
    bounds = np.append(np.flatnonzero(starts), starts.size)
    for g in np.unique(group[back]):
        rows = range(bounds[g], bounds[g + 1])
        accepted = {int(revision[i]): i for i in rows if verdict[i] == _STORED}
        for i in rows:
            if verdict[i] != _STORED:
                verdict[i] = _verdict_in_group(kind, table, i, accepted=accepted, revision=revision, known=known)


def _verdict_in_group(
    kind: Kind, table: pa.Table, i: int, *, accepted: dict[int, int], revision: Int64Array, known: Int64Array
) -> int:
    number = int(revision[i])
    if number in accepted:
        differs = _rows_differ(kind, table, np.array([i]), np.array([accepted[number]]))
        return _OTHER if differs.any() else _REPEATED
    too_early = any(known[i] < known[row] for other, row in accepted.items() if other < number)
    too_late = any(known[i] > known[row] for other, row in accepted.items() if other > number)
    if too_early or too_late:
        return _EARLIER
    accepted[number] = i
    return _NEW


def latest(table: pa.Table) -> pa.Table:
    """Return of sorted rows the newest revision of each name."""
    starts = group_starts(table)
    if starts.all():
        return table
    is_last = np.append(starts[1:], True)
    return table.filter(pa.array(is_last))
