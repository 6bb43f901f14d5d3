"""What names a snapshot of data, and whether an audit is of the same data: rules of its writer and its judges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

SNAPSHOT_FORMAT: Final = "snapshot/1"
# What a perpetual market needs before a model is trained on it: an audit that says ready has judged all of these.
REQUIRED_KINDS: Final = ("bars", "funding", "open_interest", "basis")
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
    Return the sources of a snapshot that an audit is not about: of another version, or of a required kind and not seen.

    Whether an audit is ready does not depend on the other kinds; it need not have looked at their tables.

    Args:
        audited: versions of the audit, whose tables are named `<kind>/<market>`.
        taken: versions of the snapshot, as in snapshot_id_of.
    """
    found = {source: audited.get(source.removeprefix("tables/")) for source in taken}
    return sorted(
        source
        for source, version in found.items()
        if version != taken[source] and (version is not None or _kind_of(source) in REQUIRED_KINDS)
    )


def _kind_of(source: str) -> str:
    return source.removeprefix("tables/").partition("/")[0]
