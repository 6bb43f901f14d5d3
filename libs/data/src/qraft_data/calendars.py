"""
Trading calendars: when a market is open, and at which times its bars are expected.

Sessions come from exchange_calendars (holidays and half days of more than 50 exchanges); "24/7" never closes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.times import DAY_US, SECOND_US, BoolArray, Int64Array, micros

ALWAYS_OPEN: Final = "24/7"
# 60 years of 1-minute bars, 250 MB of times. More is a wrong start instant.
N_TIMES_MAX: Final = 32_000_000
# A session may begin on the day before the one it is named after, and a bar may end on the day after.
_MARGIN: Final = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Sessions:
    """
    The sessions of one exchange in order, in microseconds since 1970 UTC, each array (n_sessions,).

    day_us: midnight UTC of the date that names the session. break_start_us, break_end_us: the pause at noon; both are
    the close where there is none. is_half_day: closes earlier than usual.
    """

    calendar: str
    day_us: Int64Array
    open_us: Int64Array
    break_start_us: Int64Array
    break_end_us: Int64Array
    close_us: Int64Array
    is_half_day: BoolArray

    @property
    def sha256(self) -> str:
        """Return what names these hours: another release of the calendar's rules may know other holidays."""
        digest = hashlib.sha256(self.calendar.encode())
        for part in (self.open_us, self.break_start_us, self.break_end_us, self.close_us):
            digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()


def sessions_of(calendar: str, *, start: datetime, end: datetime) -> Sessions:
    """
    Return the sessions that have a part in (start, end].

    Args:
        calendar: a name of exchange_calendars such as XNYS; not 24/7, which has no sessions worth listing.

    Raises:
        ValueError: if there is no such calendar, or it does not reach so far.
    """
    schedule, early = _schedule(calendar, (start - _MARGIN).date(), (end + _MARGIN).date())
    open_us, close_us = _column(schedule, "open"), _column(schedule, "close")
    pause, resume = _column(schedule, "break_start"), _column(schedule, "break_end")
    has_break = ~(np.isnan(pause) | np.isnan(resume))
    keep = (close_us > micros(start)) & (open_us < micros(end))
    return Sessions(
        calendar=calendar,
        day_us=_micros_of(schedule.index.to_numpy())[keep],
        open_us=open_us[keep].astype(np.int64),
        break_start_us=np.where(has_break, pause, close_us)[keep].astype(np.int64),
        break_end_us=np.where(has_break, resume, close_us)[keep].astype(np.int64),
        close_us=close_us[keep].astype(np.int64),
        is_half_day=np.isin(_micros_of(schedule.index.to_numpy()), _micros_of(early.to_numpy()))[keep],
    )


def expected_times(calendar: str | None, interval: str, start: datetime, end: datetime) -> Int64Array:
    """
    Return the ends of all bars that a market should have in (start, end], as microseconds since 1970.

    A bar of minutes or hours is expected when any part of it lies in a session (the first hourly bar of New York ends
    at 10:00 and covers half an hour). A daily bar ends at midnight UTC after the date that names its session.

    Args:
        calendar: None or "24/7" = every step of the grid.
        interval: a key of INTERVAL_SECONDS.

    Raises:
        ValueError: if the calendar or interval is unknown, the calendar does not reach so far, or there are too many
            bars.
    """
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"expected an interval out of {sorted(INTERVAL_SECONDS)}, received {interval!r}")
    step, first, last = INTERVAL_SECONDS[interval] * SECOND_US, micros(start), micros(end)
    if (last - first) // step > N_TIMES_MAX:
        raise ValueError(f"expected at most {N_TIMES_MAX} bars, asked for {(last - first) // step}: ask in parts")
    if calendar is None or calendar == ALWAYS_OPEN:
        return np.arange(first // step + 1, last // step + 1, dtype=np.int64) * step
    # A day earlier, for the daily bar that ends in the range while its session does not.
    sessions = sessions_of(calendar, start=start - timedelta(days=1), end=end)
    if step >= DAY_US:
        found = sessions.day_us + step
    else:
        found = np.concatenate(
            [
                _steps(sessions.open_us, sessions.break_start_us, step),
                _steps(sessions.break_end_us, sessions.close_us, step),
            ]
        )
    unique: Int64Array = np.unique(found)
    return unique[(unique > first) & (unique <= last)]


def _steps(open_us: Int64Array, close_us: Int64Array, step: int) -> Int64Array:
    """Return the ends of the grid steps that overlap each [open, close)."""
    first, last = open_us // step + 1, -(-close_us // step)
    n_steps = np.where(close_us > open_us, last - first + 1, 0)
    before = np.repeat(np.cumsum(n_steps) - n_steps, n_steps)
    ends: Int64Array = (np.repeat(first, n_steps) + np.arange(n_steps.sum()) - before) * step
    return ends


# A fifth of a second each, and a query asks twice. Pure: the same dates give the same sessions.
@lru_cache(maxsize=32)
def _schedule(calendar: str, start: date, end: date) -> tuple[Any, Any]:
    # Imported here: it brings pandas in, two seconds that readers of round-the-clock markets need not wait.
    import exchange_calendars
    from exchange_calendars.errors import CalendarError

    try:
        found = exchange_calendars.get_calendar(calendar, start=start.isoformat(), end=end.isoformat())
    except (CalendarError, ValueError) as error:
        raise ValueError(
            f"expected a calendar such as XNYS that has sessions from {start} to {end}, received {calendar!r}: {error}"
        ) from error
    return found.schedule, found.early_closes


def _column(schedule: Any, name: str) -> Any:
    """Return a column of the schedule as float64 microseconds (exact below 2**53: to the year 2255), NaN for none."""
    times = schedule[name].to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64).astype(np.float64))


def _micros_of(times: Any) -> Int64Array:
    return np.asarray(np.asarray(times).astype("datetime64[us]"), dtype=np.int64)
