"""Jobs, assets and stores for the tests of the job line."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from svc_imagegen.adapters.assets_rows import PostgresAssetStore
from svc_imagegen.adapters.database import Database
from svc_imagegen.adapters.jobs_postgres import PostgresJobStore
from svc_imagegen.adapters.memory import MemoryAssetStore, MemoryJobStore
from svc_imagegen.domain.asset import Asset, Attempt
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.outcome import ProviderAnswer
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import AssetStore, JobStore

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_ids = count(1)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def make_job(job_id: str | None = None, **changed: Any) -> Job:
    request = changed.pop("request", None) or ImageRequest(
        operation=Operation.GENERATION, model="simulated-1", prompt=changed.pop("prompt", "a lighthouse"), n=2
    )
    values: dict[str, Any] = {
        "job_id": job_id or f"job-{next(_ids):05}",
        "account_id": "acme",
        "key_id": "key-1",
        "provider": "simulated",
        "request": request,
        "state": JobState.PENDING,
        "money": Money.HELD,
        "held_microcredits": 20_000,
        "charged_microcredits": 0,
        "price_version": 1,
        "per_image_microcredits": 10_000,
        "references_microcredits": 0,
        "created_at": T0,
        "deadline_at": at(660),
        "is_simulated": True,
        "fingerprint": "f" * 64,
    }
    return Job(**(values | changed))


def make_asset(job: Job, index: int = 0) -> Asset:
    sha256 = hashlib.sha256(f"{job.job_id}/{index}".encode()).hexdigest()
    return Asset(
        asset_id=f"{job.job_id}-{index}",
        job_id=job.job_id,
        account_id=job.account_id,
        index=index,
        artefact_key=f"images/{job.account_id}/{job.created_at:%Y-%m-%d}/{job.job_id}-{index}-{sha256}.png",
        sha256=sha256,
        media_type="image/png",
        width=64,
        height=64,
        n_bytes=100,
        is_simulated=True,
        provider=job.provider,
        model=job.request.model,
        created_at=T0,
    )


ANSWER = ProviderAnswer(pictures=(), provider_request_id="prov-1", cost_microusd=12)


@asynccontextmanager
async def memory_stores() -> AsyncIterator[tuple[JobStore, AssetStore]]:
    assets = MemoryAssetStore()
    yield MemoryJobStore(assets=assets), assets


@asynccontextmanager
async def postgres_stores(dsn: str) -> AsyncIterator[tuple[JobStore, AssetStore]]:
    database = Database(dsn)
    await database.open()
    store = PostgresJobStore(database)
    try:
        yield store, PostgresAssetStore(database)
    finally:
        await store.close()
        await database.close()


async def accept(store: JobStore, job: Job, *, retry_count: int = 0, received_at: datetime | None = None) -> Job:
    done = await store.accept(
        job, retry_count=retry_count, received_at=received_at or job.created_at, join_window_s=900
    )
    return done.job


async def submitted(store: JobStore, job: Job, *, now: float = 1, lease_s: float = 30) -> Attempt:
    """Accept and claim a job."""
    await accept(store, job)
    attempt = await store.claim(job.job_id, worker_id="w1", now=at(now), lease_s=lease_s)
    assert attempt is not None
    return attempt
