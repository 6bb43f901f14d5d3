"""
Local times: every UTC instant has exactly one local time, but not the other way round.

On the day a clock is set back one local hour comes twice, on the day it is set forward one does not exist. Both are
named in results and errors and never resolved silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from qraft_data.times import DAY_US, SECOND_US, BoolArray, Int64Array, instant_of

Repeated = Literal["refuse", "first", "second"]
Skipped = Literal["refuse", "shift"]

# 200 years of days; more is a wrong unit (nanoseconds or seconds taken for microseconds).
_N_DAYS_MAX: Final = 73_200
# As many hours of a kind are named in an error; the rest is counted.
_N_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One change of a zone's offset at the UTC instant `at_us`; offsets in seconds east of Greenwich."""

    zone: str
    at_us: int
    before_s: int
    after_s: int

    @property
    def name(self) -> str:
        """Return the local hours concerned, such as `2025-11-02 01:00 to 02:00 America/New_York comes twice`."""
        first = self.at_us + min(self.before_s, self.after_s) * SECOND_US
        last = self.at_us + max(self.before_s, self.after_s) * SECOND_US
        what = "does not exist" if self.after_s > self.before_s else "comes twice"
        return f"{instant_of(first):%Y-%m-%d %H:%M} to {instant_of(last):%H:%M} {self.zone} {what}"


@dataclass(frozen=True, slots=True)
class LocalTimes:
    """
    Local times of UTC instants.

    local_us: (n,) wall clock as microseconds since 1970-01-01 00:00 of the same wall clock. offset_s: (n,) seconds
    east of Greenwich. is_repeated: (n,) the wall clock shows this hour twice; the offset tells which one it is.
    changes: the clock changes between the first and the last instant.
    """

    local_us: Int64Array
    offset_s: Int64Array
    is_repeated: BoolArray
    changes: tuple[ClockChange, ...]


def zone_of(name: str) -> ZoneInfo:
    """
    Return an IANA zone.

    Raises:
        ValueError: if there is no zone of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"expected an IANA time zone such as America/New_York, received {name!r}") from error


def clock_changes(zone: str, *, first_us: int, last_us: int) -> tuple[ClockChange, ...]:
    """
    Return a zone's clock changes with first_us <= at <= last_us, in order.

    Raises:
        ValueError: if the zone is unknown or the range is longer than 200 years.
    """
    rules = zone_of(zone)
    n_days = (last_us - first_us) // DAY_US + 2
    if n_days > _N_DAYS_MAX:
        raise ValueError(f"expected at most 200 years, received {n_days} days: are the times in microseconds?")
    found = []
    left, left_s = first_us - SECOND_US, _offset_s(rules, first_us - SECOND_US)
    for _ in range(n_days):
        if left >= last_us:
            break
        right = min(left + DAY_US, last_us)
        right_s = _offset_s(rules, right)
        if right_s != left_s:
            found.append(ClockChange(zone, _bisect(rules, left, right, left_s), left_s, right_s))
        left, left_s = right, right_s
    return tuple(found)


def to_local(utc_us: Int64Array, zone: str) -> LocalTimes:
    """
    Return the local time of each instant.

    Args:
        utc_us: (n,) increasing or not.
        zone: IANA name.

    Raises:
        ValueError: if the zone is unknown.
    """
    if utc_us.size == 0:
        zone_of(zone)
        return LocalTimes(utc_us, np.zeros(0, np.int64), np.zeros(0, np.bool_), ())
    first, last = int(utc_us.min()), int(utc_us.max())
    # Two days more on each side: an hour next to the range may be one of two that look alike.
    changes = clock_changes(zone, first_us=first - 2 * DAY_US, last_us=last + 2 * DAY_US)
    at = np.array([change.at_us for change in changes], dtype=np.int64)
    offsets = _offsets(zone, changes, first - 2 * DAY_US)
    offset_s = offsets[np.searchsorted(at, utc_us, side="right")]
    is_repeated = np.zeros(utc_us.size, np.bool_)
    for change in changes:
        width = (change.before_s - change.after_s) * SECOND_US
        if width > 0:
            is_repeated |= (utc_us >= change.at_us - width) & (utc_us < change.at_us + width)
    inside = tuple(change for change in changes if first <= change.at_us <= last)
    return LocalTimes(utc_us + offset_s * SECOND_US, offset_s, is_repeated, inside)


def to_utc(local_us: Int64Array, zone: str, *, repeated: Repeated, skipped: Skipped = "refuse") -> Int64Array:
    """
    Return the UTC instants of wall-clock times.

    Args:
        local_us: (n,) wall clock as microseconds since 1970-01-01 00:00 of the same wall clock.
        zone: IANA name.
        repeated: what an hour that comes twice means; `refuse` names it.
        skipped: what an hour that does not exist means; `shift` moves it forward by the gap, as a clock would.

    Raises:
        ValueError: if the zone is unknown, or for the hours to be refused.
    """
    if local_us.size == 0:
        zone_of(zone)
        return local_us
    first, last = int(local_us.min()) - 2 * DAY_US, int(local_us.max()) + 2 * DAY_US
    changes = clock_changes(zone, first_us=first, last_us=last)
    offsets = _offsets(zone, changes, first)
    n_passed = np.zeros(local_us.size, np.int64)
    for change in changes:
        low = change.at_us + min(change.before_s, change.after_s) * SECOND_US
        high = change.at_us + max(change.before_s, change.after_s) * SECOND_US
        inside = (local_us >= low) & (local_us < high)
        is_gap = change.after_s > change.before_s
        if inside.any() and (skipped if is_gap else repeated) == "refuse":
            raise ValueError(_refusal(change, local_us[inside]))
        # In a gap the old offset moves the clock forward; in a repeated hour the new one is the second of the two.
        n_passed += (local_us >= high) | (inside & (not is_gap) & (repeated == "second"))
    return local_us - offsets[n_passed] * SECOND_US


def _refusal(change: ClockChange, local_us: Int64Array) -> str:
    named = ", ".join(f"{instant_of(int(value)):%Y-%m-%d %H:%M:%S}" for value in local_us[:_N_NAMED_MAX])
    remedy = "skipped='shift'" if change.after_s > change.before_s else "repeated='first' or 'second'"
    return f"expected local times that exist once, received {local_us.size} ({named}): {change.name}; say {remedy}"


def _offsets(zone: str, changes: tuple[ClockChange, ...], first_us: int) -> Int64Array:
    start = changes[0].before_s if changes else _offset_s(zone_of(zone), first_us)
    return np.array([start, *(change.after_s for change in changes)], dtype=np.int64)


def _offset_s(rules: ZoneInfo, utc_us: int) -> int:
    offset = datetime.fromtimestamp(utc_us // SECOND_US, rules).utcoffset()
    assert offset is not None, "an aware instant has an offset"
    return int(offset.total_seconds())


def _bisect(rules: ZoneInfo, left: int, right: int, left_s: int) -> int:
    """Return the first instant after `left` with another offset, to the second. Ends: the distance halves."""
    while right - left > SECOND_US:
        middle = (left + right) // 2
        left, right = (middle, right) if _offset_s(rules, middle) == left_s else (left, middle)
    return -(-(left + 1) // SECOND_US) * SECOND_US
