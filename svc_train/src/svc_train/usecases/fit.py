"""Fit the heads of all horizons on one window of bars, and forecast the bars after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svc_train.domain.config import TrainConfig
from svc_train.domain.folds import Plan
from svc_train.domain.forecasts import Forecasts
from svc_train.domain.heads import FittedHead, HeadKind
from svc_train.domain.samples import BoolArray, FloatArray, IntArray, Samples
from svc_train.domain.targets import HorizonTargets
from svc_train.ports import HeadLearner, Lesson, Progress

Heads = dict[HeadKind, FittedHead]


@dataclass(frozen=True, slots=True)
class HeadFitter:
    """Everything that stays the same from window to window. on_stride: which samples may train, (n_samples,)."""

    config: TrainConfig
    learner: HeadLearner
    progress: Progress
    samples: Samples
    on_stride: BoolArray
    targets: Sequence[HorizonTargets]

    def train_rows(self, target: HorizonTargets, *, start: int, end: int) -> IntArray:
        """
        Return the samples of bars [start, end) that train a horizon: on the stride, with every label known.

        Raises:
            ValueError: if they are fewer than n_rows_min.
        """
        bar = self.samples.bar
        known = target.is_known[bar, self.samples.symbol]
        rows = np.flatnonzero(self.on_stride & known & (bar >= start) & (bar < end))
        if rows.size < self.config.n_rows_min:
            raise ValueError(
                f"horizon {target.horizon}, bars [{start}, {end}): expected at least {self.config.n_rows_min} training "
                f"rows, received {rows.size} (every {self.config.row_stride}th bar with known features and labels). "
                "Load more history or symbols, or lower QRAFT_TRAIN_ROW_STRIDE"
            )
        return rows

    def fit(self, rows: Sequence[IntArray], *, name: str) -> list[Heads]:
        """Fit the heads of each horizon on its rows; the window is binned once."""
        window = np.unique(np.concatenate(rows))
        binned = self.learner.bin(self.samples.x[window])
        lessons = [
            Lesson(np.searchsorted(window, own), _labels(self.samples.take(own), target))
            for target, own in zip(self.targets, rows, strict=True)
        ]
        fitted, heads = binned.fit_each(lessons), []
        for target in self.targets:
            self.progress.step(f"{name} {target.horizon}")
            heads.append(next(fitted))
        return heads

    def walk_forward(self, plan: Plan) -> tuple[list[Forecasts], list[list[int]]]:
        """Return each horizon's out-of-fold forecasts, and its number of training rows by fold."""
        parts: list[list[Forecasts]] = [[] for _ in self.targets]
        counts: list[list[int]] = [[] for _ in self.targets]
        for k in range(self.config.n_folds):
            folds = [horizon_folds[k] for horizon_folds in plan]
            rows = [
                self.train_rows(target, start=fold.train_start, end=fold.train_end)
                for target, fold in zip(self.targets, folds, strict=True)
            ]
            bar = self.samples.bar
            test = self.samples.take((bar >= folds[0].test_start) & (bar < folds[0].test_end))
            for i, heads in enumerate(self.fit(rows, name=f"fold {k + 1}")):
                parts[i].append(_forecast(heads, test, cost=self.targets[i].cost, fold=k))
                counts[i].append(rows[i].size)
        return [_joined(part) for part in parts], counts


def _labels(samples: Samples, target: HorizonTargets) -> dict[HeadKind, FloatArray]:
    return {
        "expected_return": samples.at(target.net),
        "direction": (samples.at(target.forward) > 0.0).astype(np.float64),
        "volatility": samples.at(target.log_volatility),
    }


def _forecast(heads: Heads, test: Samples, *, cost: float, fold: int) -> Forecasts:
    return Forecasts(
        bar=test.bar,
        symbol=test.symbol,
        fold=np.full(test.bar.size, fold, dtype=np.int64),
        gross=heads["expected_return"].raw(test.x) + cost,
        score=heads["direction"].raw(test.x),
        volatility=np.exp(heads["volatility"].raw(test.x)),
    )


def _joined(parts: Sequence[Forecasts]) -> Forecasts:
    return Forecasts(
        bar=np.concatenate([part.bar for part in parts]),
        symbol=np.concatenate([part.symbol for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
        gross=np.concatenate([part.gross for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        volatility=np.concatenate([part.volatility for part in parts]),
    )
