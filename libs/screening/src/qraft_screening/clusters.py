"""Features that say the same thing: clusters by absolute rank correlation."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from qraft_screening.scores import rank_scores

FloatArray = npt.NDArray[np.float64]
# A correlation of 20,000 rows is known to 0.01; more rows cost memory and change no cluster.
ROWS_MAX: Final = 20_000


def rank_correlations(values: npt.NDArray[np.floating], *, axis: int) -> FloatArray:
    """
    Return the rank correlation of each pair of features, pooled over symbols; unknown values count as the mean rank.

    Args:
        values: (n_bars, n_symbols, n_features); bars are thinned evenly to about ROWS_MAX rows.
        axis: as in rank_scores.

    Returns:
        (n_features, n_features); 0 where a feature does not vary, 1 on the diagonal.
    """
    n_bars, n_symbols, n_features = values.shape
    thin = values[:: max(1, n_bars * n_symbols // ROWS_MAX)]
    scores = np.stack([rank_scores(thin[:, :, f], axis=axis).ravel() for f in range(n_features)])
    filled = np.where(np.isnan(scores), 0.0, scores)
    norms = np.sqrt((filled * filled).sum(axis=1))
    unit = filled / np.where(norms > 0.0, norms, 1.0)[:, None]
    correlations: FloatArray = np.clip(unit @ unit.T, -1.0, 1.0)
    np.fill_diagonal(correlations, 1.0)
    return correlations


def cluster(correlations: FloatArray, *, correlation_min: float) -> list[list[int]]:
    """
    Return clusters of row numbers, average linkage of 1 - |correlation|, cut at 1 - correlation_min.

    Clusters are in the order of their first member, members ascending.
    """
    n = len(correlations)
    if n < 2:
        return [[i] for i in range(n)]
    distances = 1.0 - np.abs((correlations + correlations.T) / 2.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), method="average")
    labels = fcluster(tree, t=1.0 - correlation_min, criterion="distance")
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(i)
    return sorted(members.values(), key=lambda rows: rows[0])
