"""
What linear models make of the representatives, judged on rows that they have not seen.

Walk-forward folds with purge and embargo; features and labels are scaled by what the training part says alone, and
squashed to (-1, 1), where the IC was measured on ranks: on raw returns least squares follows a few crashes. Both are
centered by their training means, so that a skewed feature is no intercept. Each fold chooses the strength of its
penalty on folds inside its training part: the rows that judge a model choose nothing. A model that does not beat the
training mean, by more than noise does in one window of twenty, keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import enet_path

from qraft_quant.align import fit_scaler
from qraft_quant.align.times import MicrosArray
from qraft_quant.splits import Fold, purged_walk_forward
from qraft_screening.hac import RobustMean, lag_for, robust_ratio
from qraft_screening.information import DAY_US, blocks
from qraft_screening.panel import FeaturePanel
from qraft_screening.thresholds import Thresholds

FloatArray = npt.NDArray[np.float64]

LASSO: Final = "lasso"
ELASTIC_NET: Final = "elastic_net"
L1_RATIO: Final = {LASSO: 1.0, ELASTIC_NET: 0.5}
# Penalties as fractions of the smallest one that keeps nothing.
PENALTY_FRACS: Final = tuple(float(it) for it in np.geomspace(1.0, 1e-3, 16))
# Rows a bar apart share most of their label: a quarter of the horizon apart loses little and is quicker.
STEPS_A_HORIZON: Final = 4
N_COMPONENTS_NAMED: Final = 6
# One-sided 5 %.
T_MIN: Final = 1.645
_ROWS_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class ModelFit:
    """
    One model: R2 of each fold at the penalty that its training part chose, coefficients and penalty on the whole
    window, share of folds that kept. gain: what it foretold of unseen rows, with an error over days.
    """

    name: str
    penalty_frac: float
    r2_of_folds: tuple[float, ...]
    gain: RobustMean
    coefficients: FloatArray
    fold_share: FloatArray

    @property
    def r2(self) -> float:
        """Return the mean out-of-sample R2 over the folds."""
        return float(np.mean(self.r2_of_folds))

    @property
    def beats_the_mean(self) -> bool:
        """Return whether it foretold unseen rows better than the training mean did; too few days to tell are a no."""
        return self.r2 > 0.0 and self.gain.t > T_MIN


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components. shares: of variance, descending; loadings: (n_components, n_features)."""

    shares: FloatArray
    loadings: FloatArray


@dataclass(frozen=True, slots=True)
class _Rows:
    """
    Thinned rows: at (n_rows,), x (n_rows, n_symbols, n_features), y (n_rows, n_symbols); gap: rows of a label.
    block_us: of one observation, overlap_blocks: that a label reaches over.
    """

    at: MicrosArray
    x: FloatArray
    y: FloatArray
    gap: int
    block_us: int
    overlap_blocks: int


@dataclass(frozen=True, slots=True)
class _FoldRows:
    """Rows with a label, scaled by the training part: x (n, n_features), y (n,), at (n,)."""

    x_train: FloatArray
    y_train: FloatArray
    x_test: FloatArray
    y_test: FloatArray
    test_at: MicrosArray


class TooShort(ValueError):
    """The window is too short for the folds of this horizon."""


def fit_models(
    panel: FeaturePanel, columns: Sequence[int], returns: FloatArray, *, horizon_bars: int, thresholds: Thresholds
) -> tuple[ModelFit, ...]:
    """
    Return lasso and elastic net of the given features on the forward return.

    Args:
        panel: the training window and nothing else.
        columns: of the features, at least one.
        returns: (n_bars, n_symbols), NaN where the label is not known or reaches over the window's end.

    Raises:
        TooShort: if the folds, or the folds inside the first training part, do not fit.
    """
    rows = _rows_of(panel, columns, returns, horizon_bars=horizon_bars)
    folds = _folds(rows, thresholds)
    rows = _symbols_known_from_the_first_fold(rows, folds[0])
    return tuple(_fit(name, rows, folds, thresholds) for name in (LASSO, ELASTIC_NET))


def principal_components(panel: FeaturePanel, columns: Sequence[int]) -> Components:
    """Return the principal components of features scaled over the window; unknown values count as the mean."""
    n_bars, n_symbols = panel.close.shape
    step = max(1, n_bars * n_symbols // _ROWS_MAX)
    x = panel.values[::step][:, :, list(columns)].astype(np.float64)
    at = np.repeat(panel.closed_at[::step], n_symbols)
    scaled = _scaled(x.reshape(at.size, -1), at, n_train=at.size)
    found = PCA(svd_solver="covariance_eigh").fit(scaled)
    return Components(np.asarray(found.explained_variance_ratio_), np.asarray(found.components_))


def _rows_of(panel: FeaturePanel, columns: Sequence[int], returns: FloatArray, *, horizon_bars: int) -> _Rows:
    n_bars, n_symbols = panel.close.shape
    step = max(1, horizon_bars // STEPS_A_HORIZON, n_bars * n_symbols // _ROWS_MAX)
    x = panel.values[::step][:, :, list(columns)].astype(np.float64)
    finite = np.where(np.isfinite(x), x, np.nan)
    block_us = max(DAY_US, panel.interval_us)
    overlap_blocks = -(-horizon_bars * panel.interval_us // block_us)
    return _Rows(
        panel.closed_at[::step], finite, returns[::step], -(-horizon_bars // step), block_us, overlap_blocks
    )  # fmt: skip


def _folds(rows: _Rows, thresholds: Thresholds) -> tuple[Fold, ...]:
    try:
        return purged_walk_forward(
            rows.at.size, n_folds=thresholds.n_folds, horizon_bars=rows.gap, purge_bars=rows.gap,
            embargo_bars=rows.gap, first_test_frac=thresholds.first_test_frac,
        )  # fmt: skip
    except ValueError as error:
        raise TooShort(str(error)) from error


def _symbols_known_from_the_first_fold(rows: _Rows, first: Fold) -> _Rows:
    """Leave out symbols of which the first training part knows too little to scale them by."""
    has_label = np.isfinite(rows.y[: first.train_end]).mean(axis=0) > 0.5
    if not has_label.any():
        raise TooShort("no symbol has labels in half of the first training part")
    return replace(rows, x=rows.x[:, has_label], y=rows.y[:, has_label])


def _fit(name: str, rows: _Rows, folds: Sequence[Fold], thresholds: Thresholds) -> ModelFit:
    r2, kept, gains, at = [], [], [], []
    for fold in folds:
        chosen = _chosen_penalty(name, _until(rows, fold.train_end), thresholds)
        part = _fold_rows(rows, fold)
        coefficients = _path(part.x_train, part.y_train, name)[:, chosen]
        foretold = part.x_test @ coefficients
        r2.append(float(_r2(part.y_test, foretold[:, None])[0]))
        kept.append(coefficients != 0.0)
        gains.append(part.y_test * foretold)
        at.append(part.test_at)
    chosen = _chosen_penalty(name, rows, thresholds)
    n_rows = rows.at.size
    whole = _fold_rows(rows, Fold(0, n_rows, n_rows, n_rows))
    final = _path(whole.x_train, whole.y_train, name)[:, chosen]
    gain = _gain(np.concatenate(gains), np.concatenate(at), rows)
    return ModelFit(name, PENALTY_FRACS[chosen], tuple(r2), gain, final, np.mean(kept, axis=0))


def _until(rows: _Rows, end: int) -> _Rows:
    return replace(rows, at=rows.at[:end], x=rows.x[:end], y=rows.y[:end])


def _chosen_penalty(name: str, rows: _Rows, thresholds: Thresholds) -> int:
    """Return the number of the penalty with the best mean R2 over folds of these rows, the strongest among equals."""
    folds = _folds(rows, thresholds)
    rows = _symbols_known_from_the_first_fold(rows, folds[0])
    parts = [_fold_rows(rows, fold) for fold in folds]
    r2 = [_r2(part.y_test, part.x_test @ _path(part.x_train, part.y_train, name)) for part in parts]
    return int(np.argmax(np.mean(r2, axis=0)))


def _r2(y: FloatArray, foretold: FloatArray) -> FloatArray:
    """Return R2 against the training mean, which is 0 of centered labels, of each column; -inf without variation."""
    total = float((y**2).sum())
    if total == 0.0:
        return np.full(foretold.shape[1], -np.inf)
    return np.asarray(1.0 - ((y[:, None] - foretold) ** 2).sum(axis=0) / total)


def _gain(gains: FloatArray, at: MicrosArray, rows: _Rows) -> RobustMean:
    """
    Return the mean of label times foretold label, over days.

    It is half the difference of squared errors, freed of what noise in the coefficients costs: the models are nested,
    and by the errors alone a true one loses too often.

    Source:
        Clark and West (2007), Approximately Normal Tests for Equal Predictive Accuracy in Nested Models, eq. 3.
    """
    order = np.argsort(at, kind="stable")
    ends, block = blocks(at[order], rows.block_us)
    sums = np.bincount(block, weights=gains[order], minlength=ends.size).astype(np.float64)
    counts = np.bincount(block, minlength=ends.size).astype(np.float64)
    return robust_ratio(sums, counts, lag_for(ends.size, overlap_blocks=rows.overlap_blocks))


def _fold_rows(rows: _Rows, fold: Fold) -> _FoldRows:
    """Return the rows of a fold that have a label, scaled by its training part."""
    chosen = np.r_[fold.train_start : fold.train_end, fold.test_start : fold.test_end]
    n_train, n_symbols = fold.train_end - fold.train_start, rows.y.shape[1]
    at = rows.at[chosen]
    y = _scaled(rows.y[chosen], at, n_train=n_train, keep_nan=True).ravel()
    flat_at = np.repeat(at, n_symbols)
    x = _scaled(rows.x[chosen].reshape(flat_at.size, -1), flat_at, n_train=n_train * n_symbols)
    has_label = np.isfinite(y)
    is_train = np.repeat(np.arange(at.size) < n_train, n_symbols)
    train, test = has_label & is_train, has_label & ~is_train
    return _FoldRows(x[train], y[train], x[test], y[test], flat_at[test])


def _scaled(values: FloatArray, at: MicrosArray, *, n_train: int, keep_nan: bool = False) -> FloatArray:
    """Return values scaled by what the first n_train rows say, squashed to (-1, 1), of zero mean over those rows."""
    until = int(at[:n_train].max())
    known = np.where(np.isfinite(values), values, np.nan)
    scaler = fit_scaler(_with_a_known_value(known, n_train), at, after=int(at[0]) - 1, until=until)
    train = scaler.apply(known[:n_train], at[:n_train], in_sample=True)
    rest = scaler.apply(known[n_train:], at[n_train:])
    z = np.concatenate([train, rest])
    squashed = z / np.sqrt(1.0 + z * z)
    n_known = np.maximum((~np.isnan(squashed[:n_train])).sum(axis=0), 1)
    scaled = squashed - np.nansum(squashed[:n_train], axis=0) / n_known
    return scaled if keep_nan else np.where(np.isnan(scaled), 0.0, scaled)


def _with_a_known_value(values: FloatArray, n_train: int) -> FloatArray:
    """A feature that the training part never knew has no scale; as a constant it drops out of the model."""
    never = np.isnan(values[:n_train]).all(axis=0)
    return np.where(never, 0.0, values) if never.any() else values


def _path(x: FloatArray, y: FloatArray, name: str) -> FloatArray:
    """Return the coefficients at every penalty, (n_features, n_penalties)."""
    gram, xy = x.T @ x, x.T @ y
    strongest = float(np.abs(xy).max()) / (len(y) * L1_RATIO[name])
    if strongest == 0.0:
        return np.zeros((x.shape[1], len(PENALTY_FRACS)))
    penalties = strongest * np.asarray(PENALTY_FRACS)
    _, coefficients, _ = enet_path(
        x, y, l1_ratio=L1_RATIO[name], alphas=penalties, precompute=gram, Xy=xy, copy_X=False, check_input=False
    )
    return np.asarray(coefficients, dtype=np.float64)
