"""Everything that the artefact store holds about one model and the registry judges it by, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from qraft_contracts.origin import Origin
from qraft_contracts.subjects import HORIZON_SECONDS, HORIZONS
from qraft_registry.artefacts import (
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    MODEL_FILE,
    Evidence,
    Manifest,
    Readiness,
    artefact_key,
    evidence_file,
    model_id_of,
    sha256_hex,
    snapshot_input,
)
from qraft_registry.proofs import PREFIX
from qraft_registry.provenance import (
    NO_TEXTS,
    TextsRead,
    audit_fault,
    audit_key,
    missing_files,
    snapshot_fault,
    snapshot_key,
    texts_read,
)
from qraft_store.artefacts.port import ArtefactStore


@dataclass(frozen=True, slots=True)
class Dossier:
    """
    A model's manifest and evidence files as found.

    fault: why the model cannot be trusted at all, None when manifest and model agree. origin: the manifest's, the
    worst while it is unknown. evidence: SHA-256 of the manifest, the model, each evidence file, the leakage proof and
    the audit found, by name, and the id of the snapshot that trained the model. proof: the leakage proof that the
    evidence names, None where it names none or none is there. texts: what the snapshot holds of texts, none while
    there is a fault.
    """

    model_id: str
    fault: str | None
    manifest: Manifest | None = None
    origin: Origin = Origin.SIMULATED
    horizons: tuple[str, ...] = HORIZONS
    evidence: Mapping[str, str] = field(default_factory=dict)
    evidence_files: Mapping[str, bytes] = field(default_factory=dict)
    proof: bytes | None = None
    texts: TextsRead = NO_TEXTS

    @property
    def snapshot_id(self) -> str:
        """Return the id of the snapshot that trained the model, "" where none is known."""
        return self.manifest.data.snapshot_id if self.manifest else ""

    @property
    def readiness(self) -> Readiness:
        """Return what the manifest says of an audit of the data, `unknown` where it says nothing."""
        return self.manifest.readiness if self.manifest else Readiness()


async def read_dossier(artefacts: ArtefactStore, model_id: str, *, gates: Sequence[str]) -> Dossier:
    """
    Read a model's manifest, model, evidence and what it was trained on; what is wrong with them is told in `fault`, not
    raised.

    Raises:
        Transient: if the store is away.
    """
    raw = await _get(artefacts, artefact_key(model_id, MANIFEST_FILE))
    if raw is None:
        return Dossier(model_id, f"no_manifest: expected {artefact_key(model_id, MANIFEST_FILE)}, received nothing")
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Dossier(model_id, f"bad_manifest: expected {MANIFEST_FORMAT} as JSON: {error}")
    model = await _get(artefacts, artefact_key(model_id, MODEL_FILE))
    files = {gate: await _get(artefacts, artefact_key(model_id, evidence_file(gate))) for gate in gates}
    found = {gate: data for gate, data in files.items() if data is not None}
    evidence = {gate: sha256_hex(data) for gate, data in found.items()}
    evidence["manifest"] = sha256_hex(raw)
    if model is not None:
        evidence["model"] = sha256_hex(model)
    proof = await _proof(artefacts, found.get("leakage"))
    if proof is not None:
        evidence["proof"] = sha256_hex(proof)
    key = snapshot_key(manifest)
    snapshot = await _get(artefacts, key) if key else None
    fault = _fault(model_id, manifest, model) or await _data_fault(artefacts, manifest, snapshot)
    if manifest.data.snapshot_id:
        evidence["snapshot"] = manifest.data.snapshot_id
    if manifest.readiness.audit_sha256:
        evidence["audit"] = manifest.readiness.audit_sha256
    horizons = manifest.horizons if fault is None else HORIZONS
    texts = texts_read(snapshot) if snapshot and fault is None else NO_TEXTS
    return Dossier(model_id, fault, manifest, manifest.origin, horizons, evidence, found, proof, texts)


def _fault(model_id: str, manifest: Manifest, model: bytes | None) -> str | None:
    if manifest.format != MANIFEST_FORMAT:
        return f"bad_manifest: expected {MANIFEST_FORMAT}, received {manifest.format!r}"
    if manifest.model_id != model_id:
        return f"bad_manifest: expected the manifest of {model_id}, received that of {manifest.model_id!r}"
    if not manifest.horizons or any(horizon not in HORIZON_SECONDS for horizon in manifest.horizons):
        return f"bad_manifest: expected horizons out of {list(HORIZONS)}, received {list(manifest.horizons)}"
    if manifest.trained_until.tzinfo is None:
        return "bad_manifest: expected trained_until with a time zone"
    if model is None:
        return f"no_model: expected {artefact_key(model_id, MODEL_FILE)}, received nothing"
    if sha256_hex(model) != manifest.files.get(MODEL_FILE) or model_id_of(model) != model_id:
        return f"hash_mismatch: {MODEL_FILE} is {sha256_hex(model)}, not what the manifest and the id name"
    return None


async def _data_fault(artefacts: ArtefactStore, manifest: Manifest, record: bytes | None) -> str | None:
    """Return why what the manifest names as its data and their audit is not there as named, None if it is."""
    audit = audit_key(manifest)
    fault = snapshot_fault(manifest, record)
    if record is not None and fault is None:
        fault = missing_files(manifest, record, await artefacts.keys(f"{snapshot_input(manifest.data.snapshot_id)}/"))
    return fault or audit_fault(manifest, await _get(artefacts, audit) if audit else None, record=record)


async def _proof(artefacts: ArtefactStore, leakage: bytes | None) -> bytes | None:
    """Return the proof that the leakage evidence names; what is wrong with either, the gate says."""
    try:
        evidence = msgspec.json.decode(leakage or b"", type=Evidence)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if evidence.proof is None or not evidence.proof.key.startswith(PREFIX):
        return None
    try:
        return await _get(artefacts, evidence.proof.key)
    except ValueError:  # a key that is no path: nothing lies there
        return None


async def _get(artefacts: ArtefactStore, key: str) -> bytes | None:
    try:
        return await artefacts.get(key)
    except KeyError:
        return None
