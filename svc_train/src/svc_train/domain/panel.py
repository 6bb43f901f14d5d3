"""What a run computes from the bars that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qraft_contracts.kinds import STATE_INPUTS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_quant.proof.subjects import OHLCV
from qraft_store.bars.port import BarPanel
from svc_train.domain.samples import Float32Array, FloatArray

# (inputs by name, (n_bars, n_symbols) each; grid index of row 0) -> (n_bars, n_symbols, n_features); row t uses rows
# 0..t.
ComputeFeatures = Callable[[Mapping[str, FloatArray], int], Float32Array]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """
    The features that the model reads, in order, and the signature that the live path must match.

    states: names of STATE_INPUTS that the features read beside the five values of a bar.
    """

    names: tuple[str, ...]
    signature: str
    compute: ComputeFeatures
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingData:
    """
    What one run trains on: the rows of one snapshot, and nothing else.

    bars: on the full grid; their origin is the worst of all rows, those of the state among them. state: by name of
    STATE_INPUTS, (n_bars, n_symbols), the newest value known at the bar's end, NaN = none or no bar; names without any
    value are absent. state_fields: every state that was asked for, and the field of the dictionary that it is.
    snapshot_id, snapshot_sha256: of the snapshot and of its record's bytes. versions: of the sources it was taken from.
    """

    bars: BarPanel
    snapshot_id: str
    snapshot_sha256: str
    versions: Mapping[str, str]
    state: Mapping[str, FloatArray] = field(default_factory=dict)
    state_fields: Mapping[str, str] = field(default_factory=dict)


def states_of(inputs: Iterable[str]) -> tuple[str, ...]:
    """Return those inputs of features that are states beside the bars."""
    return tuple(name for name in inputs if name in STATE_INPUTS)


def inputs_of(data: TrainingData) -> dict[str, FloatArray]:
    """Return bars and state as features read them; what is absent is NaN to them."""
    return {**{name: getattr(data.bars, name) for name in OHLCV}, **data.state}


def first_grid_index(bars: BarPanel) -> int:
    """Return the absolute grid index of row 0: closed_at in seconds since 1970 over the interval in seconds."""
    seconds = int(bars.closed_at[0].astype("datetime64[s]").astype(np.int64))
    return seconds // INTERVAL_SECONDS[bars.interval]
