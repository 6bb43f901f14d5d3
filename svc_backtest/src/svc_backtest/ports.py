"""What the use case needs besides the stores' own ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class ForecastTable(Protocol):
    """The out-of-fold forecasts of a candidate. Instants are unix seconds."""

    @property
    def first_s(self) -> int: ...
    @property
    def last_s(self) -> int: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def horizons(self) -> tuple[str, ...]: ...

    def of(
        self, horizon: str, *, columns: Sequence[str], from_s: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return as_of (n,), the symbols' places in `columns` (n,), values (n, 3) of one horizon from an instant on."""
        ...


ReadForecasts = Callable[[bytes], ForecastTable]
