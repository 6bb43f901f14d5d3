"""The newest bar of a block of symbols, turned into the series that the rings hold. Compiled as part of kernel.py."""

from __future__ import annotations

from numba import njit

from qraft_quant.features.compiled import INNER, OUTER
from qraft_quant.features.layout import LONG_RING_BARS, PRICE_MAX, PRICE_MIN, Long, Short
from qraft_quant.features.logarithm import log
from qraft_quant.features.rolling import slot_before
from qraft_quant.features.state import Bars, Now, State

# Rows of State.bar.
OPEN, HIGH, LOW, CLOSE, VOLUME, LOG_OPEN = range(6)
# Garman and Klass (1980), eq. 20 without the small cross terms: 2 ln 2 - 1.
GARMAN_KLASS_BODY = 0.38629436111989061883


@njit(**INNER)
def is_valid_bar(open_: float, high: float, low: float, close: float, volume: float) -> bool:
    """
    Return whether a market can have made this row: finite positive prices, high and low around them, volume >= 0.

    Plain & of comparisons, no branches: NaN compares false.
    """
    return (
        (low > PRICE_MIN)
        & (low <= open_)
        & (low <= close)
        & (open_ <= high)
        & (close <= high)
        & (high < PRICE_MAX)
        & (volume >= 0.0)
        & (volume * high < PRICE_MAX)
    )


@njit(**INNER)
def take_bar(state: State, bars: Bars, t: int, first_column: int) -> None:
    """
    Copy row t of the bars into state.bar and count valid bars in a row.

    A missing bar stands as price 1 and volume 0: every series below is then exactly 0, adds nothing to a sum and
    takes nothing away when it leaves. `run` keeps its factors NaN meanwhile.
    """
    bar, run = state.bar, state.run
    o, h, lo, c, v = bars.open, bars.high, bars.low, bars.close, bars.volume
    for s in range(run.size):
        at = first_column + s
        valid = is_valid_bar(o[t, at], h[t, at], lo[t, at], c[t, at], v[t, at])
        bar[OPEN, s] = o[t, at] if valid else 1.0
        bar[HIGH, s] = h[t, at] if valid else 1.0
        bar[LOW, s] = lo[t, at] if valid else 1.0
        bar[CLOSE, s] = c[t, at] if valid else 1.0
        bar[VOLUME, s] = v[t, at] if valid else 0.0
        run[s] = run[s] + 1 if valid else 0


@njit(**INNER)
def _fill_logs(state: State, now: Now) -> None:
    """Write the logs of the four prices; one loop each, as one loop over all would not become vector code."""
    bar, long, short = state.bar, state.long, state.short
    for s in range(bar.shape[1]):
        long[Long.LOG_CLOSE, now.long, s] = log(bar[CLOSE, s])
    for s in range(bar.shape[1]):
        bar[LOG_OPEN, s] = log(bar[OPEN, s])
    for s in range(bar.shape[1]):
        short[Short.HIGH_1, now.short, s] = log(bar[HIGH, s])
    for s in range(bar.shape[1]):
        short[Short.LOW_1, now.short, s] = log(bar[LOW, s])


@njit(**INNER)
def _fill_returns(state: State, now: Now) -> None:
    """Fill the series that need the previous close; 0 where there is no valid one."""
    long, short, bar, run = state.long, state.short, state.bar, state.run
    previous = slot_before(now.long, 1, LONG_RING_BARS)
    for s in range(run.size):
        change = long[Long.LOG_CLOSE, now.long, s] - long[Long.LOG_CLOSE, previous, s] if run[s] > 1 else 0.0
        long[Long.SQUARED_RETURN, now.long, s] = change * change
        short[Short.ABSOLUTE_RETURN, now.short, s] = abs(change)
        short[Short.RISE, now.short, s] = change if change > 0.0 else 0.0
    for s in range(run.size):
        change = long[Long.LOG_CLOSE, now.long, s] - long[Long.LOG_CLOSE, previous, s] if run[s] > 1 else 0.0
        sign = 1.0 if change > 0.0 else (-1.0 if change < 0.0 else 0.0)
        short[Short.SIGNED_VOLUME, now.short, s] = sign * bar[VOLUME, s]
    for s in range(run.size):
        close = long[Long.LOG_CLOSE, previous, s]
        high, low = short[Short.HIGH_1, now.short, s], short[Short.LOW_1, now.short, s]
        spread = (high if high > close else close) - (low if low < close else close)
        short[Short.TRUE_RANGE, now.short, s] = spread if run[s] > 1 else 0.0


@njit(**INNER)
def _fill_ranges(state: State, now: Now) -> None:
    long, short, bar = state.long, state.short, state.bar
    for s in range(bar.shape[1]):
        spread = short[Short.HIGH_1, now.short, s] - short[Short.LOW_1, now.short, s]
        short[Short.RANGE, now.short, s] = spread
        short[Short.SQUARED_RANGE, now.short, s] = spread * spread
    for s in range(bar.shape[1]):
        body = long[Long.LOG_CLOSE, now.long, s] - bar[LOG_OPEN, s]
        squared_range = short[Short.SQUARED_RANGE, now.short, s]
        short[Short.GARMAN_KLASS, now.short, s] = 0.5 * squared_range - GARMAN_KLASS_BODY * (body * body)


@njit(**INNER)
def _fill_volumes(state: State, now: Now) -> None:
    short, bar = state.short, state.bar
    for s in range(bar.shape[1]):
        volume = bar[VOLUME, s]
        short[Short.VOLUME, now.short, s] = volume
        short[Short.TRADED, now.short, s] = 1.0 if volume > 0.0 else 0.0
    for s in range(bar.shape[1]):
        spread = bar[HIGH, s] - bar[LOW, s]
        location = (2.0 * bar[CLOSE, s] - bar[HIGH, s] - bar[LOW, s]) / spread if spread > 0.0 else 0.0
        short[Short.MONEY_FLOW, now.short, s] = location * bar[VOLUME, s]
    for s in range(bar.shape[1]):
        typical = (bar[HIGH, s] + bar[LOW, s] + bar[CLOSE, s]) / 3.0
        short[Short.PRICE_VOLUME, now.short, s] = typical * bar[VOLUME, s]
    for s in range(bar.shape[1]):
        turnover = log(1.0 + bar[VOLUME, s] * bar[CLOSE, s])
        short[Short.LOG_TURNOVER, now.short, s] = turnover
        short[Short.SQUARED_LOG_TURNOVER, now.short, s] = turnover * turnover


@njit(**OUTER)
def fill_series(state: State, now: Now) -> None:
    """Write every series of the bar in state.bar into the rings."""
    _fill_logs(state, now)
    _fill_returns(state, now)
    _fill_ranges(state, now)
    _fill_volumes(state, now)
