"""A small made-up market for the tests of svc_features."""

from datetime import UTC, datetime, timedelta

import numpy as np

from qraft_contracts.origin import Origin
from qraft_frames.bars import BarBatch
from qraft_quant.features import FULL

STEP = timedelta(minutes=5)
FIRST = datetime(2025, 6, 1, 0, 5, tzinfo=UTC)
SYMBOLS = ("AAA", "BBB", "CCC")
N_HISTORY = FULL.warm_up_bars + 40


def make_market(n_bars, seed=3):
    chance = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(chance.normal(0, 0.002, (n_bars, len(SYMBOLS))), axis=0))
    open_ = np.vstack([np.full((1, len(SYMBOLS)), 100.0), close[:-1]])
    spread = 1 + np.abs(chance.normal(0, 0.001, close.shape))
    high, low = np.maximum(open_, close) * spread, np.minimum(open_, close) / spread
    return open_, high, low, close, chance.uniform(1, 9, close.shape)


def make_batches(values):
    return [
        BarBatch("crypto", "5m", FIRST + i * STEP, FIRST + i * STEP, 0, Origin.REPLAY, SYMBOLS, *(v[i] for v in values))
        for i in range(len(values[0]))
    ]
