"""Prove a feature set, the labels and every part of the aligner in one go, with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.proof.aligned import AlignerSubjects
from qraft_quant.proof.compare import Tally
from qraft_quant.proof.controls import controls
from qraft_quant.proof.derived import DerivedSubjects
from qraft_quant.proof.perturb import CORRUPTIONS, Output, Tables
from qraft_quant.proof.prove import prove_subject
from qraft_quant.proof.subjects import (
    BARS,
    OHLCV,
    BarInputs,
    ProvenFeatures,
    Subject,
    cut_rows,
    feature_subject,
    label_subjects,
    tables_of,
)
from qraft_quant.proof.verdicts import ColumnProof, ControlProof, Proof

# Parts of qraft_quant whose source a proof is about: another digest of these files asks for another proof.
PROVEN_SOURCES: Final = ("features", "align", "derived", "proof", "labels.py")
# Of 40 rows 16, 23 and 31, as in ml4t/diagnostic's causality test, and three more between and behind them.
CUT_FRACS: Final = (0.4, 0.575, 0.775, 0.47, 0.68, 0.9)
# Warm-ups of 200 to 2,000 rows, as freqtrade's recursive analysis varies them.
STARTS: Final = (200, 500, 1_000, 2_000)
_ROWS_COMPARED_MIN: Final = 24
START_KIND: Final = "warm_up"


@dataclass(frozen=True, slots=True)
class SetProof:
    """
    All that one proof of a feature set found. columns: (kind, column), features and what else was proven; the kind
    `warm_up` holds each feature once more, computed from later first rows. cut_offs: microseconds. stimulated: inputs
    that the bars lacked and that were made up, so that features of them have something to read.
    """

    signature: str
    seed: int
    n_bars: int
    n_symbols: int
    cut_offs: tuple[int, ...]
    starts: tuple[int, ...]
    corruptions: tuple[str, ...]
    stimulated: tuple[str, ...]
    columns: tuple[tuple[str, ColumnProof], ...]
    controls: tuple[ControlProof, ...]

    @property
    def passed(self) -> bool:
        """Return whether every column passed and every control gave its known answer."""
        return (
            bool(self.columns)
            and all(column.passed for _, column in self.columns)
            and bool(self.controls)
            and all(control.passed for control in self.controls)
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """Return what did not pass, by kind and name."""
        return tuple(f"{kind} {column.name}" for kind, column in self.columns if not column.passed) + tuple(
            f"control {control.name}" for control in self.controls if not control.passed
        )


def prove_all(
    bars: BarInputs,
    features: ProvenFeatures,
    *,
    horizon_bars: Mapping[str, int],
    seed: int,
    more: Sequence[Subject] = (),
) -> SetProof:
    """
    Prove every feature of a set, every label, every part of the aligner, the derived kinds, and run the controls.

    Inputs that the features read and the bars lack are stimulated: drawn from the seed, with gaps.

    Args:
        bars: real bars, few symbols and a few thousand rows are enough; see bars_needed.
        horizon_bars: the labels' horizons, by name.
        more: other computations on the same tables, such as a service's own joins.

    Raises:
        ValueError: if the bars are too few; the message says how many are needed.
    """
    needed = bars_needed(features.warm_up_bars)
    n_bars = bars.closed_at.size
    if n_bars < needed:
        raise ValueError(
            f"expected at least {needed} bars for a proof of {len(features.names)} features, received {n_bars}"
        )
    full, stimulated = _stimulated(bars, features.inputs, seed=seed)
    tables = tables_of(full, seed=seed)
    subjects = [
        feature_subject(features, interval_us=full.interval_us),
        *label_subjects(horizon_bars),
        *AlignerSubjects(full.interval_us, full.n_symbols, n_bars).all(),
        *DerivedSubjects(full.interval_us, full.n_symbols).all(),
        *more,
    ]
    columns: list[tuple[str, ColumnProof]] = []
    cut_offs: set[int] = set()
    for subject in subjects:
        cuts = _cuts(full, subject.first_row)
        cut_offs.update(cuts)
        proof = prove_subject(subject.compute, _read_by(subject, tables), cut_offs=cuts, seed=seed)
        columns += [(subject.kind, column) for column in proof.columns]
    starts = tuple(start for start in STARTS if start + features.warm_up_bars + _ROWS_COMPARED_MIN <= n_bars)
    warm = _prove_starts(full, features, starts=starts)
    columns += [(START_KIND, column) for column in warm.columns]
    return SetProof(
        signature=features.signature,
        seed=seed,
        n_bars=n_bars,
        n_symbols=full.n_symbols,
        cut_offs=tuple(sorted(cut_offs)),
        starts=starts,
        corruptions=tuple(CORRUPTIONS),
        stimulated=stimulated,
        columns=tuple(columns),
        controls=tuple(_run_controls(full, tables, seed=seed)),
    )


def bars_needed(warm_up_bars: int) -> int:
    """Return how many bars a proof needs at least: warm-up, the shortest start, and rows to compare."""
    return warm_up_bars + STARTS[0] + _ROWS_COMPARED_MIN


def bars_wanted(warm_up_bars: int) -> int:
    """Return how many bars a proof uses in full: warm-up, the longest start, and as many rows again."""
    return warm_up_bars + 2 * STARTS[-1]


def _cuts(bars: BarInputs, first_row: int) -> list[int]:
    n_bars = bars.closed_at.size
    rows = cut_rows(n_bars, first_row=min(first_row, n_bars // 2), first_index=bars.first_index, fracs=CUT_FRACS)
    return [int(bars.closed_at[row]) for row in rows]


def _read_by(subject: Subject, tables: Tables) -> Tables:
    """Return the tables that a subject can read: features and labels are functions of bars alone."""
    return {BARS: tables[BARS]} if subject.kind in ("feature", "label", "lag") else tables


def _stimulated(bars: BarInputs, inputs: Sequence[str], *, seed: int) -> tuple[BarInputs, tuple[str, ...]]:
    """Return the bars with every input that features read; those that they lack are drawn, one row in ten missing."""
    lacking = tuple(
        name for name in inputs if name not in OHLCV and not np.isfinite(bars.values.get(name, np.array(np.nan))).any()
    )
    rng = np.random.default_rng([seed, 99])
    shape = bars.values["close"].shape
    values = dict(bars.values)
    for name in sorted(lacking):
        values[name] = np.where(rng.random(shape) < 0.1, np.nan, rng.lognormal(0.0, 0.5, shape))
    return BarInputs(bars.closed_at, values, bars.interval_us), lacking


def _prove_starts(bars: BarInputs, features: ProvenFeatures, *, starts: Sequence[int]) -> Proof:
    """Compute the features from later first rows: after the warm-up every bit must be the same."""

    def run(start: int) -> Output:
        inputs = {name: bars.values[name][start:] for name in features.inputs}
        return Output(bars.closed_at[start:], features.names, features.compute(inputs, bars.first_index + start))

    clean, until = run(0), int(bars.closed_at[-1])
    tally = Tally(features.names)
    for start in starts:
        later, settled = run(start), features.warm_up_bars
        tally.compare(
            Output(clean.at[start + settled :], clean.names, clean.values[start + settled :]),
            Output(later.at[settled:], later.names, later.values[settled:]),
            until=until,
            what=f"start at row {start}",
        )
    return tally.result()


def _run_controls(bars: BarInputs, tables: Tables, *, seed: int) -> list[ControlProof]:
    cuts = _cuts(bars, 0)
    found = []
    for control in controls(interval_us=bars.interval_us):
        (column,) = prove_subject(control.compute, tables, cut_offs=cuts, seed=seed).columns
        caught_by = tuple(sorted({failure.split(" ")[0] for failure in column.failures}))
        found.append(ControlProof(control.name, control.is_leak, column.n_checks, caught_by))
    return found
