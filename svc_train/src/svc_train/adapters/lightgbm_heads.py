"""LightGBM as a HeadLearner: one binned data set for all heads, bit-equal trees from run to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import lightgbm as lgb
import numpy as np

from svc_train.domain.config import TrainConfig
from svc_train.domain.heads import FittedHead, HeadKind
from svc_train.domain.samples import Float32Array, FloatArray
from svc_train.domain.trees import Tree
from svc_train.ports import Lesson

_OBJECTIVES: Final[Mapping[HeadKind, str]] = {
    "expected_return": "regression",
    "direction": "binary",
    "volatility": "regression",
}
# LightGBM reads every value within kZeroThreshold (1e-35f) of zero as zero. Its splits around zero lie on that bound.
_ZERO_THRESHOLD: Final = float(np.float32(1e-35))
# Bits of LightGBM's decision_type: 1 = categorical, 2 = default left, then two bits of missing type (0 = none).
_CATEGORICAL_BIT: Final = 1
_MISSING_SHIFT: Final = 2


class LightGbmLearner:
    """Trains heads with the settings of a run."""

    def __init__(self, config: TrainConfig) -> None:
        self._params: dict[str, Any] = {
            "num_leaves": config.n_leaves,
            "learning_rate": config.learning_rate,
            "max_bin": config.n_bins,
            "min_data_in_leaf": config.n_rows_leaf_min,
            "feature_fraction": config.feature_frac,
            "seed": config.seed,
            # Threads work on different horizons instead. LightGBM's own wait for one another at every histogram: with
            # other processes on the same two cores (load 3 to 4) the fits took 210 s instead of 71 s.
            "num_threads": 1,
            # deterministic alone does not fix the order of histogram sums; with force_row_wise 1 and 8 threads
            # give the same bits (measured).
            "deterministic": True,
            "force_row_wise": True,
            # Rows with NaN never come here. Without this a split could carry a missing branch that no graph has.
            "use_missing": False,
            "feature_pre_filter": False,
            "verbosity": -1,
        }
        self._n_trees = config.n_trees
        self._n_threads = config.n_threads

    def bin(self, x: Float32Array) -> LightGbmRows:
        """See HeadLearner."""
        assert x.dtype == np.float32 and not np.isnan(x).any(), "expected float32 rows without NaN"
        data = lgb.Dataset(x, label=np.zeros(x.shape[0], dtype=np.float32), params=self._params)
        return LightGbmRows(data.construct(), self._params, n_trees=self._n_trees, n_threads=self._n_threads)


class LightGbmRows:
    """Rows binned once: each horizon takes its rows, each head only sets another label."""

    def __init__(self, data: Any, params: Mapping[str, Any], *, n_trees: int, n_threads: int) -> None:
        self._data = data
        self._params = params
        self._n_trees = n_trees
        self._n_threads = n_threads

    def fit_each(self, lessons: Sequence[Lesson]) -> Iterator[dict[HeadKind, FittedHead]]:
        """See BinnedRows."""
        with ThreadPoolExecutor(self._n_threads) as pool:
            yield from pool.map(self._fit, lessons)

    def _fit(self, lesson: Lesson) -> dict[HeadKind, FittedHead]:
        part = self._data.subset(lesson.rows.tolist()).construct()
        return {kind: self._fit_head(part, kind, target) for kind, target in lesson.targets.items()}

    def _fit_head(self, part: Any, kind: HeadKind, target: FloatArray) -> LightGbmHead:
        is_regression = _OBJECTIVES[kind] == "regression"
        # The mean is kept apart in float64: inside the first tree it would cost the float32 sum its last digits,
        # where the net mean and the cost cancel to a gross return near zero.
        offset = float(target.mean()) if is_regression else 0.0
        part.set_label((target - offset).astype(np.float32))
        params = {**self._params, "objective": _OBJECTIVES[kind], "boost_from_average": not is_regression}
        booster = lgb.train(params, part, num_boost_round=self._n_trees)
        booster.free_dataset()
        return LightGbmHead(booster, offset, tuple(parse_trees(booster.model_to_string())))


@dataclass(frozen=True, slots=True)
class LightGbmHead:
    """One trained booster."""

    booster: Any
    offset: float
    trees: Sequence[Tree]

    def raw(self, x: Float32Array) -> FloatArray:
        """See FittedHead."""
        return np.asarray(self.booster.predict(x, raw_score=True), dtype=np.float64) + self.offset


def parse_trees(model: str) -> Iterator[Tree]:
    """
    Yield the trees of a LightGBM model text; numbers there have 17 digits, so nothing is lost.

    Raises:
        ValueError: if a split is categorical or treats missing values, which a plain threshold cannot express.
    """
    for block in model.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        leaf = _numbers(fields["leaf_value"], np.float64)
        if int(fields["num_leaves"]) == 1:
            none = np.empty(0, dtype=np.int64)
            yield Tree(none, np.empty(0), none, none, leaf)
            continue
        kinds = _numbers(fields["decision_type"], np.int64)
        if (kinds & _CATEGORICAL_BIT).any() or (kinds >> _MISSING_SHIFT).any():
            raise ValueError("expected plain numeric splits, received categorical ones or ones on missing values")
        yield Tree(
            feature=_numbers(fields["split_feature"], np.int64),
            threshold=_off_zero(_numbers(fields["threshold"], np.float64)),
            left=_numbers(fields["left_child"], np.int64),
            right=_numbers(fields["right_child"], np.int64),
            leaf=leaf,
        )


def _off_zero(threshold: FloatArray) -> FloatArray:
    """
    Return thresholds by which a plain `x <= t` decides as LightGBM does, also for x within 1e-35 of zero.

    There x counts as zero, so the lower bound itself goes right: its threshold moves one float32 down.
    """
    below = float(np.nextafter(np.float32(-_ZERO_THRESHOLD), np.float32(-np.inf)))
    return np.where(threshold == -_ZERO_THRESHOLD, below, threshold)


def _numbers(text: str, kind: type[np.generic]) -> Any:
    return np.array(text.split(), dtype=kind)
