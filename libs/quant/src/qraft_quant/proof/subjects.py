"""What is put to the proof: tables made from bars, features and labels on them; aligned.py adds the aligner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_quant.align import lag
from qraft_quant.align.times import IntArray, MicrosArray
from qraft_quant.labels import forward_returns, net_labels, realized_volatility, trailing_returns
from qraft_quant.proof.perturb import Compute, Output, Table, Tables

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

BARS: Final = "bars"
EVENTS: Final = "events"
POSTS: Final = "posts"
OHLCV: Final = ("open", "high", "low", "close", "volume")
# (inputs by name, each (n_bars, n_symbols); grid index of row 0) -> (n_bars, n_symbols, n_features).
ComputeFeatures = Callable[[Mapping[str, FloatArray], int], Float32Array]

# A label's round-trip cost is a constant that no time touches.
_COST: Final = 0.002
_KNOWN_FRAC_MIN: Final = 0.95
# Cut-offs lie at these places of the hour: see cut_rows.
_PERIOD: Final = 12
_RESIDUES: Final = (1, 6, 11, 3, 8, 10)


@dataclass(frozen=True, slots=True)
class BarInputs:
    """
    The bars of a proof: closed_at (n_bars,), microseconds on the grid of interval_us without gaps; values by name,
    (n_bars, n_symbols) each, the five of a bar and whatever else features read.
    """

    closed_at: MicrosArray
    values: Mapping[str, FloatArray]
    interval_us: int

    @property
    def first_index(self) -> int:
        """Return the grid index of row 0."""
        return int(self.closed_at[0]) // self.interval_us

    @property
    def n_symbols(self) -> int:
        """Return the number of symbols."""
        return int(self.values["close"].shape[1])


@dataclass(frozen=True, slots=True)
class ProvenFeatures:
    """
    A feature set as the proof sees it: names in the order of the last axis, the signature it is stored under, what it
    reads, bars that it needs before a value is final, and the function that history and live line share.
    """

    names: tuple[str, ...]
    signature: str
    inputs: tuple[str, ...]
    warm_up_bars: int
    compute: ComputeFeatures


@dataclass(frozen=True, slots=True)
class Subject:
    """
    One computation to be proven. kind: feature, label, join, normalizer, resample, text_bucket, lag, derived.

    first_row: bar row before which cut-offs would find nothing known yet.
    """

    kind: str
    compute: Compute
    first_row: int = 0


def tables_of(bars: BarInputs, *, seed: int) -> Tables:
    """
    Return the bars as a table, and two more made from them: events with revisions and late arrivals, and posts.

    An event is about the close of some bar, known up to 30 bars later; one in three is corrected later again, with
    another value under the same event_at. Posts come at any time, about any symbol, up to 5 bars after their event.
    """
    rng = np.random.default_rng([seed, 77])
    n_bars, step, closes = bars.closed_at.size, bars.interval_us, bars.values["close"]
    n_events = 2 * n_bars
    row, symbol = rng.integers(0, n_bars, n_events), rng.integers(0, bars.n_symbols, n_events)
    event_at = bars.closed_at[row] - rng.integers(0, step, n_events)
    known_at = event_at + (rng.exponential(4.0, n_events).clip(0, 30) * step).astype(np.int64)
    value = np.nan_to_num(closes[row, symbol], nan=1.0) * rng.lognormal(0.0, 0.02, n_events)
    corrected = rng.random(n_events) < 1 / 3
    known_again = known_at[corrected] + (rng.exponential(20.0, int(corrected.sum())) * step).astype(np.int64) + 1
    events = _table(
        np.concatenate([known_at, known_again]),
        event_at=np.concatenate([event_at, event_at[corrected]]),
        symbol=np.concatenate([symbol, symbol[corrected]]),
        value=np.concatenate([value, value[corrected] * 1.5]),
    )
    at = bars.closed_at[0] + rng.integers(0, int(bars.closed_at[-1] - bars.closed_at[0]), n_events)
    posts = _table(
        at,
        event_at=at - rng.integers(0, 5 * step, n_events),
        symbol=rng.integers(0, bars.n_symbols, n_events),
        score=rng.normal(0.0, 1.0, n_events),
        length=rng.lognormal(3.0, 1.0, n_events),
    )
    return {BARS: Table(bars.closed_at, dict(bars.values)), EVENTS: events, POSTS: posts}


def feature_subject(features: ProvenFeatures, *, interval_us: int) -> Subject:
    """Return all features of a set as one subject: one run gives every column."""

    def compute(tables: Tables) -> Output:
        bars = tables[BARS]
        first_index = int(bars.known_at[0]) // interval_us
        matrix = features.compute({name: bars[name] for name in features.inputs}, first_index)
        return Output(bars.known_at, features.names, matrix)

    return Subject("feature", compute, features.warm_up_bars)


def label_subjects(horizon_bars: Mapping[str, int]) -> list[Subject]:
    """Return the labels of each horizon, each in the row in which it is complete: causal, if they are honest."""
    return [_labels(name, bars) for name, bars in horizon_bars.items()]


def cut_rows(n_bars: int, *, first_row: int, first_index: int, fracs: Sequence[float]) -> list[int]:
    """
    Return bar rows to cut after, at the given fractions of the rows from first_row on, at different residues.

    A value joined from the end of its quarter of an hour leaks in every row but the last of each; cut-offs at
    different residues of the grid index, modulo the bars of an hour, cannot all fall on such rows. Three cut-offs on
    multiples of three hid exactly that leak.

    Raises:
        ValueError: if there are too few bars behind first_row.
    """
    last = n_bars - 2
    if last - first_row < 2 * _PERIOD:
        raise ValueError(f"expected at least {2 * _PERIOD} bars behind row {first_row}, received {n_bars} bars in all")
    rows = []
    for k, frac in enumerate(fracs):
        row = first_row + int(frac * (n_bars - first_row))
        row += (_RESIDUES[k % len(_RESIDUES)] - first_index - row) % _PERIOD
        rows.append(row if row <= last else row - _PERIOD)
    return rows


def output_of(at: MicrosArray, columns: Mapping[str, FloatArray]) -> Output:
    """Return columns of one shape (n, ...) as an output."""
    return Output(at, tuple(columns), np.stack(list(columns.values()), axis=-1))


def _labels(name: str, n_bars: int) -> Subject:
    def compute(tables: Tables) -> Output:
        bars = tables[BARS]
        close = bars["close"]
        volatility = realized_volatility(close, n_bars, known_frac_min=_KNOWN_FRAC_MIN)
        return output_of(
            bars.known_at,
            {
                f"forward return {name}": lag(forward_returns(close, n_bars), n_bars),
                f"net return {name}": lag(net_labels(close, n_bars, cost=_COST), n_bars),
                f"realized volatility {name}": lag(volatility, n_bars),
                f"trailing return {name}": trailing_returns(close, n_bars),
            },
        )

    return Subject("label", compute, n_bars)


def _table(known_at: MicrosArray, **columns: FloatArray | IntArray) -> Table:
    order = np.argsort(known_at, kind="stable")
    return Table(known_at[order], {name: values[order] for name, values in columns.items()})
