"""Models with evidence for registry tests: small, complete, and each part open to be spoiled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from qraft_contracts.origin import Origin
from qraft_contracts.snapshots import snapshot_id_of
from qraft_contracts.subjects import HORIZONS
from qraft_registry.artefacts import (
    EVIDENCE_FORMAT,
    MANIFEST_FORMAT,
    Evidence,
    Manifest,
    ProofReference,
    Readiness,
    TrainedOn,
    artefact_key,
    evidence_file,
    model_id_of,
    sha256_hex,
    snapshot_input,
)
from qraft_registry.gates import PAPER_GATES
from qraft_registry.proof_record import (
    PROOF_FORMAT,
    ProofData,
    ProofRecord,
    ProvenColumn,
    ProvenControl,
    encode_proof,
)
from qraft_registry.proof_rules import CONTROLS_REQUIRED, KINDS_REQUIRED
from qraft_registry.proofs import proof_key
from qraft_store.artefacts.port import ArtefactStore

TRAINED_UNTIL = datetime(2025, 6, 1, tzinfo=UTC)
NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
SIGNATURE = "test-signature"
FEATURES = ("return_1", "volatility_48")
SOURCE = "5" * 64


def proof_of(**changes: Any) -> ProofRecord:
    """Return a proof that stands, with the given fields changed; `data` changes fields of the data."""
    data = {
        "market": "crypto",
        "interval": "5m",
        "symbols": ("BTCUSDT", "ETHUSDT"),
        "origin": Origin.REPLAY,
        "n_bars": 6_303,
        "first_closed_at_us": 1_735_689_900_000_000,
        "last_closed_at_us": 1_737_580_500_000_000,
        "sha256": "d" * 64,
        "stimulated": (),
    }
    columns = [ProvenColumn(kind, name, 24, 20, ()) for kind in ("feature", "warm_up") for name in FEATURES]
    columns += [ProvenColumn(kind, f"a {kind}", 24, 20, ()) for kind in sorted(KINDS_REQUIRED - {"feature", "warm_up"})]
    fields: dict[str, Any] = {
        "format": PROOF_FORMAT,
        "feature_signature": SIGNATURE,
        "source_sha256": SOURCE,
        "seed": 7,
        "cut_offs_us": (1, 2, 3),
        "starts": (200, 500),
        "corruptions": ("nan", "shuffle", "noise", "end"),
        "versions": {"numpy": "2.4.6"},
        "columns": tuple(columns),
        "controls": tuple(
            ProvenControl(name, is_leak, 24, ("nan", "noise", "shuffle") if is_leak else ())
            for name, is_leak in CONTROLS_REQUIRED.items()
        ),
        "inputs": ("close",),
        "texts": None,
    }
    data |= changes.pop("data", {})
    return ProofRecord(**(fields | {"data": ProofData(**data)} | changes))


PROOF = encode_proof(proof_of())
REFERENCE = ProofReference(proof_key(proof_of()), sha256_hex(PROOF))


SYMBOLS = ("BTCUSDT", "ETHUSDT")
QUERY = {
    "market": "crypto", "interval": "5m", "symbols": list(SYMBOLS), "start": "2018-01-01T00:00:00Z",
    "end": "2025-06-01T00:00:00Z",
}  # fmt: skip
VERSIONS = {"bars/5m/crypto": "b0", "tables/funding/binance.perp": "f0", "tables/trades/binance.perp": "t0"}
SNAPSHOT_ID = snapshot_id_of(QUERY, VERSIONS)


def record_of(**changes: Any) -> bytes:
    """Return the record of a snapshot, as qraft_data writes it, with the given fields changed."""
    fields = {
        "format": "snapshot/1", "snapshot_id": SNAPSHOT_ID, "origin": "replay", "query": QUERY, "versions": VERSIONS,
        "files": {"data.parquet": "d"},
    }  # fmt: skip
    return msgspec.json.encode(fields | changes)


def audit_of(**changes: Any) -> bytes:
    """Return an audit that found the data of the snapshot ready, with the given fields changed."""
    fields = {
        "format": "data-audit/1", "mode": "full", "market": "crypto", "ready": True, "start": QUERY["start"],
        "end": QUERY["end"], "versions": {"bars/5m/crypto": "b0", "funding/binance.perp": "f0"},
    }  # fmt: skip
    return msgspec.json.encode(fields | changes)


def ready_by(audit: bytes, **window: str) -> Readiness:
    """Return the claim that an audit backs. window: start and end, where they are not those of the snapshot."""
    start, end = window.get("start", QUERY["start"]), window.get("end", QUERY["end"])
    return Readiness("full", "ready", str(start), str(end), f"audits/{sha256_hex(audit)}.json", sha256_hex(audit))


def trained_on(record: bytes, **changes: Any) -> TrainedOn:
    """Return what a manifest says of a snapshot with that record, with the given fields changed."""
    return msgspec.structs.replace(TrainedOn(SNAPSHOT_ID, sha256_hex(record), "crypto", "5m", SYMBOLS), **changes)


RECORD = record_of()


def evidence_of(_gate: str, model: bytes, /, **changes: Any) -> Evidence:
    """Return evidence that passes its gate, with the given fields changed."""
    fields: dict[str, Any] = {
        "format": EVIDENCE_FORMAT,
        "gate": _gate,
        "model_id": model_id_of(model),
        "model_sha256": sha256_hex(model),
        "data_until": TRAINED_UNTIL,
        "origin": Origin.REPLAY,
        "n_checks": 2_000,
        "n_failed": 0,
        "measures": {"n_rows": 50_000.0, "missing_frac": 0.01, "invalid_frac": 0.0, "error_max": 2e-6},
        "inputs": {"bars/crypto/5m": Origin.REPLAY, snapshot_input(SNAPSHOT_ID): Origin.REPLAY},
        "proof": REFERENCE if _gate == "leakage" else None,
    }
    return Evidence(**(fields | changes))


def files_of(model: bytes, **changes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return a model's evidence files by path. changes: gate to changed evidence fields."""
    return {
        evidence_file(gate): msgspec.json.encode(evidence_of(gate, model, **changes.get(gate, {})))
        for gate in PAPER_GATES
    }


def manifest_of(model: bytes, evidence: Mapping[str, bytes], /, **changes: Any) -> Manifest:
    """Return the manifest of a model and its files, with the given fields changed."""
    fields: dict[str, Any] = {
        "format": MANIFEST_FORMAT,
        "model_id": model_id_of(model),
        "origin": Origin.REPLAY,
        "feature_signature": SIGNATURE,
        "horizons": HORIZONS,
        "trained_until": TRAINED_UNTIL,
        "files": {path: sha256_hex(data) for path, data in {"model.onnx": model, **evidence}.items()},
        "feature_names": FEATURES,
        "feature_source_sha256": SOURCE,
        "data": trained_on(RECORD),
    }
    return Manifest(**(fields | changes))


async def put_model(
    artefacts: ArtefactStore,
    model: bytes,
    *,
    manifest: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Mapping[str, Any]] | None = None,
    proof: ProofRecord | None = None,
    snapshot: bytes | None = RECORD,
    snapshot_id: str = SNAPSHOT_ID,
) -> str:
    """
    Store a model with its manifest, evidence, leakage proof and snapshot, changed as told, and return its id.

    snapshot: the bytes of its record; None = it is not there. snapshot_id: whose folder holds it.
    """
    record = proof or proof_of(feature_signature=(manifest or {}).get("feature_signature", SIGNATURE))
    data, key = encode_proof(record), proof_key(record)
    changes = dict(evidence or {})
    changes["leakage"] = {"proof": ProofReference(key, sha256_hex(data)), **changes.get("leakage", {})}
    files = files_of(model, **changes)
    content = {
        "model.onnx": model,
        **files,
        "manifest.json": msgspec.json.encode(manifest_of(model, files, **(manifest or {}))),
    }
    await artefacts.put(key, data)
    if snapshot is not None:
        await artefacts.put(f"snapshots/{snapshot_id}/data.parquet", b"rows")
        await artefacts.put(f"snapshots/{snapshot_id}/snapshot_meta.json", snapshot)
    for path, item in content.items():
        await artefacts.put(artefact_key(model_id_of(model), path), item)
    return model_id_of(model)
