"""That nothing a text becomes looks ahead: texts at drawn times through the computation that history runs."""

from qraft_text.proof.prove import (
    PROVEN_SOURCES,
    START_KIND,
    TextProof,
    TextStateProver,
    prove_text_state,
    prove_texts,
    text_prover,
)
from qraft_text.proof.subjects import BUCKET_KIND, TextFacts, TextSubjects
from qraft_text.proof.tables import ProofTexts

__all__ = [
    "BUCKET_KIND", "PROVEN_SOURCES", "START_KIND", "ProofTexts", "TextFacts", "TextProof", "TextStateProver",
    "TextSubjects", "prove_text_state", "prove_texts", "text_prover",
]  # fmt: skip
