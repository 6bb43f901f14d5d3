"""The AssetStore on PostgreSQL: rows only; they are written with their job (jobs_batch.py)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from qraft_store.postgres_pools import as_transient
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.group_commit import GroupCommit
from svc_imagegen.adapters.jobs_rows import asset_of
from svc_imagegen.domain.asset import Asset

_GET: Final = "SELECT * FROM imagegen.assets WHERE asset_id = $1"
_OF_JOBS: Final = "SELECT * FROM imagegen.assets WHERE job_id = ANY($1) ORDER BY job_id, index"
_COUNT: Final = """
WITH noted AS (
    INSERT INTO imagegen.downloads (asset_id, at, n_bytes, is_complete)
    SELECT asset_id, $2, $3, $4 FROM imagegen.assets WHERE asset_id = $1
)
UPDATE imagegen.assets SET n_downloads = n_downloads + 1 WHERE asset_id = $1 AND $4
"""


class PostgresAssetStore:
    """The AssetStore port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of_jobs: GroupCommit[str, list[Asset]] = GroupCommit(self._of_many)

    async def get(self, asset_id: str) -> Asset | None:
        """Return one asset."""
        with as_transient():
            row = await self._database.read.fetchrow(_GET, asset_id)
        return asset_of(row) if row else None

    async def of_job(self, job_id: str) -> Sequence[Asset]:
        """Return a job's assets in their order."""
        return await self._of_jobs.submit(job_id)

    async def count_download(self, asset_id: str, *, n_bytes: int, is_complete: bool, at: datetime) -> None:
        """Note one download; whole ones are counted on the asset."""
        with as_transient():
            await self._database.read.execute(_COUNT, asset_id, at, n_bytes, is_complete)

    async def _of_many(self, job_ids: Sequence[str]) -> list[list[Asset]]:
        found: dict[str, list[Asset]] = {it: [] for it in job_ids}
        for row in await self._database.read.fetch(_OF_JOBS, list(found)):
            found[row["job_id"]].append(asset_of(row))
        return [found[it] for it in job_ids]
