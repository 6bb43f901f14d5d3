"""
Artefacts in a local folder or in any S3-compatible store, through obstore.

Its blocking functions in a thread, never its *_async ones: those wake the event loop from a tokio worker, which aborts
the whole process (SIGABRT after all work is done, 32 of 80 runs measured) when the interpreter is already finalizing.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore import exceptions, store

from qraft_contracts.outcomes import Transient
from qraft_store.artefacts.keys import check_key, check_sha256, sha256_of

# obstore's own retries around idempotent requests; ours is the caller's bounded retry of Transient.
_RETRY: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}


class ObjectArtefactStore:
    """
    The ArtefactStore on obstore. An object appears whole or not at all, and is never overwritten.

    url_or_path: a folder, or `s3://bucket/prefix` with the credentials and endpoint in the environment that AWS tools
    read (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP for a local one).
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self._address = str(url_or_path)
        self._store: Any
        if "://" in self._address:
            # No client options here: any would put aside those of the environment. One request ends after 30 s.
            self._store = store.from_url(self._address, retry_config=_RETRY)
        else:
            self._store = store.LocalStore(Path(self._address).absolute(), mkdir=True)

    async def put(self, key: str, data: bytes) -> str:
        """Store bytes under a key and return their SHA-256; see the port."""
        check_key(key)
        try:
            await asyncio.to_thread(obstore.put, self._store, key, data, mode="create")
        except exceptions.AlreadyExistsError:
            if await self.get(key) != data:
                raise ValueError(
                    f"expected a new key or the same bytes again, {key} holds others: artefacts never change"
                ) from None
        except (exceptions.BaseError, OSError) as error:
            raise self._away(error) from error
        return sha256_of(data)

    async def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """Return the bytes under a key; see the port."""
        check_key(key)
        try:
            data = await asyncio.to_thread(self._read, key)
        except (exceptions.NotFoundError, FileNotFoundError) as error:
            raise KeyError(key) from error
        except (exceptions.BaseError, OSError) as error:
            raise self._away(error) from error
        check_sha256(key, data, sha256)
        return data

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with the prefix, sorted."""
        # Object stores list whole path segments; the rest of the prefix is compared here.
        folder = prefix.rpartition("/")[0]
        try:
            found = await asyncio.to_thread(self._list, folder)
        except (exceptions.BaseError, OSError) as error:
            raise self._away(error) from error
        return sorted(meta["path"] for meta in found if meta["path"].startswith(prefix))

    def _read(self, key: str) -> bytes:
        return bytes(obstore.get(self._store, key).bytes())

    def _list(self, folder: str) -> Any:
        return obstore.list(self._store, prefix=folder or None).collect()

    def _away(self, error: Exception) -> Transient:
        return Transient("artefacts_away", f"could not use {self._address}: {error}")
