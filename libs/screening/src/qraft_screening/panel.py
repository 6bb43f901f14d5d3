"""Features of bars as the screening takes them, and the cut after which nothing is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qraft_quant.align.times import MicrosArray, ascending_micros

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureAbout:
    """What a report says of a feature besides its numbers. window: bars read; signature: empty if it has none."""

    name: str
    family: str
    formula: str
    window: int
    signature: str = ""


@dataclass(frozen=True, slots=True)
class FeaturePanel:
    """
    Features and closes on the full time grid.

    closed_at: (n_bars,) microseconds, strictly ascending, a multiple of interval_us apart. values: (n_bars, n_symbols,
    n_features), float32, NaN = not known. close: (n_bars, n_symbols), NaN where a symbol has no bar.
    """

    closed_at: MicrosArray
    interval_us: int
    symbols: tuple[str, ...]
    features: tuple[FeatureAbout, ...]
    values: Float32Array
    close: FloatArray

    def __post_init__(self) -> None:
        shape = (self.closed_at.size, len(self.symbols), len(self.features))
        if self.values.shape != shape or self.close.shape != shape[:2]:
            raise ValueError(f"expected values {shape}, received {self.values.shape} and closes {self.close.shape}")
        ascending_micros(self.closed_at, "closed_at", strictly=True)
        names = self.names
        if len(set(names)) != len(names):
            raise ValueError(f"expected distinct features, received {sorted({n for n in names if names.count(n) > 1})}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    def within(self, after: int, until: int) -> FeaturePanel:
        """
        Return the bars with after < closed_at <= until, without copying.

        Raises:
            ValueError: if there is none.
        """
        first, end = int((self.closed_at <= after).sum()), int((self.closed_at <= until).sum())
        if end <= first:
            raise ValueError(f"expected bars with {after} < closed_at <= {until}, received none")
        return FeaturePanel(
            self.closed_at[first:end],
            self.interval_us,
            self.symbols,
            self.features,
            self.values[first:end],
            self.close[first:end],
        )

    def has_bar(self) -> npt.NDArray[np.bool_]:
        """Return where a symbol has a usable close, (n_bars, n_symbols)."""
        found: npt.NDArray[np.bool_] = np.isfinite(self.close) & (self.close > 0.0)
        return found
