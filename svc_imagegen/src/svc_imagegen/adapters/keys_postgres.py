"""The KeyStore on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.group_commit import GroupCommit
from svc_imagegen.ports import ApiKey

_FIND: Final = "SELECT * FROM imagegen.api_keys WHERE sha256 = ANY($1)"
_CREATE: Final = """
INSERT INTO imagegen.api_keys (key_id, account_id, name, scopes, created_at, revoked_at, sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_REVOKE: Final = """
UPDATE imagegen.api_keys SET revoked_at = $2 WHERE key_id = $1 AND revoked_at IS NULL RETURNING key_id
"""
_LIST: Final = """
SELECT * FROM imagegen.api_keys WHERE $1::text IS NULL OR account_id = $1 ORDER BY created_at, key_id
"""


class PostgresKeyStore:
    """The KeyStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Every caller's memory of a key ends at the same moment; one query then answers all of them.
        self._finds: GroupCommit[str, ApiKey | None] = GroupCommit(self._find_many)

    async def find(self, sha256: str) -> ApiKey | None:
        """Return the key with this hash, revoked or not."""
        return await self._finds.submit(sha256)

    async def create(self, key: ApiKey, sha256: str) -> None:
        """Store a new key."""
        values = (key.key_id, key.account_id, key.name, sorted(key.scopes), key.created_at, key.revoked_at, sha256)
        with as_transient():
            await self._database.read.execute(_CREATE, *values)

    async def revoke(self, key_id: str, *, at: datetime) -> bool:
        """Revoke a key; False if there is none or it is revoked already."""
        with as_transient():
            return await self._database.read.fetchval(_REVOKE, key_id, at) is not None

    async def list_keys(self, account_id: str | None) -> Sequence[ApiKey]:
        """Return keys, oldest first, of one account or of all."""
        with as_transient():
            rows = await self._database.read.fetch(_LIST, account_id)
        return [_key_of(row) for row in rows]

    async def _find_many(self, sha256s: Sequence[str]) -> list[ApiKey | None]:
        rows = await self._database.read.fetch(_FIND, list(set(sha256s)))
        found = {row["sha256"]: _key_of(row) for row in rows}
        return [found.get(it) for it in sha256s]


def _key_of(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        account_id=row["account_id"],
        name=row["name"],
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
