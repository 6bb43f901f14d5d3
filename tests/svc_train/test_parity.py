import numpy as np
import pytest

from svc_train.domain.parity import compare, make_vectors


def test_vectors_hold_real_rows_and_each_threshold_with_one_ulp_to_either_side():
    x = np.random.default_rng(0).normal(0, 1, (50, 2)).astype(np.float32)
    thresholds = [np.array([0.5, -1.25], dtype=np.float32), np.empty(0, dtype=np.float32)]

    vectors = make_vectors(x, thresholds, n_real_rows=10)

    assert vectors.dtype == np.float32 and vectors.shape == (10 + 6, 2)
    assert {tuple(row) for row in vectors[:10].tolist()} <= {tuple(row) for row in x.tolist()}
    near = vectors[10:, 0]
    for threshold in thresholds[0]:
        for value in (threshold, np.nextafter(threshold, np.float32(9)), np.nextafter(threshold, np.float32(-9))):
            assert (near == value).sum() == 1


def test_fewer_rows_than_asked_for_are_used_once():
    x = np.arange(3, dtype=np.float32)[:, None]

    assert make_vectors(x, [np.empty(0, dtype=np.float32)], n_real_rows=100).tolist() == [[0.0], [1.0], [2.0]]


@pytest.fixture
def expected():
    rng = np.random.default_rng(2)
    return np.stack([rng.normal(0, 1e-3, 400), rng.uniform(0.4, 0.6, 400), rng.uniform(0.01, 0.02, 400)], axis=1)


def test_float32_rounding_is_within_tolerance(expected):
    found = compare(expected, expected.astype(np.float32), horizons=["1h"])

    assert (found.n_checks, found.n_failed) == (1200, 0)
    assert 0.0 < found.measures["error_max"] < 1e-6


def test_one_flipped_branch_is_found_and_named(expected):
    received = expected.astype(np.float32)
    received[17, 2] *= 1.001

    found = compare(expected, received, horizons=["1h"])

    assert found.n_failed == 1
    assert found.failures[0].startswith("row 17, 1h.volatility: ")
    assert found.measures["1h.volatility.error_max"] > 1e-4 > found.measures["1h.confidence.error_max"]


def test_relative_error_of_a_forecast_near_zero_does_not_count(expected):
    expected[0, 0] = 1e-12
    received = expected.astype(np.float32)
    received[0, 0] = 2e-12

    assert compare(expected, received, horizons=["1h"]).n_failed == 0


def test_nan_from_the_graph_is_a_failure(expected):
    received = expected.astype(np.float32)
    received[3, 1] = np.nan

    found = compare(expected, received, horizons=["1h"])

    assert found.n_failed == 1 and found.measures["error_max"] == np.inf


def test_confidence_may_take_either_side_only_where_the_forecast_is_zero(expected):
    expected[5, 0] = 1e-10
    expected[:2, 1] = 0.55
    expected[5, 1] = 0.55
    received = expected.astype(np.float32)
    received[5] = [-1e-10, 0.45, received[5, 2]]

    tie = compare(expected, received, horizons=["1h"])
    received[1, 1] = 0.45
    flip = compare(expected, received, horizons=["1h"])

    assert (tie.n_failed, tie.measures["n_sign_ties"]) == (0, 1.0)
    assert flip.n_failed == 1
