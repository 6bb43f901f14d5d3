"""What names a snapshot of data, and whether an audit is of the same data: rules of its writer and its judges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

SNAPSHOT_FORMAT: Final = "snapshot/1"
_JSON: Final = msgspec.json.Encoder(order="deterministic")


def snapshot_id_of(query: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """
    Return the SHA-256 over the query (with its range) and the versions of all that it reads.

    Args:
        query: as JSON values.
        versions: of each source, `bars/<interval>/<market>` and `tables/<kind>/<market>` to version.
    """
    named = {"format": SNAPSHOT_FORMAT, "query": dict(query), "versions": dict(versions)}
    return hashlib.sha256(_JSON.encode(named)).hexdigest()


def moved_sources(audited: Mapping[str, str], taken: Mapping[str, str]) -> list[str]:
    """
    Return the sources of a snapshot that an audit is not about: of another version, or bars that it never saw.

    Args:
        audited: versions of the audit, whose tables are named `<kind>/<market>`.
        taken: versions of the snapshot, as in snapshot_id_of.
    """
    found = {source: audited.get(source.removeprefix("tables/")) for source in taken}
    return sorted(
        source
        for source, version in found.items()
        if version != taken[source] and (version is not None or source.startswith("bars/"))
    )
