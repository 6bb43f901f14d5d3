"""Models with evidence for registry tests: small, complete, and each part open to be spoiled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZONS
from qraft_registry.artefacts import (
    EVIDENCE_FORMAT,
    MANIFEST_FORMAT,
    Evidence,
    Manifest,
    artefact_key,
    evidence_file,
    model_id_of,
    sha256_hex,
)
from qraft_registry.gates import PAPER_GATES
from qraft_store.artefacts.port import ArtefactStore

TRAINED_UNTIL = datetime(2025, 6, 1, tzinfo=UTC)
NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)


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
        "inputs": {"bars/crypto/5m": Origin.REPLAY},
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
        "feature_signature": "test-signature",
        "horizons": HORIZONS,
        "trained_until": TRAINED_UNTIL,
        "files": {path: sha256_hex(data) for path, data in {"model.onnx": model, **evidence}.items()},
    }
    return Manifest(**(fields | changes))


async def put_model(
    artefacts: ArtefactStore,
    model: bytes,
    *,
    manifest: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Store a model with its manifest and evidence, changed as told, and return its id."""
    files = files_of(model, **(evidence or {}))
    content = {
        "model.onnx": model,
        **files,
        "manifest.json": msgspec.json.encode(manifest_of(model, files, **(manifest or {}))),
    }
    for path, data in content.items():
        await artefacts.put(artefact_key(model_id_of(model), path), data)
    return model_id_of(model)
