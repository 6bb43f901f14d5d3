"""Drift: published numbers, shifts of known size, missing values, constants that begin to move."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from qraft_screening.drift import (
    DRIFT_FORMAT,
    N_MIN,
    Drift,
    DriftReference,
    DriftVerdict,
    decode_reference,
    encode_reference,
    population_stability,
    reference_bins,
)

NORMAL = np.random.default_rng(1).normal(size=5_000)
LATER = np.random.default_rng(2).normal(size=2_000)


def test_stability_index_is_the_worked_example():
    actual = np.array([0.08, 0.09, 0.10, 0.11, 0.12, 0.1, 0.1, 0.1, 0.1, 0.1])

    assert population_stability(np.full(10, 0.1), actual) == pytest.approx(0.010116, abs=1e-6)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "stable"), (0.35, "watch"), (0.7, "drift")])
def test_shift_of_known_size_gets_its_verdict(shift, verdict):
    assert reference_bins("x", NORMAL).measure(LATER + shift).verdict.value == verdict


def test_distance_is_that_of_the_two_samples():
    found = reference_bins("x", NORMAL).measure(LATER + 0.3)

    assert found.ks == pytest.approx(ks_2samp(NORMAL, LATER + 0.3).statistic, abs=0.006)


def test_missing_values_are_a_bin_of_their_own():
    reference = reference_bins("x", NORMAL)
    half = np.where(np.arange(2_000) % 2, np.nan, LATER)

    assert reference.shares[-1] == 0.0
    # 0.5 ln(0.5 / 0.0001) of the missing and ten times 0.05 ln 2 of the known ones.
    assert reference.measure(half).psi == pytest.approx(4.6, abs=0.05)
    assert reference.measure(half).ks < 0.1  # what is known still looks the same
    assert reference.measure(np.where(half > 1e9, 0, np.inf)).psi > 1.0


@pytest.mark.parametrize("moved", [-0.5, 0.5])
def test_constant_that_begins_to_move_is_seen_in_both_directions(moved):
    reference = reference_bins("x", np.zeros(1_000))

    assert reference.measure(np.zeros(500)).verdict is DriftVerdict.STABLE
    found = reference.measure(np.where(np.arange(500) % 2, 0.0, moved))
    assert found.verdict is DriftVerdict.DRIFT and found.psi > 1.0 and found.ks == pytest.approx(0.5)


def test_flag_that_turns_on_more_often_is_drift():
    rng = np.random.default_rng(3)
    reference = reference_bins("x", (rng.random(4_000) < 0.2).astype(float))

    assert reference.measure((rng.random(4_000) < 0.2).astype(float)).verdict is DriftVerdict.STABLE
    assert reference.measure((rng.random(4_000) < 0.5).astype(float)).verdict is DriftVerdict.DRIFT


@pytest.mark.parametrize("moved", [-1e-6, 1e-6])
def test_value_of_half_the_rows_that_moves_a_little_is_seen_at_its_full_distance(moved):
    values = np.where(np.arange(4_000) % 2, 0.0, np.random.default_rng(5).normal(size=4_000))

    found = reference_bins("x", values).measure(np.where(values == 0.0, moved, values))

    assert found.ks == pytest.approx(ks_2samp(values, np.where(values == 0.0, moved, values)).statistic)
    assert found.ks == pytest.approx(0.5) and found.verdict is DriftVerdict.DRIFT


def test_nothing_known_on_both_sides_is_unknown_and_values_gone_missing_are_drift():
    nothing = np.full(1_000, np.nan)

    found = reference_bins("x", nothing).measure(nothing)
    assert (found.psi, found.verdict) == (0.0, DriftVerdict.UNKNOWN) and np.isnan(found.ks)
    rare = np.where(np.arange(1_000) % 10, np.nan, NORMAL[:1_000])  # a hundred known values are too few
    assert reference_bins("x", rare).measure(rare).verdict is DriftVerdict.UNKNOWN
    assert reference_bins("x", NORMAL).measure(nothing).verdict is DriftVerdict.DRIFT
    assert reference_bins("x", nothing).measure(LATER).verdict is DriftVerdict.DRIFT


def test_too_few_values_are_unknown_and_no_stable():
    assert reference_bins("x", NORMAL).measure(LATER[: N_MIN - 1]).verdict is DriftVerdict.UNKNOWN
    assert reference_bins("x", NORMAL[:50]).measure(LATER).verdict is DriftVerdict.UNKNOWN
    assert reference_bins("x", np.full(3, np.nan)).measure(LATER).verdict is DriftVerdict.UNKNOWN
    assert Drift(0, float("nan"), float("nan")).verdict is DriftVerdict.UNKNOWN


def test_reference_survives_its_bytes_and_refuses_others():
    whole = DriftReference(DRIFT_FORMAT, "ab", 1, 2, (reference_bins("x", NORMAL), reference_bins("y", np.zeros(300))))

    again = decode_reference(encode_reference(whole))

    assert again == whole and again.features[0].measure(LATER) == whole.features[0].measure(LATER)
    with pytest.raises(ValueError, match="expected drift-reference/1"):
        decode_reference(b"{}")
    with pytest.raises(ValueError, match="expected drift-reference/1 as JSON"):
        decode_reference(encode_reference(whole).replace(b'"x"', b'"\xff"'))
    with pytest.raises(ValueError, match="'other/1'"):
        decode_reference(encode_reference(DriftReference("other/1", "ab", 1, 2, ())))
