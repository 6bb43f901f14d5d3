"""What the pages say of the leakage proof of each feature."""

from __future__ import annotations

from qraft_contracts.origin import Origin
from qraft_quant.features import FeatureSet
from qraft_registry.proofs import find_proof, load_proof
from qraft_registry.proving import proven_source
from qraft_screening.pages import ProofNote
from qraft_store.artefacts.port import ArtefactStore
from qraft_text.proof import text_prover

_NONE = "no proof stands for these features and this code: run `qraft features prove`"


async def proof_notes(
    artefacts: ArtefactStore, features: FeatureSet, *, interval: str, origin: Origin
) -> dict[str, ProofNote]:
    """
    Return a note for each feature of a set, from the proof that stands for it and the code that runs here.

    Args:
        origin: of whoever asks; a proof on simulated bars stands for simulated ones only.

    Raises:
        Transient: if the store is away.
    """
    signature = features.signature(interval)
    reference = await find_proof(
        artefacts, feature_signature=signature, source_sha256=proven_source(text_prover(features.inputs)),
        feature_names=features.names, origin=origin,
    )  # fmt: skip
    if reference is None:
        return {name: ProofNote("", 0, _NONE) for name in features.names}
    record = await load_proof(artefacts, reference)
    n_checks = dict.fromkeys(features.names, 0)
    for column in record.columns:
        if column.name in n_checks:
            n_checks[column.name] += column.n_checks
    return {name: ProofNote(reference.key, n, None) for name, n in n_checks.items()}
