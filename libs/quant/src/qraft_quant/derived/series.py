"""Slow series and events: where a series stands among its own values, events in a day, the mark's premium."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align import as_of_join, bucket_ends, bucket_sums, rolling
from qraft_quant.align.times import FloatArray, MicrosArray

# A quarter of trading days; bars of five minutes reach back a week at most, so this is worked out of the series itself.
N_SCORED: Final = 60
N_DENSITY_HOURS: Final = 24
_HOUR_US: Final = 3_600_000_000


def series_state(values: FloatArray, known_us: MicrosArray) -> tuple[FloatArray, MicrosArray]:
    """
    Return the z-score of each value among the last 60, itself included, and when the last of them was known.

    Row t uses rows 0..t. NaN (and 0 as the time) before 60 rows, where a value is missing, and where nothing moves.

    Args:
        values, known_us: (n,), one row an event, by event; a value may be known later than the next one.
    """
    times = rolling(known_us.astype(np.float64), N_SCORED, np.max)  # microseconds until 2100 are exact
    scores = rolling(values, N_SCORED, _score)
    return scores, np.where(np.isnan(times), 0, times).astype(np.int64)


def event_density(known_us: MicrosArray, *, until_us: int | None = None) -> tuple[MicrosArray, FloatArray]:
    """
    Return the ends of hours, and how many events became known in the 24 hours up to each.

    From a day after the first event to where the source was last heard: beyond that nothing is known.

    Args:
        known_us: (n,), ascending.
        until_us: when the source was last heard, if only to say that nothing happened; an hour that was not over
            before may still grow and is left out. None = the end of the last event's hour: nothing can follow.
    """
    if not known_us.size:
        return np.empty(0, np.int64), np.empty(0)
    first, last = (int(end) // _HOUR_US for end in bucket_ends(known_us, _HOUR_US)[[0, -1]])
    if until_us is not None:
        last = (until_us - 1) // _HOUR_US
    ends = np.arange(first, last + 1, dtype=np.int64) * _HOUR_US
    made = bucket_sums(known_us, np.empty((known_us.size, 0)), ends=ends, bucket_us=_HOUR_US)
    in_a_day = rolling(made.n_items[:, 0].astype(np.float64), N_DENSITY_HOURS, np.sum)
    is_known = ~np.isnan(in_a_day)
    return ends[is_known], in_a_day[is_known]


def mark_premium(
    mark_us: MicrosArray, mark: FloatArray, mark_known_us: MicrosArray, closed_us: MicrosArray, close: FloatArray
) -> FloatArray:
    """
    Return mark / close - 1 where a bar ends exactly when the mark's bar does; NaN elsewhere.

    Prices of different instants would compare moves of the market, not the mark with the market.

    Args:
        mark_us, mark, mark_known_us: (n,), by the end of the mark's bar, when its close is known.
        closed_us, close: (m,), ascending; a close is known at its bar's end.

    Returns:
        (n,); each is known when the mark is, as that is never before the bar's end.
    """
    assert (mark_known_us >= mark_us).all(), "a mark is known after its bar"
    return mark / as_of_join(mark_us, closed_us, close, tolerance_us=0) - 1.0


def _score(window: npt.NDArray[Any], *, axis: int) -> npt.NDArray[Any]:
    # Sixty equal values have a spread of a rounding error: only what moved has a place.
    moved = np.max(window, axis=axis) > np.min(window, axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = (window[..., -1] - np.mean(window, axis=axis)) / np.std(window, axis=axis)
    return np.where(moved, scores, np.nan)
