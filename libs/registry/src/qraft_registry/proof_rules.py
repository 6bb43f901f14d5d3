"""What a stored proof must hold to stand: kinds of columns, controls that gave their known answer, no failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from qraft_contracts.kinds import TEXT_SIGNATURE, text_fields
from qraft_registry.proof_record import ProofRecord

# What a proof must have put to the test, by kind of column; `warm_up` = features again, from later first rows.
KINDS_REQUIRED: Final = frozenset(
    {"feature", "warm_up", "label", "lag", "join", "normalizer", "resample", "text_bucket", "derived"}
)
CORRUPTIONS_REQUIRED: Final = frozenset({"nan", "shuffle", "noise"})
CUT_OFFS_MIN: Final = 3
STARTS_MIN: Final = 1
# Three corruptions at three cut-offs for each column; columns of `warm_up` are compared once a start.
COLUMN_CHECKS_MIN: Final = 9
# Planted computations that the proof must have judged rightly: True = it leaks.
CONTROLS_REQUIRED: Final[dict[str, bool]] = {
    "whole-frame z-score": True,
    "shift(-1)": True,
    "forward join": True,
    "late revision joined by event time": True,
    "expanding mean from the end": True,
    "last value": True,
    "full mean": True,
    "expanding mean": False,
}
# What must have been proven of each field of text_state that features read, and beside it: `text_warm_up` = the columns
# again, from later first buckets.
TEXT_KINDS_REQUIRED: Final = ("text_bucket", "text_warm_up")
TEXT_CONTROLS_REQUIRED: Final[dict[str, bool]] = {
    "bucket by the time of writing": True,
    "duplicates of later posts dropped": True,
    "author judged by all of their posts": True,
    "engagement as counted later": True,
    "authors unknown where nobody ever names one": True,
    "bucket by the time of knowing": False,
}
# And of a reduction that is fitted on texts.
FIT_KIND_REQUIRED: Final = "normalizer"
FIT_CONTROLS_REQUIRED: Final[dict[str, bool]] = {"components fitted on everything": True}
_FAILURES_NAMED_MAX: Final = 3


def shortfall(record: ProofRecord, *, feature_names: Iterable[str], texts_trained_on: Iterable[str] = ()) -> str | None:
    """
    Return what a proof lacks to stand for features, None if nothing.

    texts_trained_on: fields of text_state in the data that trained a model; they must have been proven, too, whatever
    the record says that its features read.
    """
    fields = tuple(dict.fromkeys((*text_fields(record.inputs), *texts_trained_on)))
    required = CONTROLS_REQUIRED | (TEXT_CONTROLS_REQUIRED if fields else {})
    return (
        _coverage(record, feature_names)
        or (_texts(record, fields) if fields else None)
        or _controls(record, required)
        or _failures(record)
    )


def text_shortfall(record: ProofRecord, *, fields: Iterable[str]) -> str | None:
    """
    Return what a proof of texts alone lacks to stand, None if nothing.

    fields: columns without which it says nothing; its reduction must have been proven, too.
    """
    if FIT_KIND_REQUIRED not in {column.kind for column in record.columns}:
        return "incomplete_proof: nothing was proven of a fitted reduction"
    required = TEXT_CONTROLS_REQUIRED | FIT_CONTROLS_REQUIRED
    return _texts(record, fields) or _controls(record, required) or _failures(record)


def _coverage(record: ProofRecord, feature_names: Iterable[str]) -> str | None:
    missing = KINDS_REQUIRED - {column.kind for column in record.columns}
    if missing:
        return f"incomplete_proof: nothing was proven of {sorted(missing)}"
    return _thin(record) or _unproven(record, ("feature", "warm_up"), feature_names)


def _texts(record: ProofRecord, fields: Iterable[str]) -> str | None:
    """Return what a proof lacks of the texts that features read: the pipeline must be that of the tables' rows."""
    if record.texts is None:
        return "no_text_proof: features or data hold what is written, and nothing of it was proven: prove them again"
    if record.texts.signature != TEXT_SIGNATURE:
        return f"proof_of_other_texts: {record.texts.signature[:16]}, the tables are of {TEXT_SIGNATURE[:16]}"
    return _thin(record) or _unproven(record, TEXT_KINDS_REQUIRED, fields)


def _thin(record: ProofRecord) -> str | None:
    if len(set(record.cut_offs_us)) < CUT_OFFS_MIN or len(record.starts) < STARTS_MIN:
        return f"thin_proof: {len(record.cut_offs_us)} cut-offs and {len(record.starts)} starts are too few"
    if not set(record.corruptions) >= CORRUPTIONS_REQUIRED:
        return f"thin_proof: expected the corruptions {sorted(CORRUPTIONS_REQUIRED)}, received {record.corruptions}"
    return None


def _unproven(record: ProofRecord, kinds: Sequence[str], names: Iterable[str]) -> str | None:
    wanted = list(names)
    for kind in kinds:
        proven = {column.name for column in record.columns if column.kind == kind}
        unproven = [name for name in wanted if name not in proven]
        if unproven:
            return (
                f"incomplete_proof: {kind} of {unproven[:_FAILURES_NAMED_MAX]} ({len(unproven)} in all) is not proven"
            )
    return None


def _controls(record: ProofRecord, required: Mapping[str, bool]) -> str | None:
    found = {control.name: control for control in record.controls}
    absent = [name for name in required if name not in found]
    if absent:
        return f"proof_without_controls: expected {absent} among them; a proof that catches nothing proves nothing"
    for control in record.controls:
        is_leak = required.get(control.name, control.is_leak)
        if control.n_checks < COLUMN_CHECKS_MIN or bool(control.caught_by) != is_leak:
            said = f"caught by {list(control.caught_by)}" if control.caught_by else "let pass"
            return f"proof_control_missed: {control.name!r} was {said} in {control.n_checks} checks"
    return None


def _failures(record: ProofRecord) -> str | None:
    # A column of texts is compared from a later start wherever there are texts behind it.
    least = {"warm_up": len(record.starts), "text_warm_up": 1}
    failed = [
        f"{column.kind} {column.name}: {column.failures[0] if column.failures else 'too few comparisons'}"
        for column in record.columns
        if column.failures or column.n_checks < least.get(column.kind, COLUMN_CHECKS_MIN)
    ]
    if failed:
        return f"proof_failed: {len(failed)} of {len(record.columns)} columns: {failed[:_FAILURES_NAMED_MAX]}"
    return None
