"""Which keys an artefact may have, and its fingerprint; shared by the adapters."""

from __future__ import annotations

import hashlib
import re

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")


def check_key(key: str) -> None:
    """
    Accept relative paths of plain names only.

    Raises:
        ValueError: for anything that could leave the store, is hidden, or that some object store would escape.
    """
    if len(key) > 512 or not _KEY.fullmatch(key):
        raise ValueError(f"expected a key such as models/m01/model.onnx, received {key!r}")


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def check_sha256(key: str, data: bytes, expected: str | None) -> None:
    """
    Compare bytes with the fingerprint that the caller knows.

    Raises:
        ValueError: if they differ.
    """
    if expected is not None and (received := sha256_of(data)) != expected.lower():
        raise ValueError(f"expected {key} with SHA-256 {expected}, received {received}: the artefact was changed")
