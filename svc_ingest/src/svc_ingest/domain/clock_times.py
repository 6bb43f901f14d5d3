"""Instants from what files hold: dates, local times, texts, stamps; what is no single instant is said, not guessed."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import parse_instant
from svc_ingest.domain.datasets import Instant, Known
from svc_ingest.domain.raw import Int64Array, micros_of

# An Arrow column; the stubs know no type for "a column of any type".
Column: TypeAlias = Any  # of Arrow; the stubs know no "column of any type"
US: Final = pa.timestamp("us", tz="UTC")
NO_TIME: Final = "no_time"
AMBIGUOUS: Final = "ambiguous_local_time"
NONEXISTENT: Final = "no_such_local_time"
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_FLOOR_WITHIN: Final = 60 * _SECOND


def event_times(column: Column, rule: Instant) -> tuple[Int64Array, npt.NDArray[np.object_]]:
    """
    Return each row's event in microseconds since 1970, and why a row has none ("" = it has one).

    A local time that a clock showed twice, or never, on a day of a clock change is refused: which of the two instants
    was meant cannot be known.

    Raises:
        Malformed: if the column holds no times at all.
    """
    micros, reasons = to_micros(column, zone=rule.zone)
    if rule.next_month:
        month = micros.astype("datetime64[us]").astype("datetime64[M]") + 1
        micros = month.astype("datetime64[us]").astype(np.int64)
    if rule.floor_s:
        step = rule.floor_s * _SECOND
        late = micros % step
        micros = np.where(late < _FLOOR_WITHIN, micros - late, micros)
    return micros + rule.plus_s * _SECOND, reasons


def to_micros(column: Column, *, zone: str) -> tuple[Int64Array, npt.NDArray[np.object_]]:
    """Return a column of times as microseconds since 1970 (0 where there is none) and the reasons, as event_times."""
    kind = column.type
    reasons = np.full(len(column), "", dtype=object)
    if pa.types.is_integer(kind):  # our own readers give microseconds
        stamps = column.cast(pa.int64()).cast(US)
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        stamps = column.cast(US, safe=False)
    else:
        stamps, reasons = _from_local(_naive(column), zone)
    reasons[np.asarray(column.is_null())] = NO_TIME
    failed = np.asarray(stamps.is_null()) & (reasons == "")
    reasons[failed] = NO_TIME
    return np.asarray(stamps.cast(pa.int64()).fill_null(0).to_numpy(), dtype=np.int64), reasons


def _naive(column: Column) -> Column:
    """Return dates, texts and naive stamps as naive microseconds; a text that is no time becomes null."""
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pa.chunked_array([pa.array([_parse(text) for text in column.to_pylist()], pa.timestamp("us"))])
    raise Malformed("wrong_dtype", f"expected times, received {column.type}")


def _parse(text: str | None) -> int | None:
    """Return the microseconds that a text such as 2026-08-20T00:00:00Z names, read as UTC where it has no zone."""
    try:
        return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64)) if text else None
    except ValueError:
        return None


def _from_local(naive: Column, zone: str) -> tuple[Column, npt.NDArray[np.object_]]:
    reasons = np.full(len(naive), "", dtype=object)
    if zone == "UTC":
        return naive.cast(US), reasons
    early = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
    late = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="latest")
    differ = _true(pc.not_equal(early, late), empty=False)
    # A time that exists reads back as itself.
    back = pc.local_timestamp(early)
    exists = _true(pc.equal(back, naive), empty=True)
    reasons[differ & exists] = AMBIGUOUS
    reasons[differ & ~exists] = NONEXISTENT
    return early.cast(US), reasons


def _true(column: Column, *, empty: bool) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(column, empty), dtype=bool)


def known_times(event: Int64Array, column: Column | None, rule: Known) -> Int64Array:
    """Return when each row could first be known, microseconds since 1970; never before its event."""
    if rule.rule == "column":
        assert column is not None, "the rule names a column"
        stated, reasons = to_micros(column, zone="UTC")
        return np.where(reasons == "", np.maximum(event, stated), event)
    if rule.rule == "after":
        return event + rule.plus_s * _SECOND
    if rule.rule == "weekdays":
        days = (-(-event // _DAY)).astype("datetime64[D]")  # an event inside a day counts from the day's end
        later = np.busday_offset(days, rule.weekdays, roll="forward")
        return np.maximum(event, later.astype("datetime64[us]").astype(np.int64))
    if rule.rule == "at":
        assert rule.at is not None, "checked with the catalogue"
        return np.maximum(event, micros_of_text(rule.at))
    return event


def micros_of_text(text: str) -> int:
    """Return the microseconds since 1970 of an instant of the catalogue, such as 2026-02-01T00:00:00Z."""
    return micros_of(parse_instant(text))
