"""Everything that shapes a training run and that its manifest repeats. Defaults are the standard recipe."""

from __future__ import annotations

import msgspec

from qraft_contracts.subjects import HORIZON_SECONDS, HORIZONS, INTERVAL_SECONDS


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    The recipe.

    row_stride: every row_stride-th bar trains, staggered by symbol; neighboring bars of a long horizon share nearly
    all of their label. embargo_bars: rows left out before each test beyond the purge. known_frac_min: share of a
    horizon's 1-bar returns that must be known for its volatility label. n_rows_min: fewest training rows of a head.
    """

    seed: int
    horizons: tuple[str, ...] = HORIZONS
    symbol_group: str = "all"
    n_folds: int = 3
    first_test_frac: float = 0.4
    embargo_bars: int = 288
    row_stride: int = 3
    known_frac_min: float = 0.95
    n_rows_min: int = 1_000
    # 12 heads x 24 trees answer 500 rows in 5 to 6 ms on one busy core, 40 trees in 10; serving may take 8.
    n_trees: int = 24
    n_leaves: int = 31
    learning_rate: float = 0.12
    n_bins: int = 63
    n_rows_leaf_min: int = 200
    feature_frac: float = 0.7
    n_threads: int = 2
    n_parity_rows: int = 2_000


def horizon_bars(horizon: str, *, interval: str) -> int:
    """
    Return how many bars a horizon spans.

    Raises:
        ValueError: if that is not a whole number.
    """
    seconds, step = HORIZON_SECONDS[horizon], INTERVAL_SECONDS[interval]
    if seconds % step:
        raise ValueError(f"horizon {horizon} is not a whole number of {interval} bars: leave it out of the horizons")
    return seconds // step
