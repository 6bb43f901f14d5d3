"""Tiny real ONNX models and feature batches for the tests of svc_inference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qraft_bus.port import OutMessage
from qraft_contracts.arrow_schemas import FEATURES_SCHEMA, features_id
from qraft_contracts.origin import Origin
from qraft_contracts.subjects import FEATURES_READY, HORIZONS
from qraft_contracts.times import format_instant
from qraft_frames.features import FeatureBatch, encode_features

SIGNATURE = "test-signature"
NAMES = ("a", "b")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
AS_OF = datetime(2025, 6, 2, tzinfo=UTC)
N_OUTPUTS = 12
# (expected_return, confidence, volatility) of each horizon where both features are 0.
BASE = (0.01, 0.6, 0.02, 0.02, 0.6, 0.03, 0.03, 0.7, 0.04, 0.04, 0.7, 0.05)


def metadata(**changes: str) -> dict[str, str]:
    """Return the metadata_props of a good model, with the given ones changed."""
    props = {
        "feature_signature": SIGNATURE,
        "feature_names": json.dumps(NAMES),
        "origin": "replay",
        "horizons": json.dumps(HORIZONS),
        "costs": json.dumps({"1h": 0.0047, "4h": 0.0047, "1d": 0.0031, "7d": 0.0031}),
        "buckets": json.dumps({"1h": "mean_reversion", "4h": "event", "1d": "trend", "7d": "trend"}),
        "trained_until": "2025-06-01T00:00:00Z",
    }
    return props | changes


def make_model(
    *,
    base: Sequence[float] = BASE,
    n_outputs: int = N_OUTPUTS,
    n_features: int = len(NAMES),
    props: Mapping[str, str] | None = None,
    input_name: str = "x",
    output_name: str = "y",
) -> bytes:
    """Return a real ONNX model: y = base + a / 100 in each expected return and volatility."""
    weight = np.zeros((n_features, n_outputs), np.float32)
    weight[0, [i for i in range(n_outputs) if i % 3 != 1]] = 0.01
    bias = np.resize(np.array(base, np.float32), n_outputs)
    graph = helper.make_graph(
        [helper.make_node("Gemm", [input_name, "w", "b"], [output_name])],
        "test",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [None, n_outputs])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata() if props is None else props))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def make_batch(values: Any = None, **changes: Any) -> FeatureBatch:
    """Return a good bar's features (all zero), with the given fields changed."""
    symbols = changes.get("symbols", SYMBOLS)
    matrix = np.zeros((len(symbols), len(NAMES)), np.float32) if values is None else np.array(values, np.float32)
    fields: dict[str, Any] = {
        "market": "crypto",
        "interval": "5m",
        "as_of": AS_OF,
        "origin": Origin.REPLAY,
        "signature": SIGNATURE,
        "names": NAMES,
        "symbols": symbols,
        "values": matrix,
    }
    return FeatureBatch(**(fields | changes))


def features_message(batch: FeatureBatch) -> OutMessage:
    """Return the batch as svc_features publishes it."""
    return OutMessage(
        subject=FEATURES_READY,
        data=encode_features(batch),
        message_id=features_id(batch.market, format_instant(batch.as_of)),
        schema=FEATURES_SCHEMA,
        as_of=batch.as_of,
        origin=batch.origin,
        lineage="test",
    )
