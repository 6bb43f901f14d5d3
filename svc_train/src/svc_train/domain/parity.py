"""The exported graph against the learner: where they could differ, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from svc_train.domain.findings import Finding
from svc_train.domain.heads import OUTPUTS
from svc_train.domain.samples import BoolArray, Float32Array, FloatArray

# abs(error) <= 1e-5 * max(abs(p), std(p)): a purely relative bound explodes near p = 0.
TOLERANCE: Final = 1e-5
# Enough to tell what is wrong; the count is complete.
_FAILURES_NAMED_MAX: Final = 10


def make_vectors(x: Float32Array, thresholds: Sequence[Float32Array], *, n_real_rows: int) -> Float32Array:
    """
    Return test rows: real ones, spread evenly, and for each threshold a real row set on it and 1 ulp to either side.

    Args:
        x: (n, n_features), n >= 1.
        thresholds: for each feature, float32.

    Returns:
        (n_vectors, n_features) float32, the real rows first.
    """
    base = x[np.unique(np.linspace(0, x.shape[0] - 1, n_real_rows).astype(np.int64))]
    blocks = [base]
    for feature, values in enumerate(thresholds):
        if values.size == 0:
            continue
        down, up = np.nextafter(values, np.float32(-np.inf)), np.nextafter(values, np.float32(np.inf))
        placed = np.concatenate([values, down, up])
        block = base[(np.arange(placed.size) * 7 + feature) % base.shape[0]].copy()
        block[:, feature] = placed
        blocks.append(block)
    return np.concatenate(blocks)


def scaled_errors(expected: FloatArray, received: Float32Array) -> FloatArray:
    """Return abs(error) / max(abs(p), std(p)), (n, n_outputs); the std is over the rows. NaN counts as infinite."""
    scale = np.maximum(np.abs(expected), expected.std(axis=0))
    difference = np.abs(received.astype(np.float64) - expected)
    errors = difference / np.where(scale > 0.0, scale, 1.0)
    return np.where(np.isfinite(errors), errors, np.inf)


def compare(expected: FloatArray, received: Float32Array, *, horizons: Sequence[str]) -> Finding:
    """
    Compare the graph's outputs with the native ones, (n, 3 * n_horizons) each, horizon-major.

    Confidence changes sides where the gross return crosses zero. Where that return is zero within its own tolerance,
    either side is right; such rows are counted as n_sign_ties.
    """
    assert expected.shape == received.shape, (expected.shape, received.shape)
    errors = scaled_errors(expected, received)
    ties = _sign_ties(expected, errors)
    if ties.any():
        other_side = scaled_errors(np.where(ties, 1.0 - expected, expected), received)
        errors = np.where(ties, np.minimum(errors, other_side), errors)
    names = [f"{horizon}.{output}" for horizon in horizons for output in OUTPUTS]
    failed = np.argwhere(errors > TOLERANCE)
    return Finding(
        gate="parity",
        n_checks=int(errors.size),
        n_failed=failed.shape[0],
        failures=tuple(
            f"row {row}, {names[column]}: expected {expected[row, column]!r}, received {received[row, column]!r}"
            for row, column in failed[:_FAILURES_NAMED_MAX].tolist()
        ),
        measures={
            "error_max": float(errors.max(initial=0.0)),
            "n_rows": float(expected.shape[0]),
            "n_outputs": float(expected.shape[1]),
            "n_sign_ties": float(ties.sum()),
            **{f"{name}.error_max": float(errors[:, i].max(initial=0.0)) for i, name in enumerate(names)},
        },
    )


def _sign_ties(expected: FloatArray, errors: FloatArray) -> BoolArray:
    """Return where a confidence may stand on either side: its gross return is within tolerance of zero."""
    n_outputs = len(OUTPUTS)
    gross = expected[:, ::n_outputs]
    is_zero = np.abs(gross) <= TOLERANCE * gross.std(axis=0)
    ties = np.zeros(errors.shape, dtype=np.bool_)
    ties[:, 1::n_outputs] = is_zero & (errors[:, 1::n_outputs] > TOLERANCE)
    return ties
