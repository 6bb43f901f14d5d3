"""
The leakage proof of a feature set as an artefact: `proofs/<feature signature>/<source>-<proof>.json`.

One file says what was proven (every column, every control), of which source code and on which bars. It holds no wall
clock: the same code on the same bars gives the same bytes. Whoever trains names the file in its leakage evidence, and
the leakage gate reads it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from qraft_contracts.origin import Origin
from qraft_registry.artefacts import Manifest, ProofReference, sha256_hex
from qraft_store.artefacts.port import ArtefactStore

if TYPE_CHECKING:  # whoever reads proofs need not load the code that makes them
    from qraft_quant.proof.verdicts import ColumnProof, ControlProof

PROOF_FORMAT: Final = "proof/1"
PREFIX: Final = "proofs/"
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
_FAILURES_NAMED_MAX: Final = 3
# One proof that stands is enough; others of the same code are few: bars of other markets, or proofs that failed.
_PROOFS_READ_MAX: Final = 100
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


class ProofRecord(msgspec.Struct, frozen=True):
    """
    The whole proof. source_sha256: of the code that was proven. cut_offs_us: every cut-off used, microseconds.
    starts: first rows of the warm-up check.
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


def record_of(
    found: Findings, *, feature_signature: str, source_sha256: str, data: ProofData, packages: Sequence[str]
) -> ProofRecord:
    """Return what a proof found in the form in which it is stored, with the versions of the packages it ran on."""
    return ProofRecord(
        format=PROOF_FORMAT,
        feature_signature=feature_signature,
        source_sha256=source_sha256,
        data=data,
        seed=found.seed,
        cut_offs_us=found.cut_offs,
        starts=found.starts,
        corruptions=found.corruptions,
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
        columns=tuple(ProvenColumn(kind, it.name, it.n_checks, it.n_moved, it.failures) for kind, it in found.columns),
        controls=tuple(ProvenControl(it.name, it.is_leak, it.n_checks, it.caught_by) for it in found.controls),
    )


def encode_proof(record: ProofRecord) -> bytes:
    """Return the canonical bytes: keys in order, one column a line would be larger and says no more."""
    return msgspec.json.format(_ENCODER.encode(record), indent=1) + b"\n"


def proof_key(record: ProofRecord) -> str:
    """Return the artefact key of a proof: what it is of, and its own hash, for artefacts never change."""
    return f"{_prefix(record.feature_signature, record.source_sha256)}{sha256_hex(encode_proof(record))[:16]}.json"


def digest_of_sources(package: str, parts: Sequence[str]) -> str:
    """
    Return the SHA-256 of the Python source of parts of an installed package: names and bytes of every file.

    Args:
        package: import name, such as `qraft_quant`.
        parts: files or folders in it, such as `features` and `labels.py`.

    Raises:
        FileNotFoundError: if a part holds no source.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        found = sorted(_sources(files(package) / part, part))
        if not found:
            raise FileNotFoundError(f"expected Python source in {package}/{part}, found none")
        for name, data in found:
            digest.update(f"{package}/{name}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()


async def save_proof(artefacts: ArtefactStore, record: ProofRecord) -> ProofReference:
    """
    Store a proof and return where it lies; the same proof again is accepted.

    Raises:
        Transient: if the store is away.
    """
    key = proof_key(record)
    return ProofReference(key, await artefacts.put(key, encode_proof(record)))


async def load_proof(artefacts: ArtefactStore, reference: ProofReference) -> ProofRecord:
    """
    Return a stored proof.

    Raises:
        KeyError: if there is none under the key.
        ValueError: if the bytes are not those of the reference, or no proof.
        Transient: if the store is away.
    """
    record = _decoded(await artefacts.get(reference.key, sha256=reference.sha256))
    if isinstance(record, str):
        raise ValueError(f"{reference.key}: {record}")
    return record


async def find_proof(
    artefacts: ArtefactStore,
    *,
    feature_signature: str,
    source_sha256: str,
    feature_names: Iterable[str],
    origin: Origin,
) -> ProofReference | None:
    """
    Return a stored proof of these features and this source that stands, None if there is none.

    origin: of whoever asks; simulated bars may only prove what is simulated itself.

    Raises:
        Transient: if the store is away.
    """
    names = tuple(feature_names)
    for key in (await artefacts.keys(_prefix(feature_signature, source_sha256)))[:_PROOFS_READ_MAX]:
        data = await artefacts.get(key)
        record = _decoded(data)
        if isinstance(record, str) or record.feature_signature != feature_signature:
            continue
        is_usable = record.data.origin is not Origin.SIMULATED or origin is Origin.SIMULATED
        if is_usable and source_sha256 == record.source_sha256 and not shortfall(record, feature_names=names):
            return ProofReference(key, sha256_hex(data))
    return None


def proof_fault(reference: ProofReference | None, data: bytes | None, *, manifest: Manifest) -> str | None:
    """
    Return why a proof does not stand for a model, None if it does. Fail closed, as every gate.

    Args:
        reference: as the leakage evidence names it.
        data: what the artefact store holds under its key, None for nothing.
    """
    if reference is None:
        return "no_proof: the evidence names no leakage proof of its features: prove them (`qraft features prove`)"
    if not data:
        return f"missing_proof: expected {reference.key}, received nothing"
    if sha256_hex(data) != reference.sha256:
        return f"proof_changed: the evidence names {reference.sha256}, the file is {sha256_hex(data)}"
    record = _decoded(data)
    if isinstance(record, str):
        return record
    if record.feature_signature != manifest.feature_signature:
        return f"proof_of_other_features: {record.feature_signature[:16]}, not {manifest.feature_signature[:16]}"
    if not manifest.feature_source_sha256 or record.source_sha256 != manifest.feature_source_sha256:
        return f"proof_of_other_code: {record.source_sha256[:16]}, not {manifest.feature_source_sha256[:16]!r}"
    if record.data.origin is Origin.SIMULATED:
        return "simulated_proof: simulated data never pass a gate"
    if not manifest.feature_names:
        return "no_feature_names: the manifest names no features, so nothing can be said of them"
    return shortfall(record, feature_names=manifest.feature_names)


def shortfall(record: ProofRecord, *, feature_names: Iterable[str]) -> str | None:
    """Return what a proof lacks to stand for features, None if nothing."""
    return _coverage(record, feature_names) or _controls(record) or _failures(record)


def _coverage(record: ProofRecord, feature_names: Iterable[str]) -> str | None:
    if len(set(record.cut_offs_us)) < CUT_OFFS_MIN or len(record.starts) < STARTS_MIN:
        return f"thin_proof: {len(record.cut_offs_us)} cut-offs and {len(record.starts)} starts are too few"
    if not set(record.corruptions) >= CORRUPTIONS_REQUIRED:
        return f"thin_proof: expected the corruptions {sorted(CORRUPTIONS_REQUIRED)}, received {record.corruptions}"
    missing = KINDS_REQUIRED - {column.kind for column in record.columns}
    if missing:
        return f"incomplete_proof: nothing was proven of {sorted(missing)}"
    names = list(feature_names)
    for kind in ("feature", "warm_up"):
        proven = {column.name for column in record.columns if column.kind == kind}
        unproven = [name for name in names if name not in proven]
        if unproven:
            return (
                f"incomplete_proof: {kind} of {unproven[:_FAILURES_NAMED_MAX]} ({len(unproven)} in all) is not proven"
            )
    return None


def _controls(record: ProofRecord) -> str | None:
    found = {control.name: control for control in record.controls}
    absent = [name for name in CONTROLS_REQUIRED if name not in found]
    if absent:
        return f"proof_without_controls: expected {absent} among them; a proof that catches nothing proves nothing"
    for control in record.controls:
        is_leak = CONTROLS_REQUIRED.get(control.name, control.is_leak)
        if control.n_checks < COLUMN_CHECKS_MIN or bool(control.caught_by) != is_leak:
            said = f"caught by {list(control.caught_by)}" if control.caught_by else "let pass"
            return f"proof_control_missed: {control.name!r} was {said} in {control.n_checks} checks"
    return None


def _failures(record: ProofRecord) -> str | None:
    failed = [
        f"{column.kind} {column.name}: {column.failures[0] if column.failures else 'too few comparisons'}"
        for column in record.columns
        if column.failures or column.n_checks < (len(record.starts) if column.kind == "warm_up" else COLUMN_CHECKS_MIN)
    ]
    if failed:
        return f"proof_failed: {len(failed)} of {len(record.columns)} columns: {failed[:_FAILURES_NAMED_MAX]}"
    return None


def _decoded(data: bytes) -> ProofRecord | str:
    try:
        record = msgspec.json.decode(data, type=ProofRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"undecodable_proof: expected {PROOF_FORMAT} as JSON: {error}"
    return record if record.format == PROOF_FORMAT else f"unknown_proof: expected {PROOF_FORMAT}, {record.format!r}"


def _prefix(feature_signature: str, source_sha256: str) -> str:
    return f"{PREFIX}{feature_signature}/{source_sha256[:16]}-"


def _sources(place: Traversable, name: str) -> Iterable[tuple[str, bytes]]:
    if place.is_file():
        if name.endswith(".py"):
            yield name, place.read_bytes()
    elif place.is_dir():
        for child in place.iterdir():
            yield from _sources(child, f"{name}/{child.name}")
