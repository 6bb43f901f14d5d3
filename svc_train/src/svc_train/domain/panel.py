"""The bars that a run trains on, as its own words for qraft_store's BarPanel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import INTERVAL_SECONDS
from svc_train.domain.samples import Float32Array, FloatArray


class Bars(Protocol):
    """
    Bars of several symbols on the full time grid.

    closed_at: (n_bars,), every grid step, increasing. Values: (n_bars, n_symbols), NaN where a symbol has no bar.
    """

    @property
    def market(self) -> str: ...
    @property
    def interval(self) -> str: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def closed_at(self) -> npt.NDArray[np.datetime64]: ...
    @property
    def open(self) -> FloatArray: ...
    @property
    def high(self) -> FloatArray: ...
    @property
    def low(self) -> FloatArray: ...
    @property
    def close(self) -> FloatArray: ...
    @property
    def volume(self) -> FloatArray: ...


# (open, high, low, close, volume, first_index) -> (n_bars, n_symbols, n_features); row t uses rows 0..t.
ComputeFeatures = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, int], Float32Array]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features that the model reads, in order, and the signature that the live path must match."""

    names: tuple[str, ...]
    signature: str
    compute: ComputeFeatures


def first_grid_index(bars: Bars) -> int:
    """Return the absolute grid index of row 0: closed_at in seconds since 1970 over the interval in seconds."""
    seconds = int(bars.closed_at[0].astype("datetime64[s]").astype(np.int64))
    return seconds // INTERVAL_SECONDS[bars.interval]
