"""
What a manifest says of the data that trained its model, held against what lies in the artefact store: the snapshot and
the audit. Pure functions over bytes; reading them is the dossier's part.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.snapshots import moved_sources, snapshot_id_of
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_registry.artefacts import READY, SNAPSHOT_DATA, SNAPSHOT_RECORD, Manifest, sha256_hex, snapshot_input

AUDITS: Final = "audits/"
_TEXTS: Final = KINDS["text_state"]
_SNAPSHOT_ID: Final = re.compile(r"[0-9a-f]{64}")
_AUDIT_KEY: Final = re.compile(r"audits/[0-9a-f]{64}\.json")


@dataclass(frozen=True, slots=True)
class TextsRead:
    """What a snapshot holds of texts. markets: of text_state, sorted. fields: of text_state, in the kind's order."""

    markets: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


NO_TEXTS: Final = TextsRead()


# A time without a zone is no instant: decoding refuses it.
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class _Record(msgspec.Struct, frozen=True):
    """The part of snapshot_meta.json that a model is held to; qraft_data writes more."""

    snapshot_id: str
    origin: Origin
    query: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str]


class _Field(msgspec.Struct, frozen=True):
    """The part of a query's field that a model is held to. market: None = the query's."""

    metric: str
    market: str | None = None


class _Query(msgspec.Struct, frozen=True):
    """The part of a snapshot's query that a model is held to."""

    market: str
    interval: str
    symbols: tuple[str, ...]
    start: _Instant
    end: _Instant
    fields: tuple[_Field, ...] = ()


class _Audit(msgspec.Struct, frozen=True):
    """The part of an audit that a model is held to."""

    mode: str
    market: str
    ready: bool
    start: _Instant
    end: _Instant
    versions: dict[str, str]


def snapshot_key(manifest: Manifest) -> str | None:
    """Return where the record of the model's snapshot lies, None where no snapshot is named, or none could be."""
    found = manifest.data.snapshot_id
    return f"{snapshot_input(found)}/{SNAPSHOT_RECORD}" if _SNAPSHOT_ID.fullmatch(found) else None


def audit_key(manifest: Manifest) -> str | None:
    """Return where the audit of the model's data lies, None where none is named, or none could be."""
    found = manifest.readiness.audit
    return found if _AUDIT_KEY.fullmatch(found) else None


def snapshot_fault(manifest: Manifest, record: bytes | None) -> str | None:
    """
    Return why the snapshot that a manifest names does not stand, None if it does.

    A manifest of before there were snapshots names none; that is no fault here, and passes no gate.

    Args:
        record: what lies under snapshot_key.
    """
    named = manifest.data
    if not named.snapshot_id:
        return None
    if snapshot_key(manifest) is None:
        return f"bad_snapshot_id: expected 64 hex digits, received {named.snapshot_id!r}"
    if not record:
        return f"missing_snapshot: expected {snapshot_key(manifest)}, received nothing"
    if sha256_hex(record) != named.snapshot_sha256:
        return f"snapshot_changed: the manifest names {named.snapshot_sha256}, the record is {sha256_hex(record)}"
    try:
        found, query = _decoded(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"undecodable_snapshot: expected {SNAPSHOT_RECORD} as JSON: {error}"
    made_of = snapshot_id_of(found.query, found.versions)
    if not named.snapshot_id == found.snapshot_id == made_of:
        return (
            f"other_snapshot: expected the record of {named.snapshot_id}, received that of {found.snapshot_id}, "
            f"whose query and versions are those of {made_of}"
        )
    if worst_origin((found.origin, manifest.origin)) is not manifest.origin:
        return f"snapshot_origin: the snapshot is {found.origin.value}, the manifest says {manifest.origin.value}"
    return _question_fault(manifest, found, query)


def texts_read(record: bytes) -> TextsRead:
    """
    Return what a snapshot that stands holds of texts: as its sources and its question say, whatever a proof says.

    A source whose fields the question does not name counts with all that the kind has.
    """
    found, query = _decoded(record)
    asked = [field for field in query.fields if field.metric.partition(".")[0] == _TEXTS.name]
    kinds = (source.removeprefix("tables/").partition("/") for source in found.versions)
    markets = {market for kind, _, market in kinds if kind == _TEXTS.name}
    markets |= {query.market if field.market is None else field.market for field in asked}
    names = {field.metric.partition(".")[2] for field in asked}
    fields = tuple(name for name in _TEXTS.field_names if name in names)
    return TextsRead(tuple(sorted(markets)), fields or _TEXTS.field_names if markets else ())


def missing_files(manifest: Manifest, record: bytes, keys: Collection[str]) -> str | None:
    """
    Return which file of a snapshot that stands is not there, its rows first, None if all are.

    Their bytes are not hashed here: that is `qraft data snapshot --verify`, and every training from the snapshot.
    """
    folder, files = snapshot_input(manifest.data.snapshot_id), _decoded(record)[0].files
    if SNAPSHOT_DATA not in files:
        return f"snapshot_without_rows: expected {SNAPSHOT_DATA} among its files, received {sorted(files)}"
    absent = [name for name in (SNAPSHOT_DATA, *files) if f"{folder}/{name}" not in keys]
    return f"missing_snapshot: expected {folder}/{absent[0]}, received nothing" if absent else None


def audit_fault(manifest: Manifest, audit: bytes | None, *, record: bytes | None) -> str | None:
    """
    Return why a claim of readiness is not backed by its audit, None if it is or none is made.

    The audit must be of the snapshot's market, of the same versions of its sources (bars, and the state tables that
    make a market ready, of the state market that the snapshot read), and of all that trained.

    Args:
        audit: what lies under audit_key.
        record: of the snapshot, in which snapshot_fault found nothing; None where the manifest names none.
    """
    claim = manifest.readiness
    if claim.verdict != READY:
        return None
    if not audit:
        return f"missing_audit: the manifest says ready and names {claim.audit!r}, where nothing lies"
    if sha256_hex(audit) != claim.audit_sha256:
        return f"audit_changed: the manifest names {claim.audit_sha256}, the audit is {sha256_hex(audit)}"
    try:
        found = msgspec.json.decode(audit, type=_Audit)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"undecodable_audit: expected an audit as JSON: {error}"
    start, end = format_instant(found.start), format_instant(found.end)
    if not found.ready or (found.mode, start, end) != (claim.mode, claim.start, claim.end):
        said = "ready" if found.ready else "not ready"
        return f"other_audit: the audit says {said} of {found.mode} {start} … {end}"
    if record is None:
        return "audit_of_nothing: the manifest says ready and names no snapshot that the audit could be of"
    return _coverage_fault(manifest, found, record)


def readiness_fault(manifest: Manifest) -> str | None:
    """Return why a model's data do not allow a stage beyond paper, None if they do."""
    found = manifest.readiness
    if found.verdict == READY:
        return None
    return (
        f"readiness_{found.verdict}: trained in mode {found.mode} on data that no audit found complete; train with "
        "QRAFT_TRAIN_MODE=production or full"
    )


def _decoded(record: bytes) -> tuple[_Record, _Query]:
    found = msgspec.json.decode(record, type=_Record)
    return found, msgspec.convert(found.query, _Query)


def _question_fault(manifest: Manifest, record: _Record, query: _Query) -> str | None:
    """Return why a snapshot does not answer what the model was trained on, None if it does."""
    named, until = manifest.data, manifest.trained_until
    if (named.market, named.interval, named.symbols) != (query.market, query.interval, query.symbols):
        return (
            f"snapshot_of_other_bars: the snapshot holds {query.market} {query.interval} {list(query.symbols)}, "
            f"the manifest says {named.market} {named.interval} {list(named.symbols)}"
        )
    bars = f"bars/{query.interval}/{query.market}"
    if bars not in record.versions:
        return f"snapshot_without_bars: expected the version of {bars}, received {sorted(record.versions)}"
    # The grid ends with its last step in the range; an interval that nobody knows has none.
    step = timedelta(seconds=INTERVAL_SECONDS.get(query.interval, 0))
    if not query.end - step < until <= query.end:
        return (
            f"snapshot_of_other_range: the snapshot ends at {format_instant(query.end)}, "
            f"the manifest says {format_instant(until)}"
        )
    return None


def _coverage_fault(manifest: Manifest, audit: _Audit, record: bytes) -> str | None:
    """Return why a ready audit is not about the snapshot, None if it is."""
    found, query = _decoded(record)
    if audit.market != query.market:
        return f"audit_of_other_market: the audit is of {audit.market}, the snapshot of {query.market}"
    if sources := moved_sources(audit.versions, found.versions):
        return f"audit_of_other_data: {sources} have other versions in the audit than in the snapshot, or none"
    if audit.start > query.start or audit.end < manifest.trained_until:
        return (
            f"audit_of_other_range: the audit is of {format_instant(audit.start)} … {format_instant(audit.end)}, the "
            f"model of {format_instant(query.start)} … {format_instant(manifest.trained_until)}"
        )
    return None
