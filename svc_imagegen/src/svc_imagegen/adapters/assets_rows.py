"""The AssetStore on PostgreSQL: rows only; they are written with their job (jobs_batch.py)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_rows import asset_of
from svc_imagegen.adapters.postgres_errors import as_transient
from svc_imagegen.domain.asset import Asset

_GET: Final = "SELECT * FROM imagegen.assets WHERE asset_id = $1"
_OF_JOB: Final = "SELECT * FROM imagegen.assets WHERE job_id = $1 ORDER BY index"
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

    async def get(self, asset_id: str) -> Asset | None:
        """Return one asset."""
        with as_transient():
            row = await self._database.read.fetchrow(_GET, asset_id)
        return asset_of(row) if row else None

    async def of_job(self, job_id: str) -> Sequence[Asset]:
        """Return a job's assets in their order."""
        with as_transient():
            rows = await self._database.read.fetch(_OF_JOB, job_id)
        return [asset_of(row) for row in rows]

    async def count_download(self, asset_id: str, *, n_bytes: int, is_complete: bool, at: datetime) -> None:
        """Note one download; whole ones are counted on the asset."""
        with as_transient():
            await self._database.read.execute(_COUNT, asset_id, at, n_bytes, is_complete)
