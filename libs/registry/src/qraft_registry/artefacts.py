"""
What a model's folder in the artefact store holds for the registry: `manifest.json` and `evidence/<gate>.json`.

svc_train writes these and may add fields; only the fields named here are read by gates and by inference.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

import msgspec

from qraft_contracts.origin import Origin

MANIFEST_FORMAT: Final = "manifest/1"
EVIDENCE_FORMAT: Final = "evidence/1"
MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
SNAPSHOT_RECORD: Final = "snapshot_meta.json"
SNAPSHOT_DATA: Final = "data.parquet"
# What a manifest says of its data: an audit found them complete, nobody asked, or it is from before that was written.
READY: Final = "ready"
NOT_ASKED: Final = "not_asked"
UNKNOWN: Final = "unknown"


class TrainedOn(msgspec.Struct, frozen=True):
    """
    The snapshot that trained a model, and the SHA-256 in hex of its record. Empty: of before there were any.

    market, interval, symbols: of the bars that trained; the snapshot's query must name the same.
    """

    snapshot_id: str = ""
    snapshot_sha256: str = ""
    market: str = ""
    interval: str = ""
    symbols: tuple[str, ...] = ()


class Readiness(msgspec.Struct, frozen=True):
    """
    Whether the data were audited before they trained.

    mode: of the training run, such as line, production, full. verdict: READY, NOT_ASKED or UNKNOWN; nothing is trained
    on data that an audit found wanting. start, end: of the audited window, ISO instants. audit, audit_sha256: the audit
    in the artefact store, its key and SHA-256; empty unless READY.
    """

    mode: str = UNKNOWN
    verdict: str = UNKNOWN
    start: str = ""
    end: str = ""
    audit: str = ""
    audit_sha256: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """
    The recipe and the content list of one model.

    files: path within the model's folder to SHA-256 in hex, `model.onnx` and every evidence file among them.
    trained_until: end of the data that training and its evidence used, exclusive. feature_names: what the model reads,
    in order; feature_source_sha256: of the code that computed them. A leakage proof must be of both. data: what it was
    trained on; the gate of the data asks for its snapshot. readiness: what an audit said of the data.
    """

    format: str
    model_id: str
    origin: Origin
    feature_signature: str
    horizons: tuple[str, ...]
    trained_until: datetime
    files: dict[str, str]
    feature_names: tuple[str, ...] = ()
    feature_source_sha256: str = ""
    data: TrainedOn = TrainedOn()
    readiness: Readiness = Readiness()


class ProofReference(msgspec.Struct, frozen=True):
    """A leakage proof in the artefact store, by its key and its SHA-256 in hex (qraft_registry.proofs)."""

    key: str
    sha256: str


class Evidence(msgspec.Struct, frozen=True):
    """
    What one integrity check found. It holds no wall clock: the same training gives the same bytes.

    n_checks: how many comparisons were made, n_failed how many of them failed. model_sha256 and data_until tie it
    to one model and its data. measures: the numbers that the gate's thresholds are held against (qraft_registry.gates
    names them). inputs: origin of every input, by its id, a snapshot as `snapshots/<id>`; read by the gates of origin
    and data. proof: of the model's features; read by the leakage gate.
    """

    format: str
    gate: str
    model_id: str
    model_sha256: str
    data_until: datetime
    origin: Origin
    n_checks: int
    n_failed: int
    measures: dict[str, float] = {}
    failures: tuple[str, ...] = ()
    inputs: dict[str, Origin] = {}
    proof: ProofReference | None = None


def artefact_key(model_id: str, path: str) -> str:
    """Return the key of a file of a model, such as `models/m0123456789abcdef/model.onnx`."""
    return f"models/{model_id}/{path}"


def evidence_file(gate: str) -> str:
    """Return the path of a gate's evidence within the model's folder."""
    return f"evidence/{gate}.json"


def snapshot_input(snapshot_id: str) -> str:
    """Return how evidence names a snapshot among its inputs: its folder in the artefact store."""
    return f"snapshots/{snapshot_id}"


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def model_id_of(model: bytes) -> str:
    """Return the id of a model: `m` and the first 16 hex digits of the SHA-256 of its ONNX file."""
    return "m" + sha256_hex(model)[:16]
