"""A registered feature set as the proof sees it: the one place that knows how the engine is called."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from qraft_quant.features import FeatureSet, compute_history
from qraft_quant.proof.subjects import OHLCV, ProvenFeatures

FloatArray = npt.NDArray[np.float64]
# The proof runs beside nothing else; more threads would compute more warm-up than rows of an excerpt.
_N_THREADS = 2


def registered_features(features: FeatureSet, *, interval: str) -> ProvenFeatures:
    """Return a set on bars of one interval, with its signature and the function that history and live line share."""

    def compute(inputs: Mapping[str, FloatArray], first_index: int) -> npt.NDArray[np.float32]:
        return compute_history(inputs, first_index, features=features, interval=interval, n_threads=_N_THREADS)

    # The engine asks for whole bars, whatever its features read of them.
    inputs = tuple(dict.fromkeys((*OHLCV, *features.inputs)))
    return ProvenFeatures(features.names, features.signature(interval), inputs, features.warm_up_bars, compute)
