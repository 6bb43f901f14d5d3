"""
The integrity gates that a model passes before `paper`. Fail closed: whatever is missing, empty, unknown, stale or
not a number is a refusal with its reason. Pure functions over bytes; reading them is the caller's part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts.origin import Origin
from qraft_registry.artefacts import (
    EVIDENCE_FORMAT,
    MODEL_FILE,
    Evidence,
    Manifest,
    evidence_file,
    sha256_hex,
    snapshot_input,
)
from qraft_registry.proofs import proof_fault
from qraft_registry.provenance import NO_TEXTS, TextsRead

PAPER_GATES: Final = ("leakage", "data_quality", "parity", "origin")

# Evidence ages: what was true of the data a month ago says little about the data of today.
CANDIDATE_AGE_MAX: Final = timedelta(days=30)
# For origin `real` the data themselves must be recent; a replayed past is old by nature.
REAL_DATA_AGE_MAX: Final = timedelta(days=30)

# leakage: three corruptions of the future (NaN, shuffle, noise) at three cut-offs at least.
LEAKAGE_CHECKS_MIN: Final = 9
# data_quality: one check a symbol at least, and fractions of all grid rows of the training range.
DATA_CHECKS_MIN: Final = 1
DATA_ROWS_MIN: Final = 1_000
DATA_MISSING_FRAC_MAX: Final = 0.05
DATA_INVALID_FRAC_MAX: Final = 0.001
# parity: |onnx - native| / max(|native|, std(native)); the floored thresholds leave float32 summation only.
PARITY_ROWS_MIN: Final = 1_000
PARITY_ERROR_MAX: Final = 1e-5
ORIGIN_CHECKS_MIN: Final = 1

_CHECKS_MIN: Final[Mapping[str, int]] = {
    "leakage": LEAKAGE_CHECKS_MIN,
    "data_quality": DATA_CHECKS_MIN,
    "parity": PARITY_ROWS_MIN,
    "origin": ORIGIN_CHECKS_MIN,
}
# Measures that must be there, with their inclusive (low, high).
_MEASURES: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "leakage": {},
    "data_quality": {
        "n_rows": (DATA_ROWS_MIN, math.inf),
        "missing_frac": (0.0, DATA_MISSING_FRAC_MAX),
        "invalid_frac": (0.0, DATA_INVALID_FRAC_MAX),
    },
    "parity": {"error_max": (0.0, PARITY_ERROR_MAX)},
    "origin": {},
}
_DECODER = msgspec.json.Decoder(Evidence)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer. reason: None when passed, else what was wrong. sha256: of the evidence judged, if any."""

    gate: str
    reason: str | None
    sha256: str | None

    @property
    def passed(self) -> bool:
        """Return whether the gate let the model through."""
        return self.reason is None


def evaluate(
    gate: str, data: bytes | None, *, manifest: Manifest, now: datetime, proof: bytes | None = None,
    texts: TextsRead = NO_TEXTS,
) -> Verdict:  # fmt: skip
    """
    Judge one gate's evidence.

    Args:
        gate: out of PAPER_GATES.
        data: the evidence file as stored, None when there is none.
        proof: the leakage proof that the evidence names, as stored; read by the leakage gate, which refuses without.
        texts: what the snapshot that trained the model holds of texts; the proof must cover it.
    """
    assert gate in PAPER_GATES, gate
    if not data:
        found = "nothing" if data is None else "an empty file"
        return Verdict(gate, f"missing: expected {evidence_file(gate)}, received {found}", None)
    sha256 = sha256_hex(data)
    expected = manifest.files.get(evidence_file(gate))
    if sha256 != expected:
        return Verdict(gate, f"hash_mismatch: the manifest names {expected}, the file is {sha256}", sha256)
    try:
        evidence = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Verdict(gate, f"undecodable: expected {EVIDENCE_FORMAT} as JSON: {error}", sha256)
    reason = (
        _identity(gate, evidence, manifest)
        or _staleness(evidence, manifest, now)
        or _provenance(gate, evidence, manifest)
        or _outcome(gate, evidence)
        or (proof_fault(evidence.proof, proof, manifest=manifest, texts=texts) if gate == "leakage" else None)
        or (_snapshot(evidence, manifest) if gate == "data_quality" else None)
    )
    return Verdict(gate, reason, sha256)


def _identity(gate: str, evidence: Evidence, manifest: Manifest) -> str | None:
    if evidence.format != EVIDENCE_FORMAT:
        return f"unknown_format: expected {EVIDENCE_FORMAT}, received {evidence.format!r}"
    if evidence.gate != gate:
        return f"wrong_gate: expected evidence of {gate}, received {evidence.gate!r}"
    if evidence.model_id != manifest.model_id or evidence.model_sha256 != manifest.files.get(MODEL_FILE):
        return f"other_model: the evidence is of {evidence.model_id} ({evidence.model_sha256[:16]})"
    return None


def _staleness(evidence: Evidence, manifest: Manifest, now: datetime) -> str | None:
    if evidence.data_until.tzinfo is None or evidence.data_until != manifest.trained_until:
        return f"stale: data until {evidence.data_until}, the model was trained until {manifest.trained_until}"
    if evidence.data_until > now:
        return f"future_data: data until {evidence.data_until}, now is {now}"
    if evidence.origin is Origin.REAL and now - evidence.data_until > REAL_DATA_AGE_MAX:
        return f"stale: real data until {evidence.data_until}, at most {REAL_DATA_AGE_MAX.days} days old expected"
    return None


def _provenance(gate: str, evidence: Evidence, manifest: Manifest) -> str | None:
    origins = {evidence.origin, manifest.origin, *evidence.inputs.values()}
    if Origin.SIMULATED in origins:
        return "simulated_origin: simulated data never pass a gate"
    if evidence.origin is not manifest.origin:
        return f"origin_mismatch: evidence {evidence.origin.value}, manifest {manifest.origin.value}"
    if gate == "origin" and not evidence.inputs:
        return "no_inputs: expected the origin of every input snapshot, received none"
    return None


def _snapshot(evidence: Evidence, manifest: Manifest) -> str | None:
    """Judge that it is known which data trained the model; whether they still lie there is the dossier's part."""
    snapshot_id = manifest.data.snapshot_id
    if not snapshot_id:
        return "no_snapshot: the manifest names no snapshot of the data that trained it; unknown means no: train anew"
    if snapshot_input(snapshot_id) not in evidence.inputs:
        return f"other_data: expected evidence of snapshot {snapshot_id[:16]}, received {sorted(evidence.inputs)[:3]}"
    return None


def _outcome(gate: str, evidence: Evidence) -> str | None:
    if evidence.n_checks < max(1, _CHECKS_MIN[gate]):
        return f"too_few_checks: expected at least {_CHECKS_MIN[gate]}, received {evidence.n_checks}"
    if evidence.n_failed != 0 or evidence.failures:
        return f"failed: {evidence.n_failed} of {evidence.n_checks} checks failed: {list(evidence.failures[:3])}"
    for name, (low, high) in _MEASURES[gate].items():
        value = evidence.measures.get(name, math.nan)
        # A NaN compares false with everything, so it is refused here too.
        if not (math.isfinite(value) and low <= value <= high):
            return f"out_of_bounds: expected {name} in [{low}, {high}], received {value}"
    return None
