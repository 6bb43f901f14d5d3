"""
What a manifest says of the data that trained its model, held against what lies in the artefact store: the snapshot and
the audit. Pure functions over bytes; reading them is the dossier's part.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import msgspec

from qraft_contracts.origin import Origin, worst_origin
from qraft_registry.artefacts import READY, SNAPSHOT_RECORD, Manifest, sha256_hex, snapshot_input

AUDITS: Final = "audits/"
_SNAPSHOT_ID: Final = re.compile(r"[0-9a-f]{64}")
_AUDIT_KEY: Final = re.compile(r"audits/[0-9a-f]{64}\.json")


class _Record(msgspec.Struct, frozen=True):
    """The part of snapshot_meta.json that a model is held to; qraft_data writes more."""

    snapshot_id: str
    origin: Origin
    files: dict[str, str]


class _Audit(msgspec.Struct, frozen=True):
    """The part of an audit that a model is held to."""

    mode: str
    ready: bool
    start: str
    end: str


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
        found = msgspec.json.decode(record, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"undecodable_snapshot: expected {SNAPSHOT_RECORD} as JSON: {error}"
    if found.snapshot_id != named.snapshot_id:
        return f"other_snapshot: expected the record of {named.snapshot_id}, received that of {found.snapshot_id}"
    if worst_origin((found.origin, manifest.origin)) is not manifest.origin:
        return f"snapshot_origin: the snapshot is {found.origin.value}, the manifest says {manifest.origin.value}"
    return None


def missing_files(manifest: Manifest, record: bytes, keys: Collection[str]) -> str | None:
    """
    Return which file of a snapshot that stands is not there, None if all are.

    Their bytes are not hashed here: that is `qraft data snapshot --verify`, and every training from the snapshot.
    """
    folder = snapshot_input(manifest.data.snapshot_id)
    absent = [name for name in msgspec.json.decode(record, type=_Record).files if f"{folder}/{name}" not in keys]
    return f"missing_snapshot: expected {folder}/{absent[0]}, received nothing" if absent else None


def audit_fault(manifest: Manifest, audit: bytes | None) -> str | None:
    """
    Return why a claim of readiness is not backed by its audit, None if it is or none is made.

    Args:
        audit: what lies under audit_key.
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
    if not found.ready or (found.mode, found.start, found.end) != (claim.mode, claim.start, claim.end):
        said = "ready" if found.ready else "not ready"
        return f"other_audit: the audit says {said} of {found.mode} {found.start} … {found.end}"
    return None


def readiness_fault(manifest: Manifest) -> str | None:
    """Return why a model's data do not allow a stage beyond paper, None if they do."""
    found = manifest.readiness
    if found.verdict == READY:
        return None
    return (
        f"readiness_{found.verdict}: trained in mode {found.mode} on data that no audit found complete; train with "
        "QRAFT_TRAIN_MODE=production or full"
    )
