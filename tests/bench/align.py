"""
The aligner against polars and pandas, and the time that a whole leakage proof takes.

`join`: 10 M × 1 M rows, by time alone and by symbol. `proof`: the full set of features on 10 symbols, with labels,
aligner and controls. Values are compared before any ratio is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
from tests.bench.measure import data_folder, machine, verdict

from qraft_quant.align import as_of_join
from qraft_quant.features import FULL
from qraft_quant.proof import BarInputs, prove_all
from qraft_quant.proof.everything import bars_wanted
from qraft_quant.proof.registered import registered_features
from qraft_quant.proof.subjects import OHLCV
from qraft_text.proof import prove_text_state

FloatArray = npt.NDArray[np.float64]

SEED = 7
N_LEFT, N_RIGHT, N_SYMBOLS = 10_000_000, 1_000_000, 50
SPAN_US = 365 * 86_400_000_000
ROUNDS = 5  # each engine is timed so often, in turn; the best time of each counts
RATIO_MIN = 1.2
PROOF_S_MAX = 300.0
PROOF_SYMBOLS = 10
STEP_US = 300_000_000
HORIZON_BARS = {"1h": 12, "4h": 48, "1d": 288, "7d": 2_016}


def main() -> None:
    """Measure the join; print the method, each engine's best time and the ratio."""
    rng = np.random.default_rng(SEED)
    at, known_at = np.sort(rng.integers(0, SPAN_US, N_LEFT)), np.sort(rng.integers(0, SPAN_US, N_RIGHT))
    symbol, known_symbol = rng.integers(0, N_SYMBOLS, N_LEFT), rng.integers(0, N_SYMBOLS, N_RIGHT)
    value = rng.normal(size=N_RIGHT)
    left = {"t": at, "s": symbol}
    right = {"t": known_at, "s": known_symbol, "v": value}
    print(
        f"method: backward as-of join of {N_LEFT:,} × {N_RIGHT:,} rows sorted by time, int64 keys, one float column; "
        f"frames are built before the clock starts; best of {ROUNDS} rounds, engines in turn; {machine()}"
    )
    for name, by in (("by time alone", None), ("by symbol", "s")):
        keys = {} if by is None else {"key": symbol, "known_key": known_symbol}
        _report(name, _engines(left, right, by=by, keys=keys))


def main_proof() -> None:
    """Measure the proof of the full set and of the texts it reads on two threads; print the method and the seconds."""
    features = registered_features(FULL, interval="5m")
    n_bars = bars_wanted(features.warm_up_bars)
    bars, origin = _bars(n_bars)
    started = time.perf_counter()
    proof = prove_all(bars, features, horizon_bars=HORIZON_BARS, seed=SEED)
    said = prove_text_state(seed=SEED)
    columns, controls = [*proof.columns, *said.columns], [*proof.controls, *said.controls]
    failed = [*proof.failed, *(it.name for _, it in said.columns if not it.passed)]
    failed += [it.name for it in said.controls if not it.passed]
    seconds = time.perf_counter() - started
    print(
        f"method: {len(features.names)} features, {bars.n_symbols} symbols × {n_bars:,} bars ({origin}), "
        f"{len(columns)} columns (texts among them) and {len(controls)} controls, {len(proof.corruptions)} corruptions "
        f"× {len(proof.cut_offs)} cut-offs, {len(proof.starts)} starts; compiling included; {machine()}"
    )
    print(f"  failed: {failed}")
    is_reached = proof.passed and not failed and seconds <= PROOF_S_MAX
    print(f"  {seconds:.1f} s, target {PROOF_S_MAX:.0f} s: {verdict(is_reached)}")


def _engines(
    left: dict[str, npt.NDArray[np.int64]],
    right: dict[str, npt.NDArray[np.int64] | FloatArray],
    *,
    by: str | None,
    keys: dict[str, npt.NDArray[np.int64]],
) -> dict[str, Callable[[], FloatArray]]:
    """Return a function for each engine that joins and returns the value of every row on the left."""
    names = ["t"] if by is None else ["t", by]
    pd_left, pd_right = pd.DataFrame(left)[names], pd.DataFrame(right)[[*names, "v"]]
    pl_left, pl_right = pl.DataFrame(left).select(names), pl.DataFrame(right).select([*names, "v"])
    pl_left, pl_right = (frame.with_columns(pl.col("t").set_sorted()) for frame in (pl_left, pl_right))
    return {
        "aligner": lambda: as_of_join(left["t"], right["t"], right["v"], **keys),
        "aligner, 2 threads": lambda: as_of_join(left["t"], right["t"], right["v"], n_threads=2, **keys),
        "pandas": lambda: pd.merge_asof(pd_left, pd_right, on="t", by=by)["v"].to_numpy(),
        "polars": lambda: pl_left.join_asof(pl_right, on="t", by=by, check_sortedness=False)["v"].to_numpy(),
    }


def _report(name: str, engines: dict[str, Callable[[], FloatArray]]) -> None:
    best = dict.fromkeys(engines, np.inf)
    expected = engines["pandas"]()
    for engine, join in engines.items():
        assert np.array_equal(join(), expected, equal_nan=True), f"{engine} joins otherwise than pandas"
    del expected
    for _ in range(ROUNDS):
        for engine, join in engines.items():
            started = time.perf_counter()
            join()
            best[engine] = min(best[engine], time.perf_counter() - started)
    print(f"{name}: " + ", ".join(f"{engine} {seconds * 1e3:.0f} ms" for engine, seconds in best.items()))
    ratio = min(best["pandas"], best["polars"]) / best["aligner"]
    print(f"  {ratio:.2f} × the best of pandas and polars, target {RATIO_MIN}: {verdict(ratio >= RATIO_MIN)}")


def _bars(n_bars: int) -> tuple[BarInputs, str]:
    """Return real bars where there are any, else random ones, and which they are."""
    folder = data_folder()
    files = sorted((folder / "bars" / "perp_5m_2025").glob("*.parquet"))[:PROOF_SYMBOLS] if folder else []
    if not files:
        rng = np.random.default_rng(SEED)
        close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, (n_bars, PROOF_SYMBOLS)), axis=0))
        spread = np.exp(rng.exponential(1e-3, close.shape))
        values = dict(zip(OHLCV, (close, close * spread, close / spread, close, spread), strict=True))
        return BarInputs((np.arange(n_bars) + 5_800_000) * STEP_US, values, STEP_US), "random walk"
    frames = [pl.read_parquet(file).head(n_bars) for file in files]
    closed_at = frames[0]["open_time"].dt.timestamp("us").to_numpy() + STEP_US
    values = {name: np.stack([frame[name].to_numpy().astype(np.float64) for frame in frames], axis=1) for name in OHLCV}
    return BarInputs(closed_at, values, STEP_US), "real"


if __name__ == "__main__":
    main()
    main_proof()
