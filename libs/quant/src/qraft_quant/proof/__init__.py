"""
Proofs by perturbation: that a computation does not look ahead, and that it does not depend on where history began.

`prove_all` puts everything that touches time to the proof, with planted leaks as controls; the result is stored as an
artefact that the registry demands (qraft_registry.proofs). What a proof shows is said in perturb.py.
"""

from qraft_quant.proof.everything import PROVEN_SOURCES, SetProof, prove_all
from qraft_quant.proof.perturb import CORRUPTIONS, Compute, Output, Table, Tables
from qraft_quant.proof.prove import prove_subject
from qraft_quant.proof.rows import prove_no_look_ahead, prove_start_independence
from qraft_quant.proof.subjects import BarInputs, ProvenFeatures, Subject
from qraft_quant.proof.verdicts import ColumnProof, ControlProof, Proof

__all__ = [
    "CORRUPTIONS",
    "PROVEN_SOURCES",
    "BarInputs",
    "ColumnProof",
    "Compute",
    "ControlProof",
    "Output",
    "Proof",
    "ProvenFeatures",
    "SetProof",
    "Subject",
    "Table",
    "Tables",
    "prove_all",
    "prove_no_look_ahead",
    "prove_start_independence",
    "prove_subject",
]
