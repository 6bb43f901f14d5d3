"""Real bars of three symbols, and one model trained on them, shared by all tests of the trainer."""

from __future__ import annotations

import dataclasses
import io
from functools import partial

import numpy as np
import polars as pl
import pytest
from tests.svc_train.kit import data_of

from qraft_contracts.origin import Origin
from qraft_quant.costs import CostModel
from qraft_quant.features import CORE, compute_history
from qraft_quant.proof.registered import registered_features
from qraft_registry.artefacts import NOT_ASKED, ProofReference, Readiness, sha256_hex
from qraft_registry.proof_record import encode_proof
from qraft_registry.proofs import proof_key
from qraft_registry.proving import prove_features, proven_source
from qraft_store.bars.port import BarPanel
from svc_train.adapters.lightgbm_heads import LightGbmLearner
from svc_train.adapters.onnx_graph import OnnxGraph
from svc_train.adapters.package import pack
from svc_train.adapters.progress import StdoutProgress
from svc_train.domain.config import TrainConfig
from svc_train.domain.panel import FeatureSet
from svc_train.ports import Provenance
from svc_train.usecases.train import Trainer

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
# The smallest slice on which all four horizons have three folds: 2,300 bars of warm-up, 7 days of purge.
N_BARS = 12_000


@pytest.fixture(scope="session")
def real_bars(qraft_data):
    """The first 12,000 five-minute bars of three perpetuals in 2025."""
    frames = [pl.read_parquet(qraft_data / "bars" / "perp_5m_2025" / f"{s}.parquet").head(N_BARS) for s in SYMBOLS]
    closed_at = frames[0]["open_time"].dt.timestamp("us").to_numpy() + 300_000_000
    values = {
        name: np.stack([frame[name].to_numpy().astype(np.float64) for frame in frames], axis=1)
        for name in ("open", "high", "low", "close", "volume")
    }
    return BarPanel("crypto", "5m", Origin.REPLAY, SYMBOLS, closed_at.astype("datetime64[us]"), **values)


@pytest.fixture(scope="session")
def make_trainer():
    """Return a trainer with the real parts and small trees."""

    def make(*, features=None, **config):
        recipe = TrainConfig(**{"seed": 7, "n_trees": 6, "n_parity_rows": 500, **config})
        return Trainer(
            config=recipe,
            costs=CostModel(),
            features=features
            or FeatureSet(CORE.names, CORE.signature("5m"), partial(compute_history, features=CORE, interval="5m")),
            learner=LightGbmLearner(recipe),
            graph=OnnxGraph(),
            provenance=Provenance("unknown", "0" * 64, {"lightgbm": "4"}),
            progress=StdoutProgress(io.StringIO(), monotonic_s=lambda: 0.0),
        )

    return make


@pytest.fixture(scope="session")
def trained(real_bars, make_trainer):
    """The result of one run on the real bars, all horizons; never changed by a test."""
    return make_trainer().train(data_of(real_bars))


@pytest.fixture(scope="session")
def proof(real_bars):
    """(reference, bytes) of the proof of the features in use, on the same bars."""
    record = prove_features(real_bars, registered_features(CORE, interval="5m"), seed=7)
    data = encode_proof(record)
    return ProofReference(proof_key(record), sha256_hex(data)), data


@pytest.fixture(scope="session")
def pack_proven(proof):
    """Return a function that packs a result with that proof."""
    readiness = Readiness("line", NOT_ASKED)
    return lambda result, trainer: pack(
        result, trainer, proof=proof[0], feature_source_sha256=proven_source(), readiness=readiness
    )


@pytest.fixture(scope="session")
def packed(trained, make_trainer, pack_proven):
    """(model_id, files) of that run."""
    return pack_proven(trained, make_trainer())


@pytest.fixture(scope="session")
def slice_of():
    """Return a function that cuts rows [start, end) out of a panel."""

    def cut(bars, start, end):
        names = ("closed_at", "open", "high", "low", "close", "volume")
        return dataclasses.replace(bars, **{name: getattr(bars, name)[start:end] for name in names})

    return cut
