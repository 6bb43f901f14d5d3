"""
The rules by which rows and whole bars are refused. Fail closed: whatever is not known to be good is turned away.

Pure functions of arrays and instants; counting and telling are the use case's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZONS
from qraft_frames.features import FeatureBatch
from svc_inference.domain.model import (
    CONFIDENCE,
    EXPECTED_RETURN,
    EXPECTED_RETURN_MAX,
    N_PER_HORIZON,
    VOLATILITY,
    VOLATILITY_MAX,
    ModelInfo,
)

BoolArray = npt.NDArray[np.bool_]

NAN_INPUT: Final = "nan_input"
NAN_OUTPUT: Final = "nan_output"
OUTPUT_OUT_OF_RANGE: Final = "output_out_of_range"

# Two machines' clocks may differ; a bar that ends later than this from now was not observed.
CLOCK_SKEW_MAX: Final = timedelta(seconds=5)

# Inclusive bounds of the outputs in their layout; volatility must also be above 0.
_LOW = np.array([-EXPECTED_RETURN_MAX, 0.0, np.finfo(np.float32).tiny] * len(HORIZONS), np.float32)
_HIGH = np.array([EXPECTED_RETURN_MAX, 1.0, VOLATILITY_MAX] * len(HORIZONS), np.float32)
assert (EXPECTED_RETURN, CONFIDENCE, VOLATILITY, N_PER_HORIZON) == (0, 1, 2, 3), "the bounds follow the layout"


def bar_fault(batch: FeatureBatch, *, now: datetime, age_max: timedelta) -> str | None:
    """
    Return why a whole bar may not be used, or None.

    Only origin `real` has an age: the clock of a replay is its data.
    """
    if batch.origin is not Origin.REAL:
        return None
    if batch.as_of > now + CLOCK_SKEW_MAX:
        return "future_input"
    return "stale_input" if now - batch.as_of > age_max else None


def model_fault(info: ModelInfo, batch: FeatureBatch) -> str | None:
    """Return why a model may not answer for a bar, or None."""
    if info.origin is Origin.SIMULATED:
        return "simulated_model"
    if info.feature_signature != batch.signature:
        return "signature_mismatch"
    return None if info.feature_names == batch.names else "feature_names_mismatch"


def finite_rows(values: npt.NDArray[np.float32]) -> BoolArray:
    """Return (n_rows,): whether a row holds neither NaN nor infinity."""
    return np.asarray(np.isfinite(values).all(axis=1))


def good_outputs(outputs: npt.NDArray[np.float32]) -> BoolArray:
    """
    Return (n_rows, N_OUTPUTS): whether an output is finite and within its bounds. A NaN compares false: never good.

    Args:
        outputs: (n_rows, N_OUTPUTS).
    """
    good: BoolArray = (outputs >= _LOW) & (outputs <= _HIGH)
    return good


def output_fault(outputs: npt.NDArray[np.float32]) -> str:
    """Return why one row's outputs for one horizon are not good. outputs: (N_PER_HORIZON,)."""
    return OUTPUT_OUT_OF_RANGE if np.isfinite(outputs).all() else NAN_OUTPUT
