"""What a run computes from the bars that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel
from svc_train.domain.samples import Float32Array, FloatArray

# (inputs by name, (n_bars, n_symbols) each; grid index of row 0) -> (n_bars, n_symbols, n_features); row t uses rows
# 0..t.
ComputeFeatures = Callable[[Mapping[str, FloatArray], int], Float32Array]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features that the model reads, in order, and the signature that the live path must match."""

    names: tuple[str, ...]
    signature: str
    compute: ComputeFeatures


def inputs_of(bars: BarPanel) -> dict[str, FloatArray]:
    """Return the bars as features read them; what else features may read is absent, so NaN to them."""
    return {"open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close, "volume": bars.volume}


def first_grid_index(bars: BarPanel) -> int:
    """Return the absolute grid index of row 0: closed_at in seconds since 1970 over the interval in seconds."""
    seconds = int(bars.closed_at[0].astype("datetime64[s]").astype(np.int64))
    return seconds // INTERVAL_SECONDS[bars.interval]
