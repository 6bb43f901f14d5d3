"""One proof of everything that texts become: columns, reduction, starts, and the controls beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qraft_quant.proof import CORRUPTIONS, ColumnProof, ControlProof, Output, Tables, prove_subject
from qraft_quant.proof.compare import Tally
from qraft_quant.proof.everything import CUT_FRACS, START_KIND
from qraft_quant.proof.subjects import cut_rows
from qraft_text.proof.controls import CONTROLS_REQUIRED, text_controls
from qraft_text.proof.subjects import TextFacts, TextSubjects
from qraft_text.proof.tables import BUCKETS, N_BUCKETS, draw_tables

# Parts of this package whose source the proof is about; everything but the commands' pipeline is.
PROVEN_SOURCES: Final = (
    "anchors.py", "encoder", "features.py", "filters.py", "grouping.py", "lexicon.py", "pipeline.py", "posts.py",
    "proof", "reduction.py", "sentiment.py", "sources.py", "tower.py", "traits.py",
)  # fmt: skip
KINDS_REQUIRED: Final = frozenset({"text_bucket", "normalizer", START_KIND})
# Two days of filters and windows lie before a start; what is compared lies behind it.
STARTS: Final = (2 * 288 + 77, 3 * 288 + 11)


@dataclass(frozen=True, slots=True)
class TextProof:
    """What was found. columns: (kind, column). cut_offs: microseconds. starts: bucket rows. tables: as proven on."""

    seed: int
    tables: Tables
    cut_offs: tuple[int, ...]
    starts: tuple[int, ...]
    corruptions: tuple[str, ...]
    columns: tuple[tuple[str, ColumnProof], ...]
    controls: tuple[ControlProof, ...]

    @property
    def fault(self) -> str | None:
        """Return why this is no proof, None if it is one."""
        failed = [f"{kind} {column.name}: {column.failures[:1] or 'nothing to compare'}"
                  for kind, column in self.columns if not column.passed]  # fmt: skip
        missed = [control.name for control in self.controls if not control.passed]
        absent = sorted(KINDS_REQUIRED - {kind for kind, _ in self.columns})
        absent += sorted(set(CONTROLS_REQUIRED) - {control.name for control in self.controls})
        if not (failed or missed or absent):
            return None
        return f"proof_failed: {len(failed)} columns {failed[:3]}, controls missed {missed}, not proven {absent}"


def prove_texts(facts: TextFacts, *, seed: int) -> TextProof:
    """
    Corrupt the future of texts in every way at six cut-offs, compute from later starts, and run the controls.

    Tens of seconds: about 250 columns, 24 corruptions each. The same facts and seed give the same proof.
    """
    tables = draw_tables(len(facts.texts.texts) - 1, bucket_us=facts.bucket_us, seed=seed)
    subjects = TextSubjects(facts)
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
        tuple(_controls(subjects, tables, seed=seed)),
    )  # fmt: skip


def _cuts(tables: Tables, first_row: int, *, bucket_us: int) -> list[int]:
    ends = tables[BUCKETS].known_at
    rows = cut_rows(N_BUCKETS, first_row=first_row, first_index=int(ends[0]) // bucket_us, fracs=CUT_FRACS)
    return [int(ends[row]) for row in rows]


def _starts(subjects: TextSubjects, tables: Tables) -> tuple[ColumnProof, ...]:
    whole = subjects.matrix(tables, first=0)
    tally = Tally(whole.names)
    for start in STARTS:
        later = subjects.matrix(tables, first=start)
        tally.compare(
            Output(whole.ends[start:], whole.names, whole.values[start:]),
            Output(later.ends, later.names, later.values),
            until=int(whole.ends[-1]),
            what=f"start at bucket {start}",
        )
    return tally.result().columns


def _controls(subjects: TextSubjects, tables: Tables, *, seed: int) -> list[ControlProof]:
    found = []
    cuts = _cuts(tables, 0, bucket_us=subjects.facts.bucket_us)
    for control in text_controls(subjects):
        (column,) = prove_subject(control.compute, tables, cut_offs=cuts, seed=seed).columns
        caught_by = tuple(sorted({failure.split(" ")[0] for failure in column.failures}))
        found.append(ControlProof(control.name, control.is_leak, column.n_checks, caught_by))
    return found
