"""
Planted leaks, and honest neighbors of them: a proof that does not tell them apart is no proof.

This file looks ahead on purpose. Each control runs through the same prover, on the same tables and cut-offs, as what
it stands beside; the artefact records what was found, and the registry demands it (qraft_registry.proofs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant import align
from qraft_quant.align.times import MicrosArray
from qraft_quant.proof.perturb import Compute, Output, Table, Tables
from qraft_quant.proof.subjects import BARS, EVENTS, POSTS

FloatArray = npt.NDArray[np.float64]

_TINY: Final = 1e-13  # of the size of a rounding error
_QUARTER_BARS: Final = 3
_HOUR_BARS: Final = 12


@dataclass(frozen=True, slots=True)
class Control:
    """One control. is_leak: whether the proof must find something."""

    name: str
    is_leak: bool
    compute: Compute


def _next(x: FloatArray) -> FloatArray:
    return np.concatenate([x[1:], np.full((1, *x.shape[1:]), np.nan)])


def _expanding_mean(x: FloatArray) -> FloatArray:
    return np.nancumsum(x, axis=0) / np.arange(1, len(x) + 1)[:, None]


def _group_end(bars: Table, n_bars: int, *, interval_us: int) -> FloatArray:
    """Return at each bar the last close of the group of n_bars on the grid that it lies in."""
    index = bars.known_at // interval_us
    end = (-(-index // n_bars) * n_bars) - index[0]
    closes: FloatArray = bars["close"][np.minimum(end, len(bars) - 1)]
    return closes


def _by_event_time(tables: Tables) -> FloatArray:
    """Join events by what they are about: a late revision stands where its event stood, long before it was known."""
    bars, events = tables[BARS], tables[EVENTS]
    order = np.lexsort((events.known_at, events["event_at"]))
    return align.as_of_join(bars.known_at, events["event_at"][order], events["value"][order])[:, None]


def _next_event(tables: Tables) -> FloatArray:
    """Join each bar with the first event at or after it, as a join in the wrong direction does."""
    bars, events = tables[BARS], tables[EVENTS]
    row = np.searchsorted(events.known_at, bars.known_at)
    if not len(events):
        return np.full((len(bars), 1), np.nan)
    joined = events["value"][np.minimum(row, len(events) - 1)]
    return np.where(row < len(events), joined, np.nan)[:, None]


def _bucket_at_its_start(tables: Tables, *, interval_us: int) -> FloatArray:
    """Count posts in the bucket that begins at each bar's end."""
    bars, posts = tables[BARS], tables[POSTS]
    ends = bars.known_at + interval_us
    made = align.bucket_sums(posts.known_at, posts["score"][:, None], ends=ends, bucket_us=interval_us)
    counted: FloatArray = made.n_items + made.sums[:, :, 0]
    return counted


def controls(*, interval_us: int) -> list[Control]:
    """Return every control."""

    def on_closes(name: str, is_leak: bool, function: Callable[[FloatArray], FloatArray]) -> Control:
        def compute(tables: Tables) -> Output:
            bars = tables[BARS]
            with np.errstate(all="ignore"):
                return _output(bars.known_at, name, function(bars["close"]))

        return Control(name, is_leak, compute)

    def on_tables(name: str, is_leak: bool, function: Callable[[Tables], FloatArray]) -> Control:
        return Control(name, is_leak, lambda tables: _output(tables[BARS].known_at, name, function(tables)))

    return [
        on_closes("whole-frame z-score", True, lambda x: (x - _mean(x)) / _spread(x)),
        on_closes("shift(-1)", True, _next),
        on_closes("undelayed label", True, lambda x: np.log(_next(x) / x)),
        on_closes("last value", True, lambda x: x / x[-1]),
        on_closes("full mean", True, lambda x: x - _mean(x)),
        on_closes("expanding mean from the end", True, lambda x: _expanding_mean(x[::-1])[::-1]),
        on_closes("expanding mean over the whole length", True, lambda x: np.nancumsum(x, axis=0) / len(x)),
        on_closes("rounding-sized leak", True, lambda x: x * (1.0 + _TINY * np.nanmax(x))),
        on_closes("row that vanishes", True, lambda x: np.where(np.isnan(_next(x)), np.nan, 1.0)),
        on_tables("quarter joined from its end", True, lambda t: _group_end(
            t[BARS], _QUARTER_BARS, interval_us=interval_us)),
        on_tables("hour joined from its end", True, lambda t: _group_end(t[BARS], _HOUR_BARS, interval_us=interval_us)),
        on_tables("forward join", True, _next_event),
        on_tables("late revision joined by event time", True, _by_event_time),
        on_tables("text bucket known at its start", True, lambda t: _bucket_at_its_start(t, interval_us=interval_us)),
        on_closes("expanding mean", False, _expanding_mean),
        on_closes("return", False, lambda x: np.log(x / align.lag(x, 1))),
        on_tables("join by the time known", False, lambda t: align.as_of_join(
            t[BARS].known_at, t[EVENTS].known_at, t[EVENTS]["value"], event_at=t[EVENTS]["event_at"])[:, None]),
    ]  # fmt: skip


def _mean(x: FloatArray) -> FloatArray:
    mean: FloatArray = np.nansum(x, axis=0) / np.maximum((~np.isnan(x)).sum(axis=0), 1)
    return mean


def _spread(x: FloatArray) -> FloatArray:
    spread: FloatArray = np.sqrt(_mean((x - _mean(x)) ** 2))
    return spread


def _output(at: MicrosArray, name: str, values: FloatArray) -> Output:
    return Output(at, (name,), values[:, :, None])
