"""
Bits that every machine must give: hashes of the features of bars made of whole numbers, beside this file.

`python -m tests.libs.quant.features.golden` writes them anew, after a change of a formula, an operator or the engine.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.libs.quant.features.market import FIRST_INDEX, sha256

from qraft_quant.features import SETS, STATE_INPUTS, compute_history

FILE = Path(__file__).with_name("golden.json")
N_BARS, N_SYMBOLS = 2_300, 5
# What drew the holes when there were 32 states; a state added later draws behind it, and `core` keeps its bars.
_HOLES = 69


def exact_bars():
    """Return bars with state out of whole numbers and powers of two: no rounding, no library, no random generator."""
    drawn = (place for place in range(1_000) if place != _HOLES)

    def ints(n, place=None):
        """Return whole numbers in [0, n), (n_bars, n_symbols), by SplitMix64 of the cell's number."""
        place = next(drawn) if place is None else place
        cells = np.arange(N_BARS * N_SYMBOLS, dtype=np.uint64) + np.uint64(place << 32)
        z = cells * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        return (z % np.uint64(n)).astype(np.int64).reshape(N_BARS, N_SYMBOLS)

    close = 1_000_000 + np.cumsum(ints(2_001) - 1_000, axis=0)
    open_ = np.vstack([close[:1], close[:-1]]) + ints(101) - 50
    high, low = np.maximum(open_, close) + ints(500), np.minimum(open_, close) - ints(500)
    bars = {
        "open": open_ / 1024,
        "high": high / 1024,
        "low": low / 1024,
        "close": close / 1024,
        "volume": ints(999) / 8,
    }
    for i, name in enumerate(STATE_INPUTS):
        n_held = (1, 1, 12, 96)[i % 4]
        values = np.repeat(ints(5_000)[: N_BARS // n_held + 1], n_held, axis=0)[:N_BARS] - (2_500 if i % 5 == 4 else 0)
        bars[name] = np.where(ints(40) == 0, np.nan, values / 1024)
    holes = ints(400, _HOLES) == 0
    return {name: np.where(holes, np.nan, values) for name, values in bars.items()}


def digests():
    """Return by set its signature and the hash of its features."""
    bars = exact_bars()
    return {
        name: {
            "signature": features.signature("5m"),
            "inputs": sha256(np.stack([bars[name] for name in features.inputs])),
            "features": sha256(compute_history(bars, FIRST_INDEX, features=features)),
        }
        for name, features in SETS.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(digests(), indent=2) + "\n")
