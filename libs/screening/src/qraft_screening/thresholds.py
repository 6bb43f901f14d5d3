"""Every line that a feature has to clear, in one place; a report repeats those that it was made with."""

from __future__ import annotations

import msgspec


class Thresholds(msgspec.Struct, frozen=True):
    """
    missing_frac_max: of the bars that a symbol has. commonest_frac_max: share of the most frequent value; above it a
    feature is all but constant. psi_max: median over the months of the window's second half, against its first half;
    0.25 is drift, and volatility drifts like that by nature: only what has become another thing is left out.
    false_discovery_max: of Benjamini and Hochberg. same_sign_parts_min: of n_parts equal parts of the window, in how
    many the IC has its sign. cluster_correlation_min: absolute rank correlation, average linkage. n_folds: of the
    walk-forward, whose first training part is first_test_frac of the window.
    """

    missing_frac_max: float = 0.2
    commonest_frac_max: float = 0.99
    psi_max: float = 1.0
    false_discovery_max: float = 0.05
    n_parts: int = 6
    same_sign_parts_min: int = 4
    cluster_correlation_min: float = 0.7
    n_folds: int = 4
    first_test_frac: float = 0.4
    fold_share_min: float = 0.5
