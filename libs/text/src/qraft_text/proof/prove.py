"""One proof of everything that texts become: columns, reduction, starts, and the controls beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_contracts.kinds import TEXT_SIGNATURE, text_fields
from qraft_quant.proof import CORRUPTIONS, ColumnProof, ControlProof, Output, Tables, prove_subject
from qraft_quant.proof.compare import Tally
from qraft_quant.proof.everything import CUT_FRACS
from qraft_quant.proof.subjects import cut_rows
from qraft_text.encoder.hashed import HashedEncoder
from qraft_text.proof.controls import TextControl, state_controls, text_controls
from qraft_text.proof.drawn import drawn_texts
from qraft_text.proof.subjects import StateSubjects, TextFacts, TextSubjects
from qraft_text.proof.tables import BUCKETS, N_BUCKETS, draw_tables
from qraft_text.state import state_features

# Parts of this package whose source the proof is about; everything but the commands' pipeline is.
PROVEN_SOURCES: Final = (
    "anchors.py", "encoder", "features.py", "filters.py", "grouping.py", "lexicon.py", "pipeline.py", "posts.py",
    "proof", "reduction.py", "sentiment.py", "sources.py", "state.py", "tower.py", "traits.py",
)  # fmt: skip
# Each column again, from later first buckets.
START_KIND: Final = "text_warm_up"
# Two days of filters and windows lie before a start; what is compared lies behind it.
STARTS: Final = (2 * 288 + 77, 3 * 288 + 11)


@dataclass(frozen=True, slots=True)
class TextProof:
    """
    What was found. columns: (kind, column). cut_offs: microseconds. starts: bucket rows. tables, facts: as proven on.
    """

    seed: int
    tables: Tables
    cut_offs: tuple[int, ...]
    starts: tuple[int, ...]
    corruptions: tuple[str, ...]
    columns: tuple[tuple[str, ColumnProof], ...]
    controls: tuple[ControlProof, ...]
    facts: TextFacts

    @property
    def n_texts(self) -> int:
        """Return how many texts it was made on."""
        return len(self.facts.texts.texts) - 1

    @property
    def data_sha256(self) -> str:
        """Return the hash of texts, encoder and drawn tables."""
        digest = hashlib.sha256(json.dumps(self.facts.texts.texts).encode())
        digest.update(self.facts.encoder.sha256.encode())
        for name, table in sorted(self.tables.items()):
            digest.update(name.encode() + table.known_at.astype("<i8").tobytes())
            for column, values in sorted(table.columns.items()):
                digest.update(column.encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TextStateProver:
    """Proves what features read of texts, for whoever proves features."""

    signature: str = TEXT_SIGNATURE
    package: str = "qraft_text"
    sources: tuple[str, ...] = PROVEN_SOURCES

    def prove(self, *, seed: int) -> TextProof:
        """Return prove_text_state of the pipeline that the signature names."""
        return prove_text_state(seed=seed)


def text_prover(inputs: Iterable[str]) -> TextStateProver | None:
    """Return what proves the texts that some inputs of the feature engine are read from, None where none is."""
    return TextStateProver() if text_fields(inputs) else None


def prove_texts(facts: TextFacts, *, seed: int) -> TextProof:
    """
    Corrupt the future of texts in every way at six cut-offs, compute from later starts, and run the controls.

    Tens of seconds: about 250 columns, 24 corruptions each. The same facts and seed give the same proof.
    """
    return _proven(TextSubjects(facts), text_controls, seed=seed)


def prove_text_state(*, seed: int) -> TextProof:
    """
    Do the same with the fields of text_state, on texts drawn from the seed and without an encoder; some seconds.

    Raises:
        Refused: if what is installed is another pipeline than the contract names.
    """
    features = state_features()
    facts = TextFacts.of(
        drawn_texts(seed=seed), encoder=HashedEncoder(features.sentiment), sentiment=features.sentiment,
        filters=features.filters, bucket_us=features.bucket_us,
    )  # fmt: skip
    return _proven(StateSubjects(facts), state_controls, seed=seed)


def _proven(
    subjects: TextSubjects, controls: Callable[[TextSubjects], list[TextControl]], *, seed: int
) -> TextProof:  # fmt: skip
    facts = subjects.facts
    tables = draw_tables(len(facts.texts.texts) - 1, bucket_us=facts.bucket_us, seed=seed)
    columns: list[tuple[str, ColumnProof]] = []
    cut_offs: set[int] = set()
    for subject in subjects.all():
        cuts = _cuts(tables, subject.first_row, bucket_us=facts.bucket_us)
        cut_offs.update(cuts)
        proof = prove_subject(subject.compute, tables, cut_offs=cuts, seed=seed)
        columns += [(subject.kind, column) for column in proof.columns]
    columns += [(START_KIND, column) for column in _starts(subjects, tables)]
    return TextProof(
        seed, tables, tuple(sorted(cut_offs)), STARTS, tuple(CORRUPTIONS), tuple(columns),
        tuple(_controls(controls(subjects), tables, bucket_us=facts.bucket_us, seed=seed)), facts,
    )  # fmt: skip


def _cuts(tables: Tables, first_row: int, *, bucket_us: int) -> list[int]:
    ends = tables[BUCKETS].known_at
    rows = cut_rows(N_BUCKETS, first_row=first_row, first_index=int(ends[0]) // bucket_us, fracs=CUT_FRACS)
    return [int(ends[row]) for row in rows]


def _starts(subjects: TextSubjects, tables: Tables) -> tuple[ColumnProof, ...]:
    whole = subjects.buckets(tables)
    tally = Tally(whole.names)
    for start in STARTS:
        later = subjects.buckets(tables, first=start)
        tally.compare(
            Output(whole.at[start:], whole.names, whole.values[start:]), later, until=int(whole.at[-1]),
            what=f"start at bucket {start}",
        )  # fmt: skip
    return tally.result().columns


def _controls(controls: list[TextControl], tables: Tables, *, bucket_us: int, seed: int) -> list[ControlProof]:
    found = []
    cuts = _cuts(tables, 0, bucket_us=bucket_us)
    for control in controls:
        (column,) = prove_subject(control.compute, tables, cut_offs=cuts, seed=seed).columns
        caught_by = tuple(sorted({failure.split(" ")[0] for failure in column.failures}))
        found.append(ControlProof(control.name, control.is_leak, column.n_checks, caught_by))
    return found
