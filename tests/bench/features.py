"""
Offline and online speed of the feature engine, as ratios measured in one run.

150 features of the catalogue, spread evenly over its families: those over bars for which pandas has a vectorized call.
The pandas version and the bare compiled loop compute the same features, and their values are compared with the
engine's before any ratio is printed. Engines of very different speed get histories of different length: values per
second are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tests.bench.features_bare import bare_loop
from tests.bench.features_pandas import is_possible, pandas_features
from tests.bench.images_peers import PeerMissing, python_with
from tests.bench.measure import machine, verdict

from qraft_quant.features import BAR_INPUTS, FULL, FeatureSet, OnlineFeatures, compute_history

FloatArray = npt.NDArray[np.float64]
Bars = dict[str, FloatArray]

SEED = 7
FIRST_INDEX = 5_800_000
N_FEATURES, N_SYMBOLS, N_BARS = 150, 50, 100_000
N_BARS_CHECKED = 6_000
N_BARS_PANDAS = 8_000
N_BARS_QLIB, N_SYMBOLS_QLIB = 20_000, 10
N_BARS_MEMORY = 30_000
ROUNDS = 2
QLIB = ("pyqlib==0.9.7", "setuptools<81")  # it imports pkg_resources
QLIB_TIMEOUT_S = 300.0
RATIOS_MIN = {"pandas": 8.0, "bare loop": 0.6, "Qlib Alpha158": 10.0}
MEMORY_RATIO_MAX, LIVE_P50_MS_MAX, LIVE_P99_MS_MAX = 3.0, 1.5, 5.0


def chosen() -> FeatureSet:
    """Return the features that are measured."""
    possible = [
        feature for feature in FULL.features if feature.inputs <= set(BAR_INPUTS) and is_possible(feature.parsed)
    ]
    places = np.linspace(0, len(possible) - 1, N_FEATURES).round().astype(int)
    return FeatureSet("bench", tuple(possible[place] for place in places))


def random_bars(*, n_bars: int, n_symbols: int) -> Bars:
    """Return random-walk bars without gaps, (n_bars, n_symbols) each."""
    rng = np.random.default_rng(SEED)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]])
    high = np.maximum(open_, close) * np.exp(rng.exponential(5e-4, close.shape))
    low = np.minimum(open_, close) * np.exp(-rng.exponential(5e-4, close.shape))
    return {"open": open_, "high": high, "low": low, "close": close, "volume": rng.lognormal(3, 1, close.shape)}


def check_equal(
    features: FeatureSet, ours: npt.NDArray[np.float32], theirs: Sequence[npt.NDArray[np.floating[Any]]], who: str
) -> None:
    """Stop unless another engine's features equal ours, to what running sums and endless means leave."""
    start = features.warm_up_bars + 100
    for f, feature in enumerate(features.features):
        mine, other = ours[start:, :, f], theirs[f][start:]
        # Two values that float32 cannot tell apart tie in our ranks; an exponential mean of ours ends after 256 bars;
        # fourth powers in a running sum lose three more digits.
        loose = 2e-2 if feature.formula.startswith(("cross_rank", "kurt")) else 1e-3
        worst, scale = float(np.max(np.abs(mine - other))), float(np.std(mine)) + float(np.mean(np.abs(mine)))
        if not worst <= loose * scale + 1e-9:
            raise SystemExit(
                f"{who} differs in {feature.name}: expected within {loose * scale:.1e}, received {worst:.1e}"
            )


def rate(call: Callable[[], object], *, n_values: int) -> tuple[float, float]:
    """Return values per second of wall and of processor time, the best of the rounds."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        best = [min(best[0], time.perf_counter() - wall), min(best[1], time.process_time() - processor)]
    return n_values / best[0], n_values / best[1]


def qlib_rate() -> float | None:
    """Return the values per second of Qlib's engine; None where it cannot be installed, said aloud."""
    try:
        python = python_with(QLIB)
    except PeerMissing as missing:
        print(f"  SKIPPED Qlib, it cannot be installed: {missing}")
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, values in random_bars(n_bars=N_BARS_QLIB, n_symbols=N_SYMBOLS_QLIB).items():
            np.save(Path(folder) / f"{name}.npy", values)
        command = [str(python), str(Path(__file__).with_name("features_qlib.py")), folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=QLIB_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"expected a line of figures from Qlib, received {done.stderr[-600:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["rows"] * found["columns"] / found["seconds"])


def bench_offline(features: FeatureSet) -> None:
    """Print the ratios of the offline engines."""
    n_threads = os.cpu_count() or 1
    bare, compile_s = bare_loop(features)
    few = random_bars(n_bars=N_BARS_CHECKED, n_symbols=N_SYMBOLS)
    ours = compute_history(few, FIRST_INDEX, features=features, n_threads=n_threads)
    straight = bare(few, n_threads)
    check_equal(features, ours, [straight[:, :, f] for f in range(N_FEATURES)], "the bare loop")
    frames = pandas_features(few, features)
    check_equal(features, ours, [frame.to_numpy() for frame in frames.values()], "pandas")
    del ours, straight, frames
    bars, fewer = (
        random_bars(n_bars=N_BARS, n_symbols=N_SYMBOLS),
        random_bars(n_bars=N_BARS_PANDAS, n_symbols=N_SYMBOLS),
    )
    a_bar = N_SYMBOLS * N_FEATURES
    rates = {
        "qraft": rate(lambda: compute_history(bars, FIRST_INDEX, features=features, n_threads=n_threads),
                      n_values=N_BARS * a_bar),
        "bare loop": rate(lambda: bare(bars, n_threads), n_values=N_BARS * a_bar),
        "pandas": rate(lambda: pandas_features(fewer, features), n_values=N_BARS_PANDAS * a_bar),
    }  # fmt: skip
    found = qlib_rate()
    if found is not None:
        rates["Qlib Alpha158"] = (found, float("nan"))
    print(
        f"offline: {N_FEATURES} features, {N_SYMBOLS} symbols; qraft and the bare loop {N_BARS} bars with {n_threads}"
    )
    print(f"  threads, pandas {pd.__version__} {N_BARS_PANDAS} bars; same values checked on {N_BARS_CHECKED} bars.")
    print(f"  Qlib: its own 158 expressions, {N_SYMBOLS_QLIB} symbols x {N_BARS_QLIB} bars, {n_threads} processes.")
    print(f"  The bare loop is compiled for this set alone ({compile_s:.0f} s, not counted). Best of {ROUNDS} rounds.")
    for name, (wall, processor) in rates.items():
        line = f"  {name:14s} {wall / 1e6:7.1f} M values/s, {processor / 1e6:7.1f} M a processor second"
        if name in RATIOS_MIN:
            ratio = rates["qraft"][0] / wall
            line += f"; qraft is {ratio:.2f} x (figure: {RATIOS_MIN[name]} x): {verdict(ratio >= RATIOS_MIN[name])}"
        print(line)


def bench_memory() -> None:
    """Print the peak of memory beside the output, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.bench.features import print_memory; print_memory()"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    print(done.stdout, end="")


def print_memory() -> None:
    """Measure growth of the peak of resident memory over inputs and one run."""
    features, n_threads = chosen(), os.cpu_count() or 1
    compute_history(random_bars(n_bars=10, n_symbols=2), FIRST_INDEX, features=features)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, which compiling reached, is forgotten
    before = _memory_kb("VmRSS")
    bars = random_bars(n_bars=N_BARS_MEMORY, n_symbols=N_SYMBOLS)
    made = compute_history(bars, FIRST_INDEX, features=features, n_threads=n_threads)
    grown = (_memory_kb("VmHWM") - before) * 1024
    ratio = grown / made.nbytes
    print(f"memory: {N_SYMBOLS} symbols x {N_BARS_MEMORY} bars, {n_threads} threads, inputs counted: "
          f"{grown / 2**20:.0f} MB = {ratio:.2f} x the output (figure: {MEMORY_RATIO_MAX} x): "
          f"{verdict(ratio <= MEMORY_RATIO_MAX)}")  # fmt: skip


def _memory_kb(name: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


def bench_online(features: FeatureSet, *, n_symbols: int, n_steps: int, has_figure: bool = True) -> None:
    """
    Print the distribution of one step, on one thread; more steps than any window of most features.

    Inputs beside the bars are drawn anew at every bar: nothing is cheap by standing still.
    """
    warm_up_bars = features.warm_up_bars
    bars = random_bars(n_bars=warm_up_bars + n_steps, n_symbols=n_symbols)
    rng = np.random.default_rng(SEED)
    beside = [name for name in features.inputs if name not in BAR_INPUTS]
    bars |= {name: rng.lognormal(0, 1, bars["close"].shape) for name in beside}
    online = OnlineFeatures(n_symbols, features=features)
    online.warm_up({name: values[:warm_up_bars] for name, values in bars.items()}, FIRST_INDEX)
    durations_ms, processor_ms = [], []
    for i in range(warm_up_bars, warm_up_bars + n_steps):
        rows = {name: values[i] for name, values in bars.items()}
        started, used = time.perf_counter(), time.thread_time()
        online.step(rows, FIRST_INDEX + i)
        durations_ms.append((time.perf_counter() - started) * 1e3)
        processor_ms.append((time.thread_time() - used) * 1e3)
    p50, p99, top = (float(np.percentile(durations_ms, p)) for p in (50, 99, 100))
    is_reached = p50 <= LIVE_P50_MS_MAX and p99 <= LIVE_P99_MS_MAX
    print(f"online: one bar, {n_symbols} symbols x {len(features.names)} features, {len(beside)} inputs beside the "
          f"bars, one thread, {n_steps} steps")  # fmt: skip
    figure = f": {verdict(is_reached)}" if has_figure else " (the figure is for 150 features)"
    print(f"  p50 {p50:.3f} ms (figure: {LIVE_P50_MS_MAX})  p99 {p99:.3f} ms (figure: {LIVE_P99_MS_MAX})  "
          f"max {top:.3f} ms{figure}")  # fmt: skip
    print(f"  processor time alone: p50 {np.median(processor_ms):.3f} ms, p99 {np.percentile(processor_ms, 99):.3f} ms")


def spread_over_all() -> FeatureSet:
    """Return as many features spread evenly over the whole catalogue, those of book, trades and macro too."""
    places = np.linspace(0, len(FULL.features) - 1, N_FEATURES).round().astype(int)
    return FeatureSet("spread", tuple(FULL.features[place] for place in places))


def main() -> None:
    """Print all figures at the sizes that they are stated for."""
    print(machine())
    features = chosen()
    bench_online(features, n_symbols=500, n_steps=1_000)
    bench_online(spread_over_all(), n_symbols=500, n_steps=300)
    bench_online(FULL, n_symbols=500, n_steps=300, has_figure=False)
    bench_memory()
    bench_offline(features)


if __name__ == "__main__":
    main()
