"""The ArtefactStore's twin in memory, for tests."""

from __future__ import annotations

from qraft_store.artefacts.keys import check_key, check_sha256, sha256_of


class MemoryArtefactStore:
    """Artefacts in a dictionary."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> str:
        """Store bytes under a key and return their SHA-256; see the port."""
        check_key(key)
        if self._objects.setdefault(key, data) != data:
            raise ValueError(f"expected a new key or the same bytes again, {key} holds others: artefacts never change")
        return sha256_of(data)

    async def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """Return the bytes under a key; see the port."""
        check_key(key)
        data = self._objects[key]
        check_sha256(key, data, sha256)
        return data

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with the prefix, sorted."""
        return sorted(key for key in self._objects if key.startswith(prefix))
