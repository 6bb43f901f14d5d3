"""What the training bars look like: rows, gaps, duplicates, missing, impossible and empty bars."""

from __future__ import annotations

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel
from svc_train.domain.findings import Finding
from svc_train.domain.panel import TrainingData
from svc_train.domain.samples import BoolArray


def inspect(data: TrainingData) -> Finding:
    """
    Count what is missing or odd in the training range. Fractions are of all grid rows (bars x symbols).

    `state.<name>.known_frac` says of how many bars a state was known: features of one that never was saw its flag only.

    Failures: a time grid that repeats, runs back or skips, and a symbol without a single bar. Gaps and impossible
    bars are measured; the gate holds its limits against the measures.
    """
    bars = data.bars
    present = np.isfinite(bars.close)
    invalid = present & ~_is_possible(bars)
    idle = present & (bars.volume == 0.0)
    step = np.timedelta64(INTERVAL_SECONDS[bars.interval], "s")
    steps = np.diff(bars.closed_at)
    n_duplicates = int((steps == np.timedelta64(0, "s")).sum())
    failures = [f"{symbol}: no bar in the training range" for symbol in _without(bars, present)]
    if n_duplicates:
        failures.append(f"{n_duplicates} grid steps appear twice")
    if (steps < np.timedelta64(0, "s")).any():
        failures.append("the time grid runs backwards")
    if (steps > step).any():
        failures.append("the time grid skips steps")
    measures = {
        "n_bars": float(bars.closed_at.size),
        "n_symbols": float(len(bars.symbols)),
        "n_rows": float(present.sum()),
        "missing_frac": float(1.0 - present.mean()),
        "invalid_frac": float(invalid.mean()),
        "zero_volume_frac": float(idle.mean()),
        "n_invalid": float(invalid.sum()),
        "n_zero_volume": float(idle.sum()),
        "n_duplicates": float(n_duplicates),
        "n_gaps": float(sum(_n_gaps(present[:, i]) for i in range(len(bars.symbols)))),
    }
    for i, symbol in enumerate(bars.symbols):
        measures[f"{symbol}.n_rows"] = float(present[:, i].sum())
        measures[f"{symbol}.missing_frac"] = float(1.0 - present[:, i].mean())
        measures[f"{symbol}.n_gaps"] = float(_n_gaps(present[:, i]))
        measures[f"{symbol}.n_zero_volume"] = float(idle[:, i].sum())
    n_present = max(1, int(present.sum()))
    for name in data.state_fields:
        n_known = int(np.isfinite(data.state[name]).sum()) if name in data.state else 0
        measures[f"state.{name}.known_frac"] = n_known / n_present
    # One check a symbol, and three of the grid: repeats, order, skips.
    return Finding("data_quality", len(bars.symbols) + 3, len(failures), tuple(failures), measures)


def _is_possible(bars: BarPanel) -> BoolArray:
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    prices = (bars.low > 0.0) & (bars.low <= bottom) & (bars.high >= top) & np.isfinite(bars.high)
    possible: BoolArray = prices & (bars.volume >= 0.0) & np.isfinite(bars.volume)
    return possible


def _without(bars: BarPanel, present: BoolArray) -> list[str]:
    return [symbol for i, symbol in enumerate(bars.symbols) if not present[:, i].any()]


def _n_gaps(present: BoolArray) -> int:
    """Return the number of runs of missing bars between the first and the last bar."""
    where = np.flatnonzero(present)
    return int((np.diff(where) > 1).sum())
