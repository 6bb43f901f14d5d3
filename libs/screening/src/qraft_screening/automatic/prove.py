"""Automatic features are put to the leakage proof as every other computation: the future may not change the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from qraft_quant.align.times import MicrosArray
from qraft_quant.proof import Output, Proof, Subject, Table, Tables, prove_subject
from qraft_quant.proof.subjects import BARS, cut_rows
from qraft_screening.automatic.calculators import FloatArray
from qraft_screening.automatic.compute import AutomaticFeatures

# As the proof of the catalogue cuts (qraft_quant.proof.everything): three cut-offs at least, at different residues.
_CUT_FRACS: Final = (0.4, 0.575, 0.775)
# Steps behind the warm-up that are compared: enough for every cut-off to have some on either side.
_STEPS: Final = 8
_ROWS_MIN: Final = 64


def automatic_subject(features: AutomaticFeatures) -> Subject:
    """Return the features as a subject of the proof, on the table of bars."""

    def compute(tables: Tables) -> Output:
        bars = tables[BARS]
        values = features.compute(bars.known_at, {name: bars[name] for name in ("high", "low", "close", "volume")})
        return Output(bars.known_at, features.names, values)

    return Subject("automatic", compute, features.warm_up_bars)


def bars_for_proof(features: AutomaticFeatures) -> int:
    """Return how many bars a proof wants."""
    return features.warm_up_bars + max(_STEPS * features.every_bars, _ROWS_MIN)


def prove_automatic(
    features: AutomaticFeatures, closed_at: MicrosArray, bars: Mapping[str, FloatArray], *, seed: int
) -> Proof:
    """
    Corrupt the future of an excerpt of bars in every way of the proof; every column must keep its past bit for bit.

    Args:
        closed_at, bars: as in AutomaticFeatures.compute; the newest bars_for_proof rows are used.

    Raises:
        ValueError: if the bars are too few.
    """
    n_wanted = bars_for_proof(features)
    if closed_at.size < n_wanted:
        raise ValueError(f"expected at least {n_wanted} bars to prove automatic features on, received {closed_at.size}")
    first = closed_at.size - n_wanted
    at = closed_at[first:]
    columns = {name: np.ascontiguousarray(bars[name][first:]) for name in ("high", "low", "close", "volume")}
    subject = automatic_subject(features)
    cuts = cut_rows(
        at.size, first_row=subject.first_row, first_index=int(at[0]) // features.interval_us, fracs=_CUT_FRACS
    )
    return prove_subject(
        subject.compute, {BARS: Table(at, columns)}, cut_offs=[int(at[row]) for row in cuts], seed=seed
    )
