"""
The leakage proof of a feature set as an artefact: `proofs/<feature signature>/<source>-<proof>.json`.

One file says what was proven (every column, every control), of which source code and on which bars. It holds no wall
clock: the same code on the same bars gives the same bytes. Whoever trains names the file in its leakage evidence, and
the leakage gate reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import msgspec

from qraft_contracts.kinds import TEXT_MARKET
from qraft_contracts.origin import Origin
from qraft_registry.artefacts import Manifest, ProofReference, sha256_hex
from qraft_registry.proof_record import PROOF_FORMAT, ProofRecord, encode_proof
from qraft_registry.proof_rules import shortfall
from qraft_registry.provenance import TextsRead
from qraft_store.artefacts.port import ArtefactStore

PREFIX: Final = "proofs/"
# One proof that stands is enough; others of the same code are few: bars of other markets, or proofs that failed.
_PROOFS_READ_MAX: Final = 100


def proof_key(record: ProofRecord) -> str:
    """Return the artefact key of a proof: what it is of, and its own hash, for artefacts never change."""
    return f"{_prefix(record.feature_signature, record.source_sha256)}{sha256_hex(encode_proof(record))[:16]}.json"


def digest_of_sources(package: str, parts: Sequence[str]) -> str:
    """
    Return the SHA-256 of the Python source of parts of an installed package: names and bytes of every file.

    Args:
        package: import name, such as `qraft_quant`.
        parts: files or folders in it, such as `features` and `labels.py`.

    Raises:
        FileNotFoundError: if a part holds no source.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        found = sorted(_sources(files(package) / part, part))
        if not found:
            raise FileNotFoundError(f"expected Python source in {package}/{part}, found none")
        for name, data in found:
            digest.update(f"{package}/{name}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()


async def save_proof(artefacts: ArtefactStore, record: ProofRecord) -> ProofReference:
    """
    Store a proof and return where it lies; the same proof again is accepted.

    Raises:
        Transient: if the store is away.
    """
    key = proof_key(record)
    return ProofReference(key, await artefacts.put(key, encode_proof(record)))


async def load_proof(artefacts: ArtefactStore, reference: ProofReference) -> ProofRecord:
    """
    Return a stored proof.

    Raises:
        KeyError: if there is none under the key.
        ValueError: if the bytes are not those of the reference, or no proof.
        Transient: if the store is away.
    """
    record = _decoded(await artefacts.get(reference.key, sha256=reference.sha256))
    if isinstance(record, str):
        raise ValueError(f"{reference.key}: {record}")
    return record


async def find_proof(
    artefacts: ArtefactStore,
    *,
    feature_signature: str,
    source_sha256: str,
    feature_names: Iterable[str],
    origin: Origin,
) -> ProofReference | None:
    """
    Return a stored proof of these features and this source that stands, None if there is none.

    origin: of whoever asks; simulated bars may only prove what is simulated itself.

    Raises:
        Transient: if the store is away.
    """
    names = tuple(feature_names)
    for key in (await artefacts.keys(_prefix(feature_signature, source_sha256)))[:_PROOFS_READ_MAX]:
        data = await artefacts.get(key)
        record = _decoded(data)
        if isinstance(record, str) or record.feature_signature != feature_signature:
            continue
        is_usable = record.data.origin is not Origin.SIMULATED or origin is Origin.SIMULATED
        if is_usable and source_sha256 == record.source_sha256 and not shortfall(record, feature_names=names):
            return ProofReference(key, sha256_hex(data))
    return None


def proof_fault(
    reference: ProofReference | None, data: bytes | None, *, manifest: Manifest, texts: TextsRead
) -> str | None:
    """
    Return why a proof does not stand for a model, None if it does. Fail closed, as every gate.

    Args:
        reference: as the leakage evidence names it.
        data: what the artefact store holds under its key, None for nothing.
        texts: what the model's snapshot holds of texts.
    """
    others = [market for market in texts.markets if market != TEXT_MARKET]
    if others:
        return f"texts_of_other_pipelines: the snapshot holds text_state of {others}, proven are those of {TEXT_MARKET}"
    if reference is None:
        return "no_proof: the evidence names no leakage proof of its features: prove them (`qraft features prove`)"
    if not data:
        return f"missing_proof: expected {reference.key}, received nothing"
    if sha256_hex(data) != reference.sha256:
        return f"proof_changed: the evidence names {reference.sha256}, the file is {sha256_hex(data)}"
    record = _decoded(data)
    if isinstance(record, str):
        return record
    if record.feature_signature != manifest.feature_signature:
        return f"proof_of_other_features: {record.feature_signature[:16]}, not {manifest.feature_signature[:16]}"
    if not manifest.feature_source_sha256 or record.source_sha256 != manifest.feature_source_sha256:
        return f"proof_of_other_code: {record.source_sha256[:16]}, not {manifest.feature_source_sha256[:16]!r}"
    if record.data.origin is Origin.SIMULATED:
        return "simulated_proof: simulated data never pass a gate"
    if not manifest.feature_names:
        return "no_feature_names: the manifest names no features, so nothing can be said of them"
    return shortfall(record, feature_names=manifest.feature_names, texts_trained_on=texts.fields)


def _decoded(data: bytes) -> ProofRecord | str:
    try:
        record = msgspec.json.decode(data, type=ProofRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"undecodable_proof: expected {PROOF_FORMAT} as JSON: {error}"
    return record if record.format == PROOF_FORMAT else f"unknown_proof: expected {PROOF_FORMAT}, {record.format!r}"


def _prefix(feature_signature: str, source_sha256: str) -> str:
    return f"{PREFIX}{feature_signature}/{source_sha256[:16]}-"


def _sources(place: Traversable, name: str) -> Iterable[tuple[str, bytes]]:
    if place.is_file():
        if name.endswith(".py"):
            yield name, place.read_bytes()
    elif place.is_dir():
        for child in place.iterdir():
            yield from _sources(child, f"{name}/{child.name}")
