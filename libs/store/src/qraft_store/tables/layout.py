"""
Where rows lie in the lake: `tables/<kind>/<market>/<partition>/`, by the UTC date of event_at.

A partition is what one write replaces and what a read opens whole. What comes many times an hour lies by day, what
comes every hour or so by month (a day of it is a few hundred rows, and a file a day would cost more to open than to
read), daily and rarer series by year (35 years of a daily index: 36 files instead of 430).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.tables.schema import Int64Array, kind_of

Period = Literal["date", "month", "year"]

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
# Kinds without a cadence come whenever something happens. These do so many times an hour, or are as large:
_FREQUENT: Final = frozenset(
    {"trades", "book_snapshot", "book_update", "book_ticker", "option_quotes", "posts", "post_engagement"}
)
# and these a few times a year.
_RARE: Final = frozenset({"corporate_actions", "futures_contracts"})
_UNITS: Final[dict[Period, Literal["D", "M", "Y"]]] = {"date": "D", "month": "M", "year": "Y"}


def period_of(kind: str, market: str) -> Period:
    """
    Return how long a partition of a table is.

    A market whose name ends with an interval, such as oanda.fx.1h, has rows of that pace, whatever the kind's is: 11
    years of hourly quote bars in a file a day were 3,736 files of 12 kB.
    """
    cadence_s = kind_of(kind).cadence_s
    if cadence_s is None:
        return "date" if kind in _FREQUENT else "year" if kind in _RARE else "month"
    cadence_s = INTERVAL_SECONDS.get(market.rpartition(".")[2], cadence_s)
    return "date" if cadence_s < _HOUR_S else "month" if cadence_s < _DAY_S else "year"


def partitions_of(kind: str, market: str, event_micros: Int64Array) -> list[tuple[str, Int64Array]]:
    """Return the partitions that instants fall into, such as `date=2024-08-08`, oldest first, each with positions."""
    period = period_of(kind, market)
    dates: Any = event_micros.astype("datetime64[us]").astype(f"datetime64[{_UNITS[period]}]")
    distinct, inverse = np.unique(dates.astype(np.int64), return_inverse=True)
    names = [f"{period}={date}" for date in distinct.astype(dates.dtype)]
    return [(name, np.flatnonzero(inverse == i)) for i, name in enumerate(names)]


def partition_name(kind: str, market: str, micros: int) -> str:
    """Return the name of the partition of one instant; names sort by time."""
    return partitions_of(kind, market, np.array([micros], dtype=np.int64))[0][0]
