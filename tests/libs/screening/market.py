"""A made-up market whose truth is known: what foretells, what does not, and what says the same twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from qraft_quant.align import lag
from qraft_quant.labels import forward_returns
from qraft_screening.panel import FeatureAbout, FeaturePanel
from qraft_screening.report import Source
from qraft_screening.screen import Asked, Screened, screen
from qraft_screening.thresholds import Thresholds

STEP_US = 300_000_000
DAY_BARS = 288
FIRST_US = 1_740_787_200_000_000  # 2025-03-01
HORIZON = 12
SYMBOLS = ("AAA", "BBB", "CCC")


def closes(n_days: int, *, seed: int, n_symbols: int = len(SYMBOLS)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100.0 * np.exp(np.cumsum(rng.normal(0, 0.002, (n_days * DAY_BARS, n_symbols)), axis=0))


def autocorrelated(shape: tuple[int, ...], *, memory: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 1, shape)
    for t in range(1, shape[0]):
        out[t] += memory * out[t - 1]
    return out


def panel_of(close: np.ndarray, columns: dict[str, np.ndarray]) -> FeaturePanel:
    n_bars, n_symbols = close.shape
    values = np.stack([np.broadcast_to(it, close.shape) for it in columns.values()], axis=2).astype(np.float32)
    return FeaturePanel(
        FIRST_US + STEP_US * np.arange(1, n_bars + 1),
        STEP_US,
        tuple(f"S{i}" for i in range(n_symbols)),
        tuple(FeatureAbout(name, "made", f"{name}()", 1) for name in columns),
        values,
        close,
    )


def planted(n_days: int = 60, *, seed: int = 1) -> FeaturePanel:
    """Two that foretell, one of them twice; noise, noise with memory, a constant, one that is mostly missing."""
    close = closes(n_days, seed=seed)
    rng = np.random.default_rng(seed + 1_000)
    noise = rng.normal(0, 1, (*close.shape, 8))
    future = np.nan_to_num(forward_returns(close, HORIZON)) / (0.002 * HORIZON**0.5)
    scale = np.nan_to_num(lag(noise[:, :, 6], 1))
    rises = 0.25 * future + noise[:, :, 0]
    columns = {
        "rises": rises,
        "rises_again": np.exp(rises) + 0.01 * noise[:, :, 1],
        "falls": -0.2 * future + noise[:, :, 2],
        "noise": noise[:, :, 3],
        "noise_with_memory": autocorrelated(close.shape, memory=0.995, seed=seed + 2_000),
        "constant": np.ones(close.shape),
        "rare": np.where(rng.random(close.shape) < 0.5, np.nan, noise[:, :, 4]),
        "moved": noise[:, :, 5] + 5.0 * (np.arange(len(close)) > 0.6 * len(close))[:, None],
        "scale": scale,
    }
    return panel_of(close, columns)


def asked_of(panel: FeaturePanel, **changes: Any) -> Asked:
    source = {"market": "made", "interval": "5m", "symbols": panel.symbols, "origin": "simulated",
              "after_us": FIRST_US, "until_us": int(panel.closed_at[-1]), "n_bars": panel.closed_at.size,
              "data_sha256": "00"}  # fmt: skip
    whole = {"feature_set": "made", "feature_signature": "ab", "horizon": "1h", "horizon_bars": HORIZON, "seed": 7}
    return Asked(source=Source(**source | {k: v for k, v in changes.items() if k in source}),
                 **whole | {k: v for k, v in changes.items() if k in whole})  # fmt: skip


def screened(
    panel: FeaturePanel, *, n_threads: int = 1, thresholds: Thresholds | None = None, **changes: Any
) -> Screened:
    return screen(panel, asked_of(panel, **changes), thresholds=thresholds or Thresholds(), n_threads=n_threads,
                  progress=lambda _: None)  # fmt: skip
