"""The CapabilityStore on PostgreSQL: the newest finding of each feature of each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters.database import Database
from svc_imagegen.domain.capability import Capability, Support

_SUPPORT: Final = "SELECT support FROM imagegen.capabilities WHERE provider = $1 AND model = $2 AND feature = $3"
# A finding that arrives late never replaces a newer one.
_RECORD: Final = """
INSERT INTO imagegen.capabilities AS known (provider, model, feature, support, evidence, found_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (provider, model, feature) DO UPDATE
SET support = EXCLUDED.support, evidence = EXCLUDED.evidence, found_at = EXCLUDED.found_at
WHERE known.found_at <= EXCLUDED.found_at
"""
_LIST: Final = "SELECT * FROM imagegen.capabilities ORDER BY provider, model, feature LIMIT $1"
N_LISTED_MAX: Final = 20_000  # 20 providers with 50 models and 20 features


class PostgresCapabilityStore:
    """The CapabilityStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def support(self, provider: str, model: str, feature: str) -> Support:
        """Return what is known of a feature; UNKNOWN unless something was found."""
        with as_transient():
            found = await self._database.read.fetchval(_SUPPORT, provider, model, feature)
        return Support(found) if found else Support.UNKNOWN

    async def record(self, finding: Capability) -> None:
        """Store a finding unless a newer one is there."""
        with as_transient():
            await self._database.read.execute(
                _RECORD,
                finding.provider,
                finding.model,
                finding.feature,
                finding.support.value,
                finding.evidence,
                finding.found_at,
            )

    async def list_all(self) -> Sequence[Capability]:
        """Return the newest finding of each feature."""
        with as_transient():
            rows = await self._database.read.fetch(_LIST, N_LISTED_MAX)
        return [_capability(row) for row in rows]


def _capability(row: asyncpg.Record) -> Capability:
    return Capability(
        provider=row["provider"],
        model=row["model"],
        feature=row["feature"],
        support=Support(row["support"]),
        evidence=row["evidence"],
        found_at=row["found_at"],
    )
