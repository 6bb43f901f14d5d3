"""
What linear models make of the representatives, judged on rows that they have not seen.

Walk-forward folds with purge and embargo; features and labels are scaled by what the training part says alone, and
squashed to (-1, 1), where the IC was measured on ranks: on raw returns least squares follows a few crashes. The
strength of the penalty is chosen by the mean out-of-sample R2 over the folds; a model that does not beat the training
mean keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import enet_path

from qraft_quant.align import fit_scaler
from qraft_quant.align.times import MicrosArray
from qraft_quant.splits import Fold, purged_walk_forward
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
_ROWS_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class ModelFit:
    """One model: R2 of each fold at the chosen penalty, coefficients on the whole window, share of folds that kept."""

    name: str
    penalty_frac: float
    r2_of_folds: tuple[float, ...]
    coefficients: FloatArray
    fold_share: FloatArray

    @property
    def r2(self) -> float:
        """Return the mean out-of-sample R2 over the folds."""
        return float(np.mean(self.r2_of_folds))

    @property
    def beats_the_mean(self) -> bool:
        """Return whether it foretold unseen rows better than the training mean did."""
        return self.r2 > 0.0


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components. shares: of variance, descending; loadings: (n_components, n_features)."""

    shares: FloatArray
    loadings: FloatArray


@dataclass(frozen=True, slots=True)
class _Rows:
    """Thinned rows: at (n_rows,), x (n_rows, n_symbols, n_features), y (n_rows, n_symbols); gap: rows of a label."""

    at: MicrosArray
    x: FloatArray
    y: FloatArray
    gap: int


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
        TooShort: if the folds do not fit.
    """
    rows = _rows_of(panel, columns, returns, horizon_bars=horizon_bars)
    try:
        folds = purged_walk_forward(
            rows.at.size, n_folds=thresholds.n_folds, horizon_bars=rows.gap, purge_bars=rows.gap,
            embargo_bars=rows.gap, first_test_frac=thresholds.first_test_frac,
        )  # fmt: skip
    except ValueError as error:
        raise TooShort(str(error)) from error
    rows = _symbols_known_from_the_first_fold(rows, folds[0])
    return tuple(_fit(name, rows, folds) for name in (LASSO, ELASTIC_NET))


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
    return _Rows(panel.closed_at[::step], finite, returns[::step], -(-horizon_bars // step))


def _symbols_known_from_the_first_fold(rows: _Rows, first: Fold) -> _Rows:
    """Leave out symbols of which the first training part knows too little to scale them by."""
    has_label = np.isfinite(rows.y[: first.train_end]).mean(axis=0) > 0.5
    if not has_label.any():
        raise TooShort("no symbol has labels in half of the first training part")
    return _Rows(rows.at, rows.x[:, has_label], rows.y[:, has_label], rows.gap)


def _fit(name: str, rows: _Rows, folds: Sequence[Fold]) -> ModelFit:
    r2, kept = [], []
    for fold in folds:
        x, y, is_train = _fold_rows(rows, fold)
        coefficients = _path(x[is_train], y[is_train], name)
        error = ((y[~is_train, None] - x[~is_train] @ coefficients) ** 2).sum(axis=0)
        total = float((y[~is_train] ** 2).sum())
        r2.append(1.0 - error / total if total > 0.0 else np.full(len(PENALTY_FRACS), -np.inf))
        kept.append(coefficients != 0.0)
    chosen = int(np.argmax(np.mean(r2, axis=0)))  # the strongest penalty among equals
    n_rows = rows.at.size
    x, y, is_train = _fold_rows(rows, Fold(0, n_rows, n_rows, n_rows))
    final = _path(x[is_train], y[is_train], name)[:, chosen]
    share = np.mean([fold[:, chosen] for fold in kept], axis=0)
    return ModelFit(name, PENALTY_FRACS[chosen], tuple(float(fold[chosen]) for fold in r2), final, share)


def _fold_rows(rows: _Rows, fold: Fold) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return the rows of a fold that have a label, scaled by its training part, and which of them train."""
    chosen = np.r_[fold.train_start : fold.train_end, fold.test_start : fold.test_end]
    n_train, n_symbols = fold.train_end - fold.train_start, rows.y.shape[1]
    at = rows.at[chosen]
    y = _scaled(rows.y[chosen], at, n_train=n_train, keep_nan=True)
    flat_at = np.repeat(at, n_symbols)
    x = _scaled(rows.x[chosen].reshape(flat_at.size, -1), flat_at, n_train=n_train * n_symbols)
    has_label = np.isfinite(y.ravel())
    is_train = np.repeat(np.arange(at.size) < n_train, n_symbols)
    return x[has_label], y.ravel()[has_label], is_train[has_label]


def _scaled(values: FloatArray, at: MicrosArray, *, n_train: int, keep_nan: bool = False) -> FloatArray:
    """Return values scaled by what the first n_train rows say, squashed to (-1, 1)."""
    until = int(at[:n_train].max())
    known = np.where(np.isfinite(values), values, np.nan)
    scaler = fit_scaler(_with_a_known_value(known, n_train), at, after=int(at[0]) - 1, until=until)
    train = scaler.apply(known[:n_train], at[:n_train], in_sample=True)
    rest = scaler.apply(known[n_train:], at[n_train:])
    z = np.concatenate([train, rest])
    scaled = z / np.sqrt(1.0 + z * z)
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
