"""
Inference in service against the raw onnxruntime call on the same model, as ratios of one interleaved run.

Run: python -m tests.bench.inference
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import onnxruntime as ort

from qraft_bus.port import Delivery, OutMessage, PublishAck
from qraft_contracts import headers
from qraft_contracts.origin import Origin
from qraft_contracts.subjects import FEATURES_READY, HORIZONS
from qraft_frames.features import FeatureBatch, encode_features
from qraft_quant.calibration import PlattScale
from qraft_registry.artefacts import Manifest, model_id_of
from qraft_runtime.clock import SystemClock
from qraft_telemetry import logs
from svc_inference.adapters.onnx import OnnxModel, open_model
from svc_inference.domain.board import Board, Seat
from svc_inference.handlers import FeaturesHandler
from svc_inference.ports import Model
from svc_inference.usecases.infer import infer
from svc_train.adapters.lightgbm_heads import LightGbmLearner
from svc_train.adapters.onnx_graph import OnnxGraph
from svc_train.domain.config import TrainConfig
from svc_train.domain.heads import HorizonModel
from svc_train.ports import Lesson

N_FEATURES = 44
N_TRAIN_ROWS = 10_000
N_TREES, N_LEAVES = TrainConfig(seed=7).n_trees, TrainConfig(seed=7).n_leaves  # what ships
AS_OF = datetime(2025, 6, 2, tzinfo=UTC)
ROUNDS = {1: 3_000, 500: 300}
WARM_UP_ROUNDS = 50
RATIO_MAX, P50_MAX_MS = 1.2, 8.0
METHOD = f"""model: {len(HORIZONS)} horizons x 3 heads x {N_TREES} trees x {N_LEAVES} leaves, {N_FEATURES} features,
  {{n_mb:.1f}} MB, LightGBM on {N_TRAIN_ROWS} random rows, exported by svc_train
method: the paths take turns in one process, so all see the same load
  raw      session.run on the session of the service
  infer    checks of the input, the same call, checks of the output, signal rows of four horizons
  message  Arrow bytes in to four JSON messages out; the bus left out"""


class NullBus:
    """Takes messages and stores nothing: the bus has its own benchmark."""

    async def publish_many(self, messages: Sequence[OutMessage]) -> list[PublishAck]:
        return [PublishAck("SIGNALS", 1, is_duplicate=False) for _ in messages]

    async def last(self, subject: str) -> Delivery | None:
        return None


class FixedFollow:
    """A board that never changes."""

    def __init__(self, board: Board[Model]) -> None:
        self.board = board


def main() -> None:
    """Print the method, the times and the ratios."""
    rng = np.random.default_rng(7)
    data, manifest = make_model(rng)
    logs.configure("bench", level="WARNING")
    print(METHOD.format(n_mb=len(data) / 1e6))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, onnxruntime {ort.__version__}, no spinning")
    for n_threads in (1, 2):
        model = open_model(data, manifest=manifest, n_threads=n_threads)
        for n_rows in ROUNDS:
            x = rng.standard_t(4, size=(n_rows, N_FEATURES)).astype(np.float32)
            report(n_threads, n_rows, measure(model, x))


def make_model(rng: np.random.Generator) -> tuple[bytes, Manifest]:
    """Return a model of the real shape. The heads are trained once and stand in every horizon: only size matters."""
    x = rng.standard_t(4, size=(N_TRAIN_ROWS, N_FEATURES)).astype(np.float32)
    noise = rng.normal(size=(3, N_TRAIN_ROWS))
    net = 0.01 * (x[:, 0] * x[:, 1] + x[:, 2]) + 0.02 * noise[0]
    targets = {"expected_return": 0.01 * np.tanh(net), "direction": (net > 0).astype(np.float64),
               "volatility": np.log(0.02 + 0.01 * np.abs(x[:, 3])) + 0.1 * noise[1]}  # fmt: skip
    config = TrainConfig(seed=7, n_trees=N_TREES, n_leaves=N_LEAVES, n_rows_leaf_min=50)
    heads = next(LightGbmLearner(config).bin(x).fit_each([Lesson(np.arange(N_TRAIN_ROWS), targets)]))
    models = [HorizonModel(h, 0.003, "trend", PlattScale(), heads) for h in HORIZONS]
    names = [f"f{i}" for i in range(N_FEATURES)]
    props = {"feature_signature": "bench", "feature_names": json.dumps(names), "origin": "replay",
             "horizons": json.dumps(HORIZONS), "costs": json.dumps(dict.fromkeys(HORIZONS, 0.003)),
             "buckets": json.dumps(dict.fromkeys(HORIZONS, "trend"))}  # fmt: skip
    data = OnnxGraph().export(models, n_features=N_FEATURES, metadata=props)
    return data, Manifest("manifest/1", model_id_of(data), Origin.REPLAY, "bench", HORIZONS, AS_OF, {})


def measure(model: OnnxModel, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return milliseconds of each path, (n_rounds,), the paths alternating."""
    batch = FeatureBatch("crypto", "5m", AS_OF, Origin.REPLAY, "bench", model.info.feature_names,
                         tuple(f"S{i}" for i in range(len(x))), x)  # fmt: skip
    board: Board[Model] = Board({h: Seat(model.info.model_id, model, None) for h in HORIZONS})
    signals = infer(batch, board, now=AS_OF, age_max=timedelta(minutes=10))
    assert all(len(message.rows) == len(x) for message in signals), "the benchmark's model must answer"
    paths: dict[str, Callable[[], object]] = {
        "raw": lambda: model.session.run(["y"], {"x": x}),
        "infer": lambda: infer(batch, board, now=AS_OF, age_max=timedelta(minutes=10)),
    }
    times: dict[str, list[float]] = {name: [] for name in (*paths, "message")}
    with asyncio.Runner() as runner:
        handle = message_path(batch, board, runner)
        gc.collect()
        for _ in range(ROUNDS[len(x)] + WARM_UP_ROUNDS):
            for name, call in (*paths.items(), ("message", handle)):
                began = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - began)
    return {name: np.array(found[WARM_UP_ROUNDS:]) * 1e3 for name, found in times.items()}


def message_path(batch: FeatureBatch, board: Board[Model], runner: asyncio.Runner) -> Callable[[], object]:
    """Return a call that handles one features.ready message as the service does."""
    data = encode_features(batch)
    found = dict.fromkeys(headers.REQUIRED, "x")
    delivery = Delivery(FEATURES_READY, data, found, "FEATURES", 1, 1, AS_OF)
    bus: Any = NullBus()
    follow: Any = FixedFollow(board)

    def handle() -> object:
        # A new handler a call: the same bar again would be turned away as already answered.
        handler = FeaturesHandler(bus=bus, follow=follow, clock=SystemClock(), market="crypto", interval="5m",
                                  age_max=timedelta(minutes=10))  # fmt: skip
        return runner.get_loop().run_until_complete(handler(delivery))

    return handle


def report(n_threads: int, n_rows: int, times: dict[str, np.ndarray[Any, Any]]) -> None:
    """Print one block: each path's p50 and p99, and its ratio to the raw call."""
    raw = np.percentile(times["raw"], [50, 99])
    print(f"\n{n_rows} row{'s' if n_rows > 1 else ''}, {n_threads} thread{'s' if n_threads > 1 else ''}")
    for name, found in times.items():
        p50, p99 = np.percentile(found, [50, 99])
        print(
            f"  {name:8} p50 {p50:8.3f} ms  p99 {p99:8.3f} ms  ratio p50 {p50 / raw[0]:5.2f}  p99 {p99 / raw[1]:5.2f}"
        )
    ratio = float(np.percentile(times["infer"], 99) / raw[1])
    print(f"  p99 infer / raw = {ratio:.2f} (figure: <= {RATIO_MAX}) {'met' if ratio <= RATIO_MAX else 'MISSED'}")
    if n_rows == max(ROUNDS):
        p50 = float(np.percentile(times["infer"], 50))
        print(f"  p50 infer = {p50:.2f} ms (figure: <= {P50_MAX_MS} ms) {'met' if p50 <= P50_MAX_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
