"""
Whether a feature still looks as it did: PSI over fixed bins of a reference window, and the Kolmogorov-Smirnov distance.

The reference is a small state that is stored with the screening, so that a live line can measure against it later.
Thresholds are on the distances, never on a p-value: with a month of bars any difference is significant.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from qraft_screening.decoding import decoded

FloatArray = npt.NDArray[np.float64]

N_BINS: Final = 10
# Quantiles at which the two distribution functions are compared: the distance is found to 1/200.
N_POINTS: Final = 200
# Fewer values say nothing about a tenth of them.
N_MIN: Final = 200
# Shares below this count as this: an empty bin is no infinity. 0.3 standard deviations then give 0.09, 0.6 give 0.3.
SHARE_MIN: Final = 1e-4
# The lines of credit scoring practice; the distances belong to shifts of about 0.3 and 0.5 standard deviations.
PSI_WATCH: Final = 0.1
PSI_DRIFT: Final = 0.25
KS_WATCH: Final = 0.1
KS_DRIFT: Final = 0.2
DRIFT_FORMAT: Final = "drift-reference/1"


class DriftVerdict(StrEnum):
    """Whether a distribution moved; unknown where there is too little to tell, which is no `stable`."""

    STABLE = "stable"
    WATCH = "watch"
    DRIFT = "drift"
    UNKNOWN = "unknown"


class DriftBins(msgspec.Struct, frozen=True):
    """
    One feature in the reference window. edges: ascending; bin k is (edges[k - 1], edges[k]]. shares: of each bin, the
    last one is of missing values. points, below: values and the share of known values at or below each.
    """

    name: str
    n: int
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    points: tuple[float, ...]
    below: tuple[float, ...]

    def measure(self, values: npt.NDArray[np.floating]) -> Drift:
        """Return how far values have moved from the reference; NaN and infinities are missing values."""
        flat = np.asarray(values, dtype=np.float64).ravel()
        known = np.sort(flat[np.isfinite(flat)])
        n_reference = round(self.n * (1.0 - self.shares[-1]))
        psi = float("nan") if min(flat.size, self.n) < N_MIN else population_stability(
            np.asarray(self.shares), _shares(known, flat.size, np.asarray(self.edges))
        )  # fmt: skip
        ks = float("nan")
        if min(known.size, n_reference) >= N_MIN:
            ks = float(np.abs(_below(known, np.asarray(self.points)) - np.asarray(self.below)).max())
        return Drift(int(flat.size), psi, ks)


class Drift(msgspec.Struct, frozen=True):
    """Distances of one window from the reference; NaN where there are too few values."""

    n: int
    psi: float
    ks: float

    @property
    def verdict(self) -> DriftVerdict:
        """Return what the thresholds say; what cannot be measured is unknown."""
        # PSI counts missing values too, KS needs known ones: values that have gone missing are drift without it.
        if self.psi > PSI_DRIFT or self.ks > KS_DRIFT:
            return DriftVerdict.DRIFT
        if not (np.isfinite(self.psi) and np.isfinite(self.ks)):
            return DriftVerdict.UNKNOWN
        return DriftVerdict.WATCH if self.psi > PSI_WATCH or self.ks > KS_WATCH else DriftVerdict.STABLE


class DriftReference(msgspec.Struct, frozen=True):
    """The bins of all features, of which features on which window."""

    format: str
    signature: str
    after_us: int
    until_us: int
    features: tuple[DriftBins, ...]


def population_stability(expected: FloatArray, actual: FloatArray) -> float:
    """
    Return the population stability index, sum (a - e) ln(a / e), of shares that are at least SHARE_MIN.

    Source:
        Siddiqi (2006), Credit Risk Scorecards, ch. 9; lines at 0.1 and 0.25.
    """
    e, a = np.maximum(expected, SHARE_MIN), np.maximum(actual, SHARE_MIN)
    return float(((a - e) * np.log(a / e)).sum())


def reference_bins(name: str, values: npt.NDArray[np.floating]) -> DriftBins:
    """
    Return the state of a feature over its reference window.

    Edges are quantiles; a value that fills a whole bin gets a bin of its own, so that a constant feature that begins
    to move is seen.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    known = np.sort(flat[np.isfinite(flat)])
    if known.size == 0:
        return DriftBins(name, int(flat.size), (), (0.0, 1.0 if flat.size else 0.0), (), ())
    cuts = np.quantile(known, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf")
    distinct, n_times = np.unique(cuts, return_counts=True)
    atoms = distinct[(n_times > 1) | (distinct == known[0])]
    edges = np.unique(np.concatenate([distinct, np.nextafter(atoms, -np.inf)]))
    steps = np.quantile(known, np.arange(N_POINTS + 1) / N_POINTS, method="inverted_cdf")
    steps, n_times = np.unique(steps, return_counts=True)
    # Just below a value that fills more than 1/N_POINTS too: the distance is largest on either side of a step.
    points = np.unique(np.concatenate([steps, np.nextafter(steps[n_times > 1], -np.inf)]))
    shares = _shares(known, flat.size, edges)
    below = _below(known, points)
    return DriftBins(name, int(flat.size), *(tuple(it.tolist()) for it in (edges, shares, points, below)))


def encode_reference(reference: DriftReference) -> bytes:
    """Return the canonical bytes."""
    return msgspec.json.encode(reference, order="deterministic")


def decode_reference(data: bytes) -> DriftReference:
    """
    Return the reference that bytes hold.

    Raises:
        ValueError: if they hold none.
    """
    return decoded(data, DriftReference, form=DRIFT_FORMAT, remedy="screen anew")


def _shares(known: FloatArray, n: int, edges: FloatArray) -> FloatArray:
    """Return the share of each bin of sorted values, missing ones last."""
    if n == 0:
        return np.zeros(edges.size + 2)
    up_to = np.concatenate([np.searchsorted(known, edges, side="right"), [known.size]])
    counts = np.diff(up_to, prepend=0)
    return np.concatenate([counts, [n - known.size]]) / n


def _below(known: FloatArray, points: FloatArray) -> FloatArray:
    return np.searchsorted(known, points, side="right") / known.size
