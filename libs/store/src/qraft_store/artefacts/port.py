"""What the services need of an artefact store: immutable bytes under a key. Adapters: `objects.py` (local folder or
any S3-compatible store through obstore), `memory.py`."""

from __future__ import annotations

from typing import Protocol


class ArtefactStore(Protocol):
    """Immutable, content-checked objects. Keys look like `models/<id>/model.onnx`."""

    async def put(self, key: str, data: bytes) -> str:
        """
        Store bytes under a key and return their SHA-256 in hex. The same bytes again are accepted.

        Raises:
            ValueError: if the key holds other bytes already, or is no relative path without `..`.
            Transient: if the store is away.
        """
        ...

    async def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """
        Return the bytes under a key.

        Raises:
            KeyError: if there are none.
            ValueError: if sha256 is given and the bytes do not match it.
            Transient: if the store is away.
        """
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with the prefix, sorted."""
        ...
