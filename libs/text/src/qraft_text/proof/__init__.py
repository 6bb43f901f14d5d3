"""That nothing a text becomes looks ahead: real texts at drawn times through the computation that history runs."""

from qraft_text.proof.controls import CONTROLS_REQUIRED
from qraft_text.proof.prove import KINDS_REQUIRED, PROVEN_SOURCES, TextProof, prove_texts
from qraft_text.proof.subjects import TextFacts, TextSubjects
from qraft_text.proof.tables import ProofTexts

__all__ = [
    "CONTROLS_REQUIRED", "KINDS_REQUIRED", "PROVEN_SOURCES", "ProofTexts", "TextFacts", "TextProof", "TextSubjects",
    "prove_texts",
]  # fmt: skip
