"""
Offline and online speed of the feature engine, as ratios measured in one run.

Run: `python tests/bench/features.py`. The pandas and polars versions compute the same factors with those libraries'
own vectorized calls, and their values are compared with the engine's before any ratio is printed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from qraft_quant.features import FEATURE_NAMES, WARM_UP_BARS, OnlineFeatures, compute_history

FloatArray = npt.NDArray[np.float64]
Bars = dict[str, FloatArray]

SEED = 7
FIRST_INDEX = 5_800_000
ROUNDS = 3  # each engine is timed so often, in turn; the best time of each counts
RATIO_MIN = {"pandas": 8, "polars": 6}
RANKED = ("return_12", "return_288", "volatility_288", "volume_z_288")


def random_bars(*, n_bars: int, n_symbols: int) -> Bars:
    """Return random-walk bars without gaps, (n_bars, n_symbols) each."""
    rng = np.random.default_rng(SEED)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]])
    high = np.maximum(open_, close) * np.exp(rng.exponential(5e-4, close.shape))
    low = np.minimum(open_, close) * np.exp(-rng.exponential(5e-4, close.shape))
    return {"open": open_, "high": high, "low": low, "close": close, "volume": rng.lognormal(3, 1, close.shape)}


def pandas_features(bars: Bars) -> dict[str, pd.DataFrame]:
    """Return the same factors by pandas, one (n_bars, n_symbols) frame a factor."""
    o, h, l, c, v = (pd.DataFrame(bars[name]) for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    log_o, log_h, log_l, log_c = np.log(o), np.log(h), np.log(l), np.log(c)
    mean = {n: log_c.rolling(n).mean() for n in (12, 48, 288, 2016)}
    r = log_c.diff()
    path = {n: r.abs().rolling(n).sum() for n in (14, 48, 288)}
    std = {n: r.rolling(n).std(ddof=0) for n in (12, 48, 288, 2016)}
    previous, spread, body = log_c.shift(1), log_h - log_l, log_c - log_o
    q = np.log1p(v * c)
    q_mean, q_std = {n: q.rolling(n).mean() for n in (12, 48, 288)}, {n: q.rolling(n).std(ddof=0) for n in (48, 288)}
    low, high = {n: log_l.rolling(n).min() for n in (48, 288)}, {n: log_h.rolling(n).max() for n in (48, 288)}
    volume_48 = v.rolling(48).sum()
    out = {f"sma_gap_{n}": log_c - mean[n] for n in mean}
    out |= {"macd_12_48": mean[12] - mean[48], "macd_48_288": mean[48] - mean[288]}
    out |= {f"return_{n}": log_c - log_c.shift(n) for n in (1, 3, 12, 48, 144, 288, 864, 2016)}
    out |= {f"efficiency_{n}": out[f"return_{n}"] / path[n] for n in (48, 288)}
    out["return_12_lag_12"] = out["return_12"].shift(12)
    out["rsi_14"] = 2 * r.clip(lower=0).rolling(14).sum() / path[14] - 1
    out["return_risk_288"] = out["return_288"] / (std[288] * np.sqrt(288))
    out |= {f"volatility_{n}": std[n] for n in std}
    out["volatility_ratio_12_288"] = std[12] / std[288]
    out["parkinson_48"] = np.sqrt((spread * spread).rolling(48).mean() / (4 * np.log(2)))
    gk = 0.5 * spread * spread - (2 * np.log(2) - 1) * body * body
    out["garman_klass_288"] = np.sqrt(gk.rolling(288).mean())
    true_range = np.maximum(log_h, previous) - np.minimum(log_l, previous)
    out["atr_14"] = true_range.rolling(14).mean()
    out |= {f"volume_z_{n}": (q - q_mean[n]) / q_std[n] for n in (48, 288)}
    out["volume_trend_12_288"] = q_mean[12] - q_mean[288]
    out["signed_volume_48"] = (np.sign(r) * v).rolling(48).sum() / volume_48
    out["money_flow_48"] = (v * (2 * c - h - l) / (h - l)).rolling(48).sum() / volume_48
    out |= {f"range_position_{n}": (log_c - low[n]) / (high[n] - low[n]) - 0.5 for n in (48, 288)}
    out["drawdown_288"] = log_c - high[288]
    out["vwap_gap_288"] = c * v.rolling(288).sum() / (v * (h + l + c) / 3).rolling(288).sum() - 1
    out["sma_z_48"] = out["sma_gap_48"] / (std[48] * np.sqrt(48))
    out["candle_body"] = body / spread
    out["close_location"] = (2 * log_c - log_h - log_l) / spread
    out["range_ratio_48"] = spread / spread.rolling(48).mean()
    for name in RANKED:
        ranks = out[name].rank(axis=1)
        out[f"rank_{name}"] = ranks.sub(0.5).div(ranks.notna().sum(axis=1), axis=0)
    return out


def _polars_expressions() -> list[list[pl.Expr]]:
    """Return the factors of one symbol, in layers of which each uses the columns of those before."""
    o, h, l, c, v = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    base = [o.log().alias("lo"), h.log().alias("lh"), l.log().alias("ll"), c.log().alias("lc")]
    base.append((v * c).log1p().alias("q"))
    lc, lh, ll, q, r = pl.col("lc"), pl.col("lh"), pl.col("ll"), pl.col("q"), pl.col("r")
    spread, body = pl.col("spread"), pl.col("body")
    series = [(lc - lc.shift(1)).alias("r"), (lh - ll).alias("spread"), (lc - pl.col("lo")).alias("body")]
    series += [lc.rolling_mean(n).alias(f"mean_{n}") for n in (12, 48, 288, 2016)]
    series += [q.rolling_mean(n).alias(f"q_mean_{n}") for n in (12, 48, 288)]
    series += [q.rolling_std(n, ddof=0).alias(f"q_std_{n}") for n in (48, 288)]
    series += [ll.rolling_min(n).alias(f"low_{n}") for n in (48, 288)]
    series += [lh.rolling_max(n).alias(f"high_{n}") for n in (48, 288)]
    series += [(lc - lc.shift(n)).alias(f"return_{n}") for n in (1, 3, 12, 48, 144, 288, 864, 2016)]
    series.append(v.rolling_sum(48).alias("volume_48"))
    rolled = [r.rolling_std(n, ddof=0).alias(f"volatility_{n}") for n in (12, 48, 288, 2016)]
    rolled += [r.abs().rolling_sum(n).alias(f"path_{n}") for n in (14, 48, 288)]
    vol = {n: pl.col(f"volatility_{n}") for n in (12, 48, 288)}
    root = float(np.sqrt(48))
    true_range = pl.max_horizontal(lh, lc.shift(1)) - pl.min_horizontal(ll, lc.shift(1))
    gk = 0.5 * spread * spread - (2 * float(np.log(2)) - 1) * body * body
    factors = [(lc - pl.col(f"mean_{n}")).alias(f"sma_gap_{n}") for n in (12, 48, 288, 2016)]
    factors += [
        (pl.col("mean_12") - pl.col("mean_48")).alias("macd_12_48"),
        (pl.col("mean_48") - pl.col("mean_288")).alias("macd_48_288"),
        *((pl.col(f"return_{n}") / pl.col(f"path_{n}")).alias(f"efficiency_{n}") for n in (48, 288)),
        pl.col("return_12").shift(12).alias("return_12_lag_12"),
        (2 * r.clip(lower_bound=0).rolling_sum(14) / pl.col("path_14") - 1).alias("rsi_14"),
        (pl.col("return_288") / (vol[288] * float(np.sqrt(288)))).alias("return_risk_288"),
        (vol[12] / vol[288]).alias("volatility_ratio_12_288"),
        ((spread * spread).rolling_mean(48) / (4 * float(np.log(2)))).sqrt().alias("parkinson_48"),
        gk.rolling_mean(288).sqrt().alias("garman_klass_288"),
        true_range.rolling_mean(14).alias("atr_14"),
        *(((q - pl.col(f"q_mean_{n}")) / pl.col(f"q_std_{n}")).alias(f"volume_z_{n}") for n in (48, 288)),
        (pl.col("q_mean_12") - pl.col("q_mean_288")).alias("volume_trend_12_288"),
        ((r.sign() * v).rolling_sum(48) / pl.col("volume_48")).alias("signed_volume_48"),
        ((v * (2 * c - h - l) / (h - l)).rolling_sum(48) / pl.col("volume_48")).alias("money_flow_48"),
        *(
            ((lc - pl.col(f"low_{n}")) / (pl.col(f"high_{n}") - pl.col(f"low_{n}")) - 0.5).alias(f"range_position_{n}")
            for n in (48, 288)
        ),
        (lc - pl.col("high_288")).alias("drawdown_288"),
        (c * v.rolling_sum(288) / (v * (h + l + c) / 3).rolling_sum(288) - 1).alias("vwap_gap_288"),
        ((lc - pl.col("mean_48")) / (vol[48] * root)).alias("sma_z_48"),
        (body / spread).alias("candle_body"),
        ((2 * lc - lh - ll) / spread).alias("close_location"),
        (spread / spread.rolling_mean(48)).alias("range_ratio_48"),
    ]
    return [base, series, rolled, factors]


def polars_features(bars: Bars) -> list[pl.DataFrame]:
    """Return the same factors by polars, one frame a symbol; all symbols in one parallel collect."""
    names = [name for name in FEATURE_NAMES if not name.startswith("rank_")]
    plans = []
    for s in range(bars["close"].shape[1]):
        frame = pl.DataFrame({name: values[:, s] for name, values in bars.items()}).lazy()
        for layer in _polars_expressions():
            frame = frame.with_columns(layer)
        plans.append(frame.select(names))
    frames = pl.collect_all(plans, engine="in-memory")
    n = len(frames[0])
    for name in RANKED:
        # One long column and a rank within each bar: polars has no rank across columns.
        long = pl.DataFrame({"bar": np.tile(np.arange(n), len(frames)), "x": pl.concat([f[name] for f in frames])})
        rank = long.select(((pl.col("x").rank() - 0.5) / pl.col("x").count()).over("bar").alias("rank"))["rank"]
        for s, frame in enumerate(frames):
            frames[s] = frame.with_columns(rank.slice(s * n, n).alias(f"rank_{name}"))
    return frames


def check_equal(values: npt.NDArray[np.float32], other: Callable[[int], npt.NDArray[np.float64]], engine: str) -> None:
    """Stop unless another engine's factors equal ours, to what rolling updates and float32 leave."""
    for f, name in enumerate(FEATURE_NAMES):
        ours, theirs = values[WARM_UP_BARS:, :, f], other(f)[WARM_UP_BARS:]
        scale = float(np.nanstd(ours))
        # Two values that float32 cannot tell apart tie in our ranks and not in theirs.
        tolerance = 1.01 / values.shape[1] if name.startswith("rank_") else 1e-5 * scale + 1e-9
        worst = float(np.max(np.abs(ours - theirs)))
        if not worst <= tolerance:
            raise SystemExit(f"{engine} differs in {name}: expected within {tolerance:.1e}, received {worst:.1e}")


def check_pandas(values: npt.NDArray[np.float32], frames: dict[str, pd.DataFrame]) -> None:
    """Stop unless pandas found the same."""
    check_equal(values, lambda f: frames[FEATURE_NAMES[f]].to_numpy(), "pandas")


def check_polars(values: npt.NDArray[np.float32], frames: list[pl.DataFrame]) -> None:
    """Stop unless polars found the same."""
    check_equal(values, lambda f: np.stack([x[FEATURE_NAMES[f]].to_numpy() for x in frames], axis=1), "polars")


def best_seconds(calls: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the best wall time and the best processor time (all threads) of each call, the calls taking turns."""
    best = dict.fromkeys(calls, (float("inf"), float("inf")))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter(), time.process_time()
            call()
            took = time.perf_counter() - started[0], time.process_time() - started[1]
            best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    return best


def bench_offline(*, n_bars: int, n_symbols: int) -> None:
    """Print the ratios of the offline engines."""
    bars = random_bars(n_bars=n_bars, n_symbols=n_symbols)
    values = compute_history(**bars, first_index=FIRST_INDEX)
    check_pandas(values, pandas_features(bars))
    check_polars(values, polars_features(bars))
    del values
    seconds = best_seconds(
        {
            "qraft": lambda: compute_history(**bars, first_index=FIRST_INDEX),
            "polars": lambda: polars_features(bars),
            "pandas": lambda: pandas_features(bars),
        }
    )
    n_values = n_bars * n_symbols * len(FEATURE_NAMES)
    print(f"offline: {len(FEATURE_NAMES)} factors, {n_symbols} symbols x {n_bars} bars, {os.cpu_count()} processors;")
    print(f"  same values checked; best of {ROUNDS} rounds in turn, from arrays to arrays or frames")
    for name, (wall_s, processor_s) in seconds.items():
        ratio = wall_s / seconds["qraft"][0]
        figure = f"  qraft is {ratio:.1f} x (figure: {RATIO_MIN[name]} x)" if name in RATIO_MIN else ""
        speed = n_values / wall_s / 1e6
        print(f"  {name:7s} {wall_s:6.2f} s wall {processor_s:6.2f} s processor {speed:6.1f} M values/s{figure}")


def bench_online(*, n_symbols: int, n_steps: int) -> None:
    """Print the distribution of one step; three times around all anchors, on one thread."""
    bars = random_bars(n_bars=WARM_UP_BARS + n_steps, n_symbols=n_symbols)
    online = OnlineFeatures(n_symbols)
    online.warm_up(**{name: values[:WARM_UP_BARS] for name, values in bars.items()}, first_index=FIRST_INDEX)
    durations_ms = []
    for i in range(WARM_UP_BARS, WARM_UP_BARS + n_steps):
        rows = {name: values[i] for name, values in bars.items()}
        started = time.perf_counter()
        online.step(**rows, index=FIRST_INDEX + i)
        durations_ms.append((time.perf_counter() - started) * 1e3)
    p50, p99, top = (float(np.percentile(durations_ms, p)) for p in (50, 99, 100))
    print(f"online: one bar, {n_symbols} symbols x {len(FEATURE_NAMES)} factors, one thread, {n_steps} steps")
    print(f"  p50 {p50:.3f} ms (figure: 0.5)  p99 {p99:.3f} ms (figure: 2)  max {top:.3f} ms")


def main() -> None:
    """Print both figures at the sizes that they are stated for."""
    bench_online(n_symbols=500, n_steps=3 * 288)
    bench_offline(n_bars=100_000, n_symbols=50)


if __name__ == "__main__":
    main()
