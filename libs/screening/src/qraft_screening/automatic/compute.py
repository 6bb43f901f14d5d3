"""Automatic features of bars: windows cut by the aligner, one at a time, their values joined back by the aligner."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qraft_quant.align import as_of_join, lag, windows
from qraft_quant.align.times import MicrosArray
from qraft_screening.automatic.by_featuretools import featuretools_calculators
from qraft_screening.automatic.by_tsfresh import tsfresh_calculators
from qraft_screening.automatic.calculators import N_FEATURES_MAX, SERIES, Calculator, FloatArray
from qraft_screening.panel import FeatureAbout, Float32Array


@dataclass(frozen=True, slots=True)
class AutomaticFeatures:
    """
    Calculators on the last window_bars bars, worked out at every `every_bars`-th step of the grid.

    Between two such steps a value stands for what it was; it is never older than every_bars.
    """

    calculators: tuple[Calculator, ...]
    window_bars: int
    every_bars: int
    interval_us: int

    def __post_init__(self) -> None:
        if not 0 < len(self.calculators) <= N_FEATURES_MAX:
            raise ValueError(f"expected 1 to {N_FEATURES_MAX} calculators, received {len(self.calculators)}")
        if self.window_bars < 8 or self.every_bars < 1:
            raise ValueError(f"expected a window >= 8 and steps >= 1, received {self.window_bars}, {self.every_bars}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names, in order."""
        return tuple(it.name for it in self.calculators)

    @property
    def warm_up_bars(self) -> int:
        """Return after how many bars every value is final: a window of changes, and the steps that one stands for."""
        return self.window_bars + self.every_bars

    def about(self) -> tuple[FeatureAbout, ...]:
        """Return what a report says of each."""
        return tuple(FeatureAbout(it.name, "automatic", it.formula, self.window_bars + 1) for it in self.calculators)

    def compute(
        self,
        closed_at: MicrosArray,
        bars: Mapping[str, FloatArray],
        *,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Float32Array:
        """
        Return the features of every bar. Row t uses rows up to t only, and at most warm_up_bars of them.

        Args:
            closed_at: (n_bars,) microseconds, on the full grid.
            bars: high, low, close, volume, (n_bars, n_symbols) each, NaN where a bar is missing.

        Returns:
            (n_bars, n_symbols, n_features), NaN where a bar of the window is missing or the value is not finite.
        """
        n_bars, n_symbols = bars["close"].shape
        out = np.full((n_bars, n_symbols, len(self.calculators)), np.nan, np.float32)
        # By the grid, not by the first row: what a bar is told must not depend on where the history begins.
        rows = np.flatnonzero((closed_at // self.interval_us) % self.every_bars == 0)
        series = {name: windows(values, self.window_bars) for name, values in series_of(bars).items()}
        for s in range(n_symbols):
            values = np.full((rows.size, len(self.calculators)), np.nan)
            for k, row in enumerate(rows):
                values[k] = self._of_window({name: np.ascontiguousarray(seen[row, s]) for name, seen in series.items()})
            held_us = (self.every_bars - 1) * self.interval_us
            out[:, s] = as_of_join(closed_at, closed_at[rows], values, tolerance_us=held_us)
            progress(f"automatic features of {s + 1} of {n_symbols} symbols")
        return out

    def _of_window(self, window: Mapping[str, FloatArray]) -> FloatArray:
        if any(np.isnan(values).any() for values in window.values()):
            return np.full(len(self.calculators), np.nan)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # A window without variation has no skewness; that is a NaN here and no news.
            warnings.simplefilter("ignore")
            values = np.array([it.value(window) for it in self.calculators])
        return np.where(np.isfinite(values), values, np.nan)


def automatic_features(*, window_bars: int, every_bars: int, interval_us: int) -> AutomaticFeatures:
    """
    Return the features of both packages.

    Raises:
        PackageMissing: if one is not installed; the message names the extra.
    """
    calculators = (*tsfresh_calculators(), *featuretools_calculators())
    return AutomaticFeatures(calculators, window_bars, every_bars, interval_us)


def series_of(bars: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return what calculators see of bars: one-bar log returns, log ranges, log volumes."""
    is_bar = np.logical_and.reduce([np.isfinite(bars[name]) for name in ("high", "low", "close", "volume")])
    is_bar &= (bars["low"] > 0.0) & (bars["close"] > 0.0) & (bars["high"] >= bars["low"]) & (bars["volume"] >= 0.0)
    known = {name: np.where(is_bar, bars[name], np.nan) for name in ("high", "low", "close", "volume")}
    change = np.log(known["close"]) - np.log(lag(known["close"], 1))
    found = {"change": change, "range": np.log(known["high"] / known["low"]), "volume": np.log1p(known["volume"])}
    return {name: found[name] for name in SERIES}
