"""What the use cases need of the outside. Adapters: `adapters/`; each port has a twin in `adapters/memory.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from qraft_contracts.billing import BillingReply, PricedItem
from svc_imagegen.domain.asset import Asset as Asset
from svc_imagegen.domain.asset import Attempt as Attempt
from svc_imagegen.domain.capability import Capability, Support
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.joining import IdempotencyMismatch as IdempotencyMismatch
from svc_imagegen.domain.outcome import Lookup, ProviderAnswer
from svc_imagegen.domain.request import ImageRequest, Reference


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as stored: never its text. scopes: images:write, images:read, admin."""

    key_id: str
    account_id: str
    name: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


class KeyStore(Protocol):
    """API keys, by the SHA-256 of their text (they hold 256 random bits, so no slow hash is needed)."""

    async def find(self, sha256: str) -> ApiKey | None: ...
    async def create(self, key: ApiKey, sha256: str) -> None: ...
    async def revoke(self, key_id: str, *, at: datetime) -> bool: ...
    async def list_keys(self, account_id: str | None) -> Sequence[ApiKey]: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that a call led to. is_new False: the call joined a job that was there."""

    job: Job
    is_new: bool


class JobStore(Protocol):
    """
    The jobs of PostgreSQL schema `imagegen`: every method is one transaction, group-committed where it is hot.

    Changes name the state they expect; a change that finds another state returns None and stores nothing. What the
    outbox has to tell is stored in the same transaction.
    """

    async def accept(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Accepted:
        """
        Store a new job with its imagejob.created, or return the one that this call belongs to.

        By idempotency key when there is one (raises IdempotencyMismatch for another fingerprint). Else a client's own
        retry (retry_count > 0) joins the newest job of its fingerprint made within join_window_s; and a first attempt
        joins a job that its own retry made since received_at.
        """
        ...

    async def find_join(self, job: Job, *, retry_count: int, received_at: datetime, join_window_s: float) -> Job | None:
        """Return the job that `accept` would join, before credits are reserved; raises IdempotencyMismatch."""
        ...

    async def get(self, job_id: str) -> Job | None: ...
    async def list_jobs(self, account_id: str, *, limit: int, before: str | None) -> Sequence[Job]: ...
    async def place_in_queue(self, job: Job) -> int:
        """Return how many pending jobs of the same provider were made before this one, plus one; 0 when not pending."""
        ...

    async def claim(self, job_id: str, *, worker_id: str, now: datetime, lease_s: float) -> Attempt | None:
        """PENDING → RUNNING with a new attempt, whose provider is called from now on; None if it is not pending."""
        ...

    async def extend_lease(self, attempt: Attempt, *, until: datetime) -> bool: ...
    async def release(
        self, attempt: Attempt, *, now: datetime, outcome: str, cause: str, retry_at: datetime
    ) -> Job | None:
        """RUNNING → PENDING after an attempt that certainly made nothing; its next attempt not before retry_at."""
        ...

    async def record_success(
        self,
        attempt: Attempt,
        *,
        assets: Sequence[Asset],
        charge_microcredits: int,
        answer: ProviderAnswer,
        now: datetime,
    ) -> Job | None:
        """Store the assets; money → SETTLING. The state changes when billing has confirmed (`finish`)."""
        ...

    async def record_failure(
        self, attempt: Attempt | None, job_id: str, *, cause: str, detail: str, now: datetime, outcome: str = "rejected"
    ) -> Job | None:
        """Store the cause; money → VOIDING. attempt None: of a pending job, or of an uncertain one that is resolved."""
        ...

    async def record_uncertain(
        self,
        job_id: str,
        *,
        cause: str,
        detail: str,
        provider_request_id: str | None,
        now: datetime,
        next_check_at: datetime,
    ) -> Job | None:
        """State → UNCERTAIN, money → DISPUTING, with an audit record and imagejob.uncertain."""
        ...

    async def finish(
        self, job_id: str, *, state: JobState, money: Money, now: datetime, charged_microcredits: int = 0,
        next_check_at: datetime | None = None,
    ) -> Job | None:  # fmt: skip
        """
        Store what billing confirmed and tell the transition (succeeded, failed, resolved).

        next_check_at: when the sweeper looks again, for money that is disputed or whose refund failed.
        """
        ...

    async def record_check(
        self, job_id: str, *, finding: str, detail: str, now: datetime, next_check_at: datetime | None
    ) -> None:
        """Append to the audit record of an uncertain job or of a failing refund."""
        ...

    async def audit(self, job_id: str) -> Sequence[tuple[datetime, str, str]]: ...
    async def attempts(self, job_id: str) -> Sequence[Attempt]: ...
    async def due(self, *, now: datetime, limit: int) -> Sequence[Job]:
        """Return jobs whose next_check_at is over: lost leases and messages, deadlines, money to confirm, checks."""
        ...

    async def requeue(self, job_id: str, *, now: datetime) -> None:
        """Tell imagejob.created of a pending job once more, under a new message id."""
        ...

    async def cancel(self, job_id: str, *, now: datetime) -> Job | None:
        """PENDING → VOIDING money, to become CANCELED; None if it has begun."""
        ...

    async def which_exist(self, job_ids: Sequence[str]) -> frozenset[str]: ...


class AssetStore(Protocol):
    """Asset rows; the bytes lie in the ArtefactStore."""

    async def get(self, asset_id: str) -> Asset | None: ...
    async def of_job(self, job_id: str) -> Sequence[Asset]: ...
    async def count_download(self, asset_id: str, *, n_bytes: int, is_complete: bool, at: datetime) -> None: ...


class CapabilityStore(Protocol):
    """Findings about providers; the newest of a (provider, model, feature) counts."""

    async def support(self, provider: str, model: str, feature: str) -> Support: ...
    async def record(self, finding: Capability) -> None: ...
    async def list_all(self) -> Sequence[Capability]: ...


class Billing(Protocol):
    """svc_billing over the bus. Raises Transient when it does not answer; `retry` answers are Transient too."""

    async def estimate(self, item: PricedItem) -> BillingReply: ...
    async def reserve(
        self, *, account_id: str, job_id: str, item: PricedItem, lease_s: int,
        expected_microcredits: int | None = None, price_version: int | None = None,
    ) -> BillingReply: ...  # fmt: skip
    async def settle(
        self, job_id: str, *, amount_microcredits: int, asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None, is_simulated: bool,
    ) -> BillingReply: ...  # fmt: skip
    async def void(self, job_id: str, *, account_id: str, reason: str) -> BillingReply: ...
    async def dispute(self, job_id: str, *, reason: str) -> BillingReply: ...
    async def late_success(
        self,
        job_id: str,
        *,
        amount_microcredits: int,
        asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None,
    ) -> BillingReply: ...
    async def refund_failed(self, job_id: str, *, n_attempts: int, reason: str) -> BillingReply: ...
    async def balance(self, account_id: str) -> BillingReply: ...
    async def open_holds(self, *, purpose_prefix: str, made_before: datetime) -> BillingReply: ...


@dataclass(frozen=True, slots=True)
class ReferenceBytes:
    """A reference with its bytes, as the worker hands it to a provider."""

    reference: Reference
    data: bytes


class Provider(Protocol):
    """One configured provider. An adapter is one file of `adapters/providers/`."""

    @property
    def provider_id(self) -> str: ...
    @property
    def is_simulated(self) -> bool: ...
    def models(self) -> tuple[str, ...]: ...
    def declared(self, model: str, feature: str) -> Support:
        """Return what the adapter itself knows of a feature; UNKNOWN unless it is certain."""
        ...

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        """
        Make the pictures: one paid call, never repeated in here.

        Raises:
            NotDelivered, Throttled, Rejected, Uncertain: see domain/outcome.py.
        """
        ...

    async def look_up(self, provider_request_id: str) -> Lookup:
        """
        Ask what became of an earlier call; `unknown` where the provider cannot tell. Costs nothing.

        Where the provider never told an id, this is the attempt_id that the call was made with.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class VerifiedPicture:
    """A picture that was decoded whole in the limited process."""

    data: bytes
    media_type: str
    width: int
    height: int
    sha256: str


class Pictures(Protocol):
    """Checks of untrusted picture bytes, in a process with limits of memory, time and pixels. Raises BadPicture."""

    async def verify(self, data: bytes) -> VerifiedPicture:
        """Check what a provider gave: type by content, pixel cap by header, decodable to the end; bytes unchanged."""
        ...

    async def sanitize(self, data: bytes, *, role: str) -> VerifiedPicture:
        """Re-encode what a person uploaded as PNG, JPEG or WebP, without metadata; an oriented photo is turned."""
        ...


class Downloads(Protocol):
    """Fetching a URL that a person or a provider named, guarded against reaching inside."""

    async def fetch(self, url: str, *, n_bytes_max: int, timeout_s: float) -> bytes:
        """Return the body; data: URLs too. Raises Rejected (a bad or forbidden address) or NotDelivered."""
        ...


class JobChanges(Protocol):
    """Hearing of changed jobs at once; a hint, the store is the truth."""

    def watch_end(self, job_id: str) -> AsyncIterator[None]:
        """
        Yield when a job that was just looked at is over (`Job.is_over`), and every few seconds in case that was missed.

        Where its end was heard of before, at once. Raises Transient (too_many_waiters) beyond a bound.
        """
        ...

    def watch(self, job_id: str) -> AsyncIterator[None]:
        """
        Yield once at once, then after every change of the job, and every few seconds in case one was missed.

        `async for _ in changes.watch(job_id): job = await jobs.get(job_id); …` therefore never misses an end. Raises
        Transient (too_many_waiters) beyond a bound.
        """
        ...


class Turn(Protocol):
    """The right to sweep, held by one process at a time."""

    def take(self) -> AbstractAsyncContextManager[bool]:
        """Hold the turn while the block runs; False: another process has it."""
        ...
