"""Places on the time grid of an interval: index = seconds of closed_at since 1970 ÷ seconds of the interval."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def grid_index(closed_at: datetime, *, interval_s: int) -> int:
    """
    Return the bar's place on the grid.

    Raises:
        ValueError: if the bar does not end on the grid.
    """
    seconds = closed_at.timestamp()
    index = int(seconds // interval_s)
    if index * interval_s != seconds:
        raise ValueError(f"expected a bar that ends on the grid of {interval_s} s, received {closed_at.isoformat()}")
    return index
