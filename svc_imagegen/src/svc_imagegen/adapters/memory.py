"""The twins of every store port, for tests and dry runs: the same steps, kept in dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from qraft_contracts.outcomes import Transient
from svc_imagegen.adapters.jobs_steps import JobSteps
from svc_imagegen.adapters.memory_billing import MemoryBilling
from svc_imagegen.domain import transitions
from svc_imagegen.domain.asset import Asset, Attempt, AuditLine
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.job import Job, JobState
from svc_imagegen.domain.joining import find_joined
from svc_imagegen.domain.transitions import Change, Step
from svc_imagegen.ports import Accepted, ApiKey

__all__ = [
    "MemoryAssetStore", "MemoryBilling", "MemoryCapabilityStore", "MemoryJobChanges", "MemoryJobStore",
    "MemoryKeyStore", "MemoryTurn",
]  # fmt: skip

N_WAITERS_MAX: Final = 4_096
_N_ENDED_MAX: Final = 4_096
_POLL_S: Final = 2.0


class MemoryJobChanges:
    """The JobChanges port inside one process; `announce` is called by whoever stored a change."""

    def __init__(self, *, n_waiters_max: int = N_WAITERS_MAX, poll_s: float = _POLL_S) -> None:
        self._n_waiters_max = n_waiters_max
        self._poll_s = poll_s
        self._n_waiters = 0
        self._waiting: dict[str, dict[asyncio.Event, bool]] = {}
        self._ended: dict[str, None] = {}  # heard of lately, for who begins to wait a moment too late

    def announce(self, jobs: Sequence[Job]) -> None:
        """Wake whoever watches one of the jobs."""
        for job in jobs:
            self.announce_one(job.job_id, is_over=job.is_over)

    def announce_one(self, job_id: str, *, is_over: bool) -> None:
        """Wake whoever watches a job."""
        if is_over:
            if len(self._ended) >= _N_ENDED_MAX:
                del self._ended[next(iter(self._ended))]
            self._ended[job_id] = None
        for event, is_for_end in self._waiting.get(job_id, {}).items():
            if is_over or not is_for_end:
                event.set()

    async def watch(self, job_id: str) -> AsyncIterator[None]:
        """Yield at once, after every change, and every few seconds; see the port."""
        with self._place(job_id, is_for_end=False) as event:
            while True:
                yield
                await self._wait(event)

    async def watch_end(self, job_id: str) -> AsyncIterator[None]:
        """Yield after the end, and every few seconds; see the port."""
        with self._place(job_id, is_for_end=True) as event:
            if job_id in self._ended:
                event.set()
            while True:
                await self._wait(event)
                yield

    @contextmanager
    def _place(self, job_id: str, *, is_for_end: bool) -> Iterator[asyncio.Event]:
        if self._n_waiters >= self._n_waiters_max:
            raise Transient("too_many_waiters", f"expected at most {self._n_waiters_max} open waits; try again later")
        event = asyncio.Event()
        self._n_waiters += 1
        self._waiting.setdefault(job_id, {})[event] = is_for_end
        try:
            yield event
        finally:
            self._n_waiters -= 1
            waiting = self._waiting[job_id]
            del waiting[event]
            if not waiting:
                del self._waiting[job_id]

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await event.wait()
        except TimeoutError:
            return
        event.clear()


class MemoryAssetStore:
    """The AssetStore port in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[str, Asset] = {}
        self.downloads: list[tuple[str, int, bool, datetime]] = []

    async def get(self, asset_id: str) -> Asset | None:
        """Return one asset."""
        return self.rows.get(asset_id)

    async def of_job(self, job_id: str) -> Sequence[Asset]:
        """Return a job's assets in their order."""
        return sorted((it for it in self.rows.values() if it.job_id == job_id), key=lambda it: it.index)

    async def count_download(self, asset_id: str, *, n_bytes: int, is_complete: bool, at: datetime) -> None:
        """Note one download; whole ones are counted on the asset."""
        self.downloads.append((asset_id, n_bytes, is_complete, at))
        if is_complete and asset_id in self.rows:
            asset = self.rows[asset_id]
            self.rows[asset_id] = replace(asset, n_downloads=asset.n_downloads + 1)


class MemoryJobStore(JobSteps):
    """
    The JobStore port in dictionaries. told: (job id, transition) of every message that the outbox would hold.

    on_told: called with each, so that a test or a dry run can play the bus.
    """

    def __init__(
        self,
        *,
        assets: MemoryAssetStore | None = None,
        changes: MemoryJobChanges | None = None,
        on_told: Callable[[Job, str], None] | None = None,
    ) -> None:
        self.assets = assets or MemoryAssetStore()
        self.changes = changes or MemoryJobChanges()
        self.told: list[tuple[str, str]] = []
        self.usage: list[tuple[str, int]] = []  # (job id, attempt) of every call that is to be booked
        self._on_told = on_told
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, list[Attempt]] = {}
        self._audit: list[AuditLine] = []

    async def accept(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Accepted:
        """Store a new job, or return the one that this call belongs to; see the port."""
        joined = self._join(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)
        if joined is not None:
            return Accepted(joined, is_new=False)
        if job.job_id in self._jobs:
            raise ValueError(f"expected a new job id, received {job.job_id} again")
        return Accepted(self._store(transitions.accept(job, retry_count=retry_count)).job, is_new=True)

    async def find_join(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Job | None:
        """Return the job that `accept` would join."""
        return self._join(job, retry_count=retry_count, received_at=received_at, join_window_s=join_window_s)

    async def get(self, job_id: str) -> Job | None:
        """Return one job."""
        return self._jobs.get(job_id)

    async def list_jobs(self, account_id: str, *, limit: int, before: str | None) -> Sequence[Job]:
        """Return an account's jobs, newest first, from before a job on."""
        rows = sorted(
            (it for it in self._jobs.values() if it.account_id == account_id),
            key=lambda it: (it.created_at, it.job_id),
            reverse=True,
        )
        if before is not None:
            edge = self._jobs.get(before)
            rows = [it for it in rows if edge and (it.created_at, it.job_id) < (edge.created_at, edge.job_id)]
        return rows[:limit]

    async def place_in_queue(self, job: Job) -> int:
        """Return the place among the provider's pending jobs, from 1; 0 when not pending."""
        pending = [it for it in self._jobs.values() if it.state is JobState.PENDING and it.provider == job.provider]
        if job.state is not JobState.PENDING:
            return 0
        return 1 + sum((it.created_at, it.job_id) < (job.created_at, job.job_id) for it in pending)

    async def audit(self, job_id: str) -> Sequence[tuple[datetime, str, str]]:
        """Return the audit record, oldest first."""
        return [(it.at, it.finding, it.detail) for it in self._audit if it.job_id == job_id]

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """Return the attempts, oldest first."""
        return list(self._attempts.get(job_id, ()))

    async def due(self, *, now: datetime, limit: int) -> Sequence[Job]:
        """Return jobs that the sweeper has to look at."""
        rows = [it for it in self._jobs.values() if it.next_check_at is not None and it.next_check_at <= now]
        return sorted(rows, key=lambda it: (it.next_check_at, it.job_id))[:limit]

    async def which_exist(self, job_ids: Sequence[str]) -> frozenset[str]:
        """Return those ids that are jobs."""
        return frozenset(job_ids) & self._jobs.keys()

    def _join(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Job | None:
        return find_joined(
            job, self._jobs.values(), retry_count=retry_count, received_at=received_at, join_window_s=join_window_s
        )

    async def _apply(self, job_id: str, step: Step) -> Change | None:
        job = self._jobs.get(job_id)
        if job is None:
            return None
        attempts = self._attempts.get(job_id)
        change = step(job, attempts[-1] if attempts else None)
        return self._store(change) if change else None

    def _store(self, change: Change) -> Change:
        job = change.job
        self._jobs[job.job_id] = job
        if change.attempt is not None:
            attempts = self._attempts.setdefault(job.job_id, [])
            attempts[change.attempt.attempt - 1 :] = [change.attempt]
            if change.is_call_over:
                self.usage.append((job.job_id, change.attempt.attempt))
        self.assets.rows.update({it.asset_id: it for it in change.assets})
        self._audit.extend(change.audit)
        if change.told is not None:
            self.told.append((job.job_id, change.told))
            if self._on_told is not None:
                self._on_told(job, change.told)
        if not change.is_quiet:
            self.changes.announce([job])
        return change


class MemoryKeyStore:
    """The KeyStore port in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    async def find(self, sha256: str) -> ApiKey | None:
        """Return the key with this hash, revoked or not."""
        return self._keys.get(sha256)

    async def create(self, key: ApiKey, sha256: str) -> None:
        """Store a new key."""
        self._keys[sha256] = key

    async def revoke(self, key_id: str, *, at: datetime) -> bool:
        """Revoke a key; False if there is none or it is revoked already."""
        for sha256, key in self._keys.items():
            if key.key_id == key_id and key.revoked_at is None:
                self._keys[sha256] = replace(key, revoked_at=at)
                return True
        return False

    async def list_keys(self, account_id: str | None) -> Sequence[ApiKey]:
        """Return keys, oldest first, of one account or of all."""
        rows = [it for it in self._keys.values() if account_id is None or it.account_id == account_id]
        return sorted(rows, key=lambda it: (it.created_at, it.key_id))


class MemoryCapabilityStore:
    """The CapabilityStore port in a dictionary."""

    def __init__(self) -> None:
        self._findings: dict[tuple[str, str, str], Capability] = {}

    async def support(self, provider: str, model: str, feature: str) -> Support:
        """Return what is known of a feature; UNKNOWN unless something was found."""
        found = self._findings.get((provider, model, feature))
        return found.support if found else Support.UNKNOWN

    async def record(self, finding: Capability) -> None:
        """Store a finding unless a newer one is there."""
        key = (finding.provider, finding.model, finding.feature)
        known = self._findings.get(key)
        if known is None or known.found_at <= finding.found_at:
            self._findings[key] = finding

    async def list_all(self) -> Sequence[Capability]:
        """Return the newest finding of each feature."""
        return [self._findings[key] for key in sorted(self._findings)]


class MemoryTurn:
    """The Turn port inside one process."""

    def __init__(self) -> None:
        self._is_taken = False

    @asynccontextmanager
    async def take(self) -> AsyncIterator[bool]:
        """Hold the turn while the block runs; False: somebody has it."""
        if self._is_taken:
            yield False
            return
        self._is_taken = True
        try:
            yield True
        finally:
            self._is_taken = False
