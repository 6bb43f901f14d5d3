"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class History(Protocol):
    """Bars on the full grid: value arrays (n_bars, n_symbols), NaN where a symbol has no bar."""

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


class StoredBars(Protocol):
    """The part of a bar store that a warm-up needs."""

    def read(
        self,
        *,
        market: str,
        interval: str,
        symbols: Sequence[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
    ) -> History | None:
        """Return the bars with start < closed_at <= end known by as_of, or None when there are none."""
        ...  # fmt: skip
