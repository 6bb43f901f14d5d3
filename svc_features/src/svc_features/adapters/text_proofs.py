"""Make or find the leakage proof of texts, on the newest texts of a market."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from qraft_contracts.kinds import TEXT_SIGNATURE
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_registry.artefacts import ProofReference
from qraft_registry.proof_record import ProofData, ProofRecord, record_of
from qraft_registry.proof_rules import text_shortfall
from qraft_registry.proofs import digest_of_sources, load_proof, save_proof
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.tables.port import TableStore
from qraft_text.encoder import Encoder
from qraft_text.proof import PROVEN_SOURCES, ProofTexts, TextFacts, TextProof, prove_texts
from qraft_text.proof.tables import N_BUCKETS, N_SYMBOLS
from qraft_text.state import FIELDS, state_features

# Enough that filters meet repetitions and every list its words; a proof is about code, not about texts.
N_TEXTS: Final = 600
_PREFIX: Final = "proofs/"
_NAMED_VERSIONS: Final = ("numba", "numpy", "onnxruntime")
_PROOFS_READ_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class ProvenTexts:
    """A stored proof. is_new: made by this call. fault: why it does not stand, None if it does."""

    reference: ProofReference
    record: ProofRecord
    is_new: bool
    fault: str | None


async def prove_market(
    tables: TableStore, artefacts: ArtefactStore, *, market: str, encoder: Encoder, seed: int, n_threads: int,
    anew: bool,
) -> ProvenTexts:  # fmt: skip
    """
    Return the proof of the code that runs here, with its filters; make and store it if there is none.

    One proof stands for every encoder and reduction: the one is a function of a text alone, the other is fitted anew
    within the proof. Blocks for the half minute that a proof takes: call it from a command, not from a running service.

    Raises:
        Refused: if the market holds too few texts, or this is another pipeline than the contract names.
        Transient: if a store is away.
    """
    found = None if anew else await find_text_proof(artefacts)
    if found is not None:
        reference = found
        return ProvenTexts(reference, await load_proof(artefacts, reference), False, None)
    features = state_features()
    facts = TextFacts.of(
        ProofTexts.of(_newest_texts(tables, market)), encoder=encoder, sentiment=features.sentiment,
        filters=features.filters, bucket_us=features.bucket_us, n_threads=n_threads,
    )  # fmt: skip
    record = _record(prove_texts(facts, seed=seed), facts, market=market)
    return ProvenTexts(await save_proof(artefacts, record), record, True, text_shortfall(record, fields=FIELDS))


async def find_text_proof(artefacts: ArtefactStore) -> ProofReference | None:
    """Return a stored proof that stands for the filters and the code that run here, None if there is none."""
    prefix = f"{_PREFIX}{TEXT_SIGNATURE}/{proven_source()[:16]}-"
    for key in (await artefacts.keys(prefix))[:_PROOFS_READ_MAX]:
        reference = ProofReference(key, hashlib.sha256(await artefacts.get(key)).hexdigest())
        if text_shortfall(await load_proof(artefacts, reference), fields=FIELDS) is None:
            return reference
    return None


def proven_source() -> str:
    """Return the digest of the code that a proof of texts is about: this package's and the aligner's."""
    parts = (digest_of_sources("qraft_text", PROVEN_SOURCES), digest_of_sources("qraft_quant", ("align", "proof")))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _record(proof: TextProof, facts: TextFacts, *, market: str) -> ProofRecord:
    """Return a proof of texts in the form in which proofs are stored."""
    known = proof.tables["buckets"].known_at
    return record_of(
        proof,
        feature_signature=TEXT_SIGNATURE,
        source_sha256=proven_source(),
        data=ProofData(
            market=market,
            interval=f"{facts.bucket_us // 60_000_000}m",
            symbols=tuple(f"S{i}" for i in range(N_SYMBOLS)),
            # Real texts at drawn times: nothing here is a market's history.
            origin=Origin.REPLAY,
            n_bars=N_BUCKETS,
            first_closed_at_us=int(known[0]),
            last_closed_at_us=int(known[-1]),
            sha256=proof.data_sha256,
            stimulated=("known_at", "author", "tower", "symbol", "engagement"),
        ),
        packages=_NAMED_VERSIONS,
        texts=proof,
        text_signature=TEXT_SIGNATURE,
    )


def _newest_texts(tables: TableStore, market: str) -> Sequence[str]:
    found: dict[str, None] = {}
    for kind, column in (("posts", "text"), ("news", "title")):
        if market in tables.markets(kind):
            rows = tables.last(kind, market=market, symbols=None, n=N_TEXTS, as_of=datetime(2100, 1, 1, tzinfo=UTC))
            found |= dict.fromkeys(text for text in rows[column].to_pylist() if text)
    if len(found) < N_TEXTS // 10:
        raise Refused(
            "no_texts", f"expected at least {N_TEXTS // 10} texts of {market}, found {len(found)}: collect some first"
        )
    return list(found)[:N_TEXTS]
