"""Make or find the leakage proof of texts, on the newest texts of a market."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Refused
from qraft_quant.proof.everything import START_KIND
from qraft_registry.artefacts import ProofReference
from qraft_registry.proofs import (
    ProofData,
    ProofRecord,
    digest_of_sources,
    load_proof,
    record_of,
    save_proof,
)
from qraft_store.artefacts.port import ArtefactStore
from qraft_store.tables.port import TableStore
from qraft_text.encoder import Encoder
from qraft_text.filters import FilterRules
from qraft_text.pipeline import TextFeatures
from qraft_text.proof import (
    CONTROLS_REQUIRED,
    KINDS_REQUIRED,
    PROVEN_SOURCES,
    ProofTexts,
    TextFacts,
    TextProof,
    prove_texts,
)
from qraft_text.proof.tables import N_BUCKETS, N_SYMBOLS
from qraft_text.sentiment import Sentiment

# Enough that filters meet repetitions and every list its words; a proof is about code, not about texts.
N_TEXTS: Final = 600
_PREFIX: Final = "proofs/"
_NAMED_VERSIONS: Final = ("numba", "numpy", "onnxruntime")
_PROOFS_READ_MAX: Final = 100
_CHECKS_MIN: Final = 9
_FAILURES_NAMED_MAX: Final = 3


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

    Blocks for the half minute that a proof takes: call it from a command, not from a running service.

    Raises:
        Refused: if the market holds too few texts.
        Transient: if a store is away.
    """
    found = None if anew else await find_text_proof(artefacts)
    if found is not None:
        reference = found
        return ProvenTexts(reference, await load_proof(artefacts, reference), False, None)
    features = _features()
    facts = TextFacts.of(
        ProofTexts.of(_newest_texts(tables, market)), encoder=encoder, sentiment=features.sentiment,
        filters=features.filters, bucket_us=features.bucket_us, n_threads=n_threads,
    )  # fmt: skip
    record = _record(prove_texts(facts, seed=seed), facts, market=market)
    return ProvenTexts(await save_proof(artefacts, record), record, True, fault_of(record))


async def find_text_proof(artefacts: ArtefactStore) -> ProofReference | None:
    """Return a stored proof that stands for the filters and the code that run here, None if there is none."""
    prefix = f"{_PREFIX}{_features().spec.signature}/{proven_source()[:16]}-"
    for key in (await artefacts.keys(prefix))[:_PROOFS_READ_MAX]:
        reference = ProofReference(key, hashlib.sha256(await artefacts.get(key)).hexdigest())
        if fault_of(await load_proof(artefacts, reference)) is None:
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
        feature_signature=_features().spec.signature,
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
            sha256=_data_sha256(proof, facts),
            stimulated=("known_at", "author", "tower", "symbol", "engagement"),
        ),
        packages=_NAMED_VERSIONS,
    )


def fault_of(record: ProofRecord) -> str | None:
    """Return why a stored proof does not stand for this code, None if it does; fail closed."""
    if record.feature_signature != _features().spec.signature or record.source_sha256 != proven_source():
        return "proof_of_other_code: prove anew"
    absent = KINDS_REQUIRED - {column.kind for column in record.columns}
    controls = {control.name: control for control in record.controls}
    missed = [name for name, is_leak in CONTROLS_REQUIRED.items()
              if name not in controls or bool(controls[name].caught_by) != is_leak
              or controls[name].n_checks < _CHECKS_MIN]  # fmt: skip
    failed = [f"{column.kind} {column.name}" for column in record.columns
              if column.failures or column.n_checks < (1 if column.kind == START_KIND else _CHECKS_MIN)]  # fmt: skip
    if absent or missed or failed:
        named = failed[:_FAILURES_NAMED_MAX]
        return f"proof_failed: not proven {sorted(absent)}, controls missed {missed}, columns {named}"
    return None


def _features() -> TextFeatures:
    """Return what is proven: filters, words and buckets. Encoder and reduction are functions of one text, or are fitted
    anew within the proof, so that one proof stands for all of them."""
    return TextFeatures(Sentiment(), FilterRules())


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


def _data_sha256(proof: TextProof, facts: TextFacts) -> str:
    digest = hashlib.sha256(json.dumps(facts.texts.texts).encode())
    digest.update(facts.encoder.sha256.encode())
    for name, table in sorted(proof.tables.items()):
        digest.update(name.encode() + table.known_at.astype("<i8").tobytes())
        for column, values in sorted(table.columns.items()):
            digest.update(column.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
