"""What should be there: windows by mode, thresholds, and the times at which a series owes a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from qraft_contracts.kinds import KINDS, MONTHLY_SERIES, Kind
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_data.calendars import expected_times
from qraft_data.times import SECOND_US, Int64Array, micros

PRODUCTION_DAYS: Final = 420
FULL_SINCE: Final = datetime(2018, 1, 1, tzinfo=UTC)
# Monthly values are published until so long after their month; before that none is owed.
MONTHLY_LAG_US: Final = 45 * 86_400 * SECOND_US
# The hours of markets that close; every other market never does. A market below one keeps its hours.
MARKET_CALENDARS: Final = {"us.equities": "XNYS", "us.macro": "XNYS"}
# Closed at hours that nobody wrote down for these sources: nothing is owed.
NO_CALENDAR_SUFFIXES: Final = ("fx", "fx.1h")
# They happen when they happen.
_AT_WILL: Final = ("corporate_actions",)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a series must hold to be ready."""

    completeness_min: float = 0.99
    outlier_frac_max: float = 0.0005
    drift_max: float = 20.0


@dataclass(frozen=True, slots=True)
class Window:
    """(start, end] of an audit."""

    start: datetime
    end: datetime

    @property
    def start_us(self) -> int:
        """Return the start in microseconds."""
        return micros(self.start)

    @property
    def end_us(self) -> int:
        """Return the end in microseconds."""
        return micros(self.end)


def window_of(mode: str, *, end: datetime, days: int = PRODUCTION_DAYS) -> Window:
    """
    Return the window of a mode: `production` = the last `days`, `full` = since 2018.

    Raises:
        ValueError: if the mode is neither, or the window would be empty.
    """
    if mode not in ("production", "full"):
        raise ValueError(f"expected the mode production or full, received {mode!r}")
    start = FULL_SINCE if mode == "full" else end - timedelta(days=days)
    if start >= end:
        raise ValueError(f"expected an end after {start.isoformat()}, received {end.isoformat()}")
    return Window(start, end)


def recent_part(kind: Kind, window: Window) -> Window:
    """Return the part of the window that a source with short retention can still fill; all of it for the others."""
    if kind.retention_days is None:
        return window
    return Window(max(window.start, window.end - timedelta(days=kind.retention_days)), window.end)


def owed_times(
    kind_name: str, *, market: str, interval: str, symbol: str, window: Window, step_s: int | None = None
) -> Int64Array | None:
    """
    Return when a series owes a row in the window, in microseconds, or None where nothing says so.

    Args:
        interval: of bars; else "".
        step_s: the series' own pace where its rows tell it (the period of funding).
    """
    if kind_name in _AT_WILL or market.endswith(NO_CALENDAR_SUFFIXES):
        return None
    if kind_name == "macro" and symbol in MONTHLY_SERIES:
        return _month_ends(window)
    pace = INTERVAL_SECONDS.get(interval or market.rpartition(".")[2]) or step_s or KINDS[kind_name].cadence_s
    if pace is None:
        return None
    name = next((name for name, seconds in INTERVAL_SECONDS.items() if seconds == pace), None)
    if name is not None:
        return expected_times(calendar_of(market), name, window.start, window.end)
    step = pace * SECOND_US
    return np.arange(window.start_us // step + 1, window.end_us // step + 1, dtype=np.int64) * step


def _month_ends(window: Window) -> Int64Array:
    """Return the ends of the months of the window that are published by its end."""
    first = np.datetime64(window.start_us, "us").astype("datetime64[M]")
    last = np.datetime64(window.end_us - MONTHLY_LAG_US, "us").astype("datetime64[M]")
    ends = np.arange(first, last + 1).astype("datetime64[us]").astype(np.int64)
    found: Int64Array = ends[(ends > window.start_us) & (ends <= window.end_us - MONTHLY_LAG_US)]
    return found


def calendar_of(market: str) -> str | None:
    """Return the trading calendar of a market, None = never closed."""
    return next((it for name, it in MARKET_CALENDARS.items() if market == name or market.startswith(f"{name}.")), None)
