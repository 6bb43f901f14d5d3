"""The form in which a leakage proof is stored: columns, controls, and what they were proven on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from qraft_contracts.origin import Origin

if TYPE_CHECKING:  # whoever reads proofs need not load the code that makes them
    from qraft_quant.proof.verdicts import ColumnProof, ControlProof

PROOF_FORMAT: Final = "proof/2"
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class ProofData(msgspec.Struct, frozen=True):
    """
    The bars of a proof. sha256: of every value on the grid. stimulated: inputs that the bars lacked and that were
    drawn from the seed, so that features of them had something to read. first_closed_at, last_closed_at: microseconds.
    snapshot_id: that the bars were read from, empty where they came straight from a lake.
    """

    market: str
    interval: str
    symbols: tuple[str, ...]
    origin: Origin
    n_bars: int
    first_closed_at_us: int
    last_closed_at_us: int
    sha256: str
    stimulated: tuple[str, ...]
    snapshot_id: str = ""


class ProvenColumn(msgspec.Struct, frozen=True):
    """One column: comparisons with a number in them, those after which its future moved, and what differed."""

    kind: str
    name: str
    n_checks: int
    n_moved: int
    failures: tuple[str, ...]


class ProvenControl(msgspec.Struct, frozen=True):
    """One planted computation: whether it leaks, and which corruptions said so."""

    name: str
    is_leak: bool
    n_checks: int
    caught_by: tuple[str, ...]


class TextData(msgspec.Struct, frozen=True):
    """The texts of a proof. signature: of the pipeline that was proven. sha256: of texts and drawn tables."""

    signature: str
    n_texts: int
    sha256: str


class ProofRecord(msgspec.Struct, frozen=True):
    """
    The whole proof. source_sha256: of the code that was proven. cut_offs_us: every cut-off used, microseconds.
    starts: first rows of the warm-up check. inputs: what the features read. texts: None where nothing of texts was
    proven; features that read any need it.
    """

    format: str
    feature_signature: str
    source_sha256: str
    data: ProofData
    seed: int
    cut_offs_us: tuple[int, ...]
    starts: tuple[int, ...]
    corruptions: tuple[str, ...]
    versions: dict[str, str]
    columns: tuple[ProvenColumn, ...]
    controls: tuple[ProvenControl, ...]
    inputs: tuple[str, ...]
    texts: TextData | None


class Findings(Protocol):
    """What every proof found: SetProof of features, TextProof of texts."""

    @property
    def seed(self) -> int: ...

    @property
    def cut_offs(self) -> tuple[int, ...]: ...

    @property
    def starts(self) -> tuple[int, ...]: ...

    @property
    def corruptions(self) -> tuple[str, ...]: ...

    @property
    def columns(self) -> tuple[tuple[str, ColumnProof], ...]: ...

    @property
    def controls(self) -> tuple[ControlProof, ...]: ...


class TextFindings(Findings, Protocol):
    """What a proof of texts found, and on which."""

    @property
    def n_texts(self) -> int: ...

    @property
    def data_sha256(self) -> str: ...


def record_of(
    found: Findings, *, feature_signature: str, source_sha256: str, data: ProofData, packages: Sequence[str],
    inputs: Sequence[str] = (), texts: TextFindings | None = None, text_signature: str = "",
) -> ProofRecord:  # fmt: skip
    """
    Return what a proof found in the form in which it is stored, with the versions of the packages it ran on.

    Args:
        inputs: what the proven features read.
        texts: what was found of texts, with the signature of their pipeline; it may be the same as `found`.
    """
    parts = [found] if texts is None or texts is found else [found, texts]
    return ProofRecord(
        format=PROOF_FORMAT,
        feature_signature=feature_signature,
        source_sha256=source_sha256,
        data=data,
        seed=found.seed,
        cut_offs_us=tuple(sorted({cut for part in parts for cut in part.cut_offs})),
        starts=found.starts,
        corruptions=found.corruptions,
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
        columns=tuple(
            ProvenColumn(kind, it.name, it.n_checks, it.n_moved, it.failures)
            for part in parts for kind, it in part.columns
        ),
        controls=tuple(
            ProvenControl(it.name, it.is_leak, it.n_checks, it.caught_by) for part in parts for it in part.controls
        ),
        inputs=tuple(inputs),
        texts=None if texts is None else TextData(text_signature, texts.n_texts, texts.data_sha256),
    )  # fmt: skip


def encode_proof(record: ProofRecord) -> bytes:
    """Return the canonical bytes: keys in order, one column a line would be larger and says no more."""
    return msgspec.json.format(_ENCODER.encode(record), indent=1) + b"\n"
