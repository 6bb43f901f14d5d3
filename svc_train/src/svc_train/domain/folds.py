"""The walk-forward of each horizon: the same test bars for all, a purge as long as its own horizon."""

from __future__ import annotations

from collections.abc import Sequence

from qraft_quant.splits import Fold, purged_walk_forward
from svc_train.domain.config import TrainConfig
from svc_train.domain.targets import HorizonTargets

Plan = tuple[tuple[Fold, ...], ...]  # (n_horizons, n_folds), in bars of the panel


def plan_folds(config: TrainConfig, targets: Sequence[HorizonTargets], *, first_bar: int, n_bars: int) -> Plan:
    """
    Return the folds of each horizon over the bars from first_bar (the first with features) to n_bars.

    Raises:
        ValueError: if a horizon has too few bars; the message names it and says how many are needed.
    """
    return tuple(_folds(config, target, first_bar=first_bar, n_bars=n_bars) for target in targets)


def _folds(config: TrainConfig, target: HorizonTargets, *, first_bar: int, n_bars: int) -> tuple[Fold, ...]:
    try:
        folds = purged_walk_forward(
            n_bars - first_bar,
            n_folds=config.n_folds,
            horizon_bars=target.n_bars_ahead,
            purge_bars=target.n_bars_ahead,
            embargo_bars=config.embargo_bars,
            first_test_frac=config.first_test_frac,
        )
    except ValueError as error:
        raise ValueError(
            f"horizon {target.horizon}: {error}. Received {n_bars} bars, of which the first {first_bar} have no "
            "complete features. Load more history, or leave the horizon out (QRAFT_TRAIN_HORIZONS)"
        ) from error
    return tuple(
        Fold(first_bar + f.train_start, first_bar + f.train_end, first_bar + f.test_start, first_bar + f.test_end)
        for f in folds
    )
