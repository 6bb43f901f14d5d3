"""Clusters: what says the same up to its sign belongs together, and pooling ranks symbols by themselves."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from qraft_screening.clusters import ROWS_MAX, cluster, rank_correlations


def test_mirrored_feature_belongs_to_the_cluster():
    correlations = np.array([[1.0, -0.95, 0.1], [-0.95, 1.0, 0.0], [0.1, 0.0, 1.0]])

    assert cluster(correlations, correlation_min=0.7) == [[0, 1], [2]]
    assert cluster(correlations, correlation_min=0.97) == [[0], [1], [2]]


def test_one_feature_or_none_is_no_tree():
    assert cluster(np.ones((1, 1)), correlation_min=0.7) == [[0]]
    assert cluster(np.ones((0, 0)), correlation_min=0.7) == []


def test_correlation_of_one_symbol_is_spearmans_and_of_unknown_values_none():
    rng = np.random.default_rng(1)
    first = rng.normal(size=500)
    values = np.stack([first, first**3 + rng.normal(size=500), np.full(500, np.nan)], axis=1)[:, None, :]

    found = rank_correlations(values, axis=0)

    assert found[0, 1] == pytest.approx(spearmanr(values[:, 0, 0], values[:, 0, 1]).statistic)
    assert found[0, 2] == 0.0 and found[2, 2] == 1.0


def test_levels_of_symbols_do_not_correlate_features():
    rng = np.random.default_rng(2)
    level = np.array([0.0, 100.0])
    values = np.stack([rng.normal(size=(3_000, 2)) + level, rng.normal(size=(3_000, 2)) + level], axis=2)

    assert abs(rank_correlations(values, axis=0)[0, 1]) < 0.1
    assert len(values) * 2 < ROWS_MAX
