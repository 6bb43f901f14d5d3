"""Made-up and real bars for the tests of the feature engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from qraft_quant.features import BAR_INPUTS, STATE_INPUTS

FIRST_INDEX = 5_791_001
INTERVAL_S = 300


def walk(*, n_bars, n_symbols=4, seed=11, with_state=False):
    """Return random-walk bars by name, (n_bars, n_symbols) each."""
    rng = np.random.default_rng(seed)
    close = np.geomspace(0.01, 60_000, n_symbols) * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 1e-4, close.shape))
    high = np.maximum(open_, close) * np.exp(rng.exponential(1e-3, close.shape))
    low = np.minimum(open_, close) * np.exp(-rng.exponential(1e-3, close.shape))
    bars = dict(zip(BAR_INPUTS, (open_, high, low, close, rng.lognormal(2, 1, close.shape)), strict=True))
    if with_state:
        bars |= {name: rng.lognormal(0, 1, close.shape) for name in STATE_INPUTS}
    return bars


def with_state(bars, *, seed=5):
    """
    Return bars with every state input as a lake gives them: held for hours, of either sign, with holes and late starts.

    One in nine is not there at all, as where a venue does not publish it.
    """
    rng = np.random.default_rng(seed)
    n_bars, n_symbols = bars["close"].shape
    found = dict(bars)
    for i, name in enumerate(STATE_INPUTS):
        if i % 9 == 8:
            continue
        n_held = (1, 1, 12, 96, 288)[i % 5]  # bars that a value stands
        shape = (n_bars // n_held + 1, n_symbols)
        values = rng.normal(0, 1, shape) if i % 4 == 3 else rng.lognormal(0, 1, shape)
        values[rng.random(shape) < 0.02] = np.nan
        values[: (i % 3) * shape[0] // 5] = np.nan
        found[name] = np.repeat(values, n_held, axis=0)[:n_bars]
    return found


def with_trouble(bars):
    """Return bars with gaps, a halted stretch and bars without volume, one symbol each, and one left as it is."""
    bars = {name: values.copy() for name, values in bars.items()}
    n = len(bars["close"])
    for values in bars.values():
        values[n // 2 : n // 2 + 7, 0] = np.nan
        values[n // 2 + 100, 0] = np.nan
    for name in ("open", "high", "low", "close"):
        bars[name][n // 3 : n // 3 + 70, 1] = bars["close"][n // 3 - 1, 1]
    bars["volume"][n // 3 : n // 3 + 70, 1] = 0.0
    bars["volume"][n // 2 :: 3, 2] = 0.0
    return bars


def rows(bars, start, stop=None):
    """Return some rows of bars."""
    return {name: values[start:stop] for name, values in bars.items()}


def columns(bars, where):
    """Return some symbols of bars."""
    return {name: values[:, where] for name, values in bars.items()}


def sha256(values):
    """Return the hash of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def real_panel(folder: Path, *, first: int, n_bars: int):
    """Return real bars on the full grid, NaN where one is missing, and the grid index of row 0."""
    frames = [
        pl.read_parquet(path).with_columns(pl.lit(path.stem).alias("symbol")).unique(("symbol", "open_time"))
        for path in sorted(folder.glob("*.parquet"))
    ]
    table = pl.concat(frames).with_columns((pl.col("open_time").dt.epoch("s") // INTERVAL_S + 1).alias("index"))
    first_index = int(table["index"].min()) + first
    symbols = sorted(table["symbol"].unique())
    table = table.filter(pl.col("index").is_between(first_index, first_index + n_bars - 1))
    places = [symbols.index(symbol) for symbol in table["symbol"]]
    panel = {}
    for name in BAR_INPUTS:
        panel[name] = np.full((n_bars, len(symbols)), np.nan)
        panel[name][table["index"].to_numpy() - first_index, places] = table[name].to_numpy()
    return panel, first_index
