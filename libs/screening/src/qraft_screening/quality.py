"""What can be said of a feature without looking at any label: what is missing, whether it varies, whether it moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qraft_screening.drift import Drift, reference_bins
from qraft_screening.information import months_of
from qraft_screening.panel import FeaturePanel
from qraft_screening.thresholds import Thresholds

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Quality:
    """
    known_frac: of the bars there are. commonest_frac: share of the most frequent known value, 1 if none is known.
    coverage: (n_months, n_symbols), known share of all grid steps. drift: by month of the second half.
    """

    known_frac: float
    commonest_frac: float
    coverage: npt.NDArray[np.float64]
    drift: tuple[tuple[str, Drift], ...]

    @property
    def median_psi(self) -> float:
        """Return the median PSI of the months that could be measured; NaN if none could."""
        found = [drift.psi for _, drift in self.drift if np.isfinite(drift.psi)]
        return float(np.median(found)) if found else float("nan")

    def fault(self, thresholds: Thresholds) -> tuple[str, str] | None:
        """Return the stage that the feature fails at and why, None if it passes."""
        if 1.0 - self.known_frac > thresholds.missing_frac_max:
            return (
                "missing",
                f"missing in {1.0 - self.known_frac:.1%} of bars, at most {thresholds.missing_frac_max:.0%}",
            )
        if self.commonest_frac > thresholds.commonest_frac_max:
            return "variance", f"one value fills {self.commonest_frac:.2%}, at most {thresholds.commonest_frac_max:.0%}"
        psi = self.median_psi
        if not np.isfinite(psi):
            return "stability", "the window is too short to compare its halves: stability is unknown"
        if psi > thresholds.psi_max:
            return "stability", f"median monthly PSI {psi:.2f} against the first half, at most {thresholds.psi_max:g}"
        return None


class QualityRules:
    """The rows of one window by month and half, worked out once for all features."""

    def __init__(self, panel: FeaturePanel) -> None:
        self._has_bar = panel.has_bar()
        self._months = months_of(panel.closed_at)
        self.months = tuple(sorted(set(self._months.tolist())))
        self._of_month = [self._months == month for month in self.months]
        half = (int(panel.closed_at[0]) + int(panel.closed_at[-1])) // 2
        self._first_half = panel.closed_at <= half

    def judge(self, name: str, values: npt.NDArray[np.floating]) -> Quality:
        """Return the quality of a feature, (n_bars, n_symbols)."""
        finite = np.where(np.isfinite(values), values, np.nan)
        is_known = ~np.isnan(finite) & self._has_bar
        n_bars = int(self._has_bar.sum())
        reference = reference_bins(name, finite[self._first_half][self._has_bar[self._first_half]])
        drift = []
        for month, rows in zip(self.months, self._of_month, strict=True):
            later = rows & ~self._first_half
            if later.any():
                drift.append((month, reference.measure(finite[later][self._has_bar[later]])))
        return Quality(
            int(is_known.sum()) / n_bars if n_bars else 0.0,
            _commonest_frac(finite[is_known]),
            np.stack([is_known[rows].mean(axis=0) for rows in self._of_month]),
            tuple(drift),
        )


def _commonest_frac(known: npt.NDArray[np.floating]) -> float:
    if known.size == 0:
        return 1.0
    return float(np.unique(known, return_counts=True)[1].max() / known.size)
