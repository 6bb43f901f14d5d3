"""
Turn a checked call into one durable job, paid for in advance, or into a refusal that cost nothing.

The order is what keeps money safe: join → capability → references → hold → job. Whatever ends the process after the
hold leaves a hold without a job, which the sweeper voids.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts import billing as ledger
from qraft_contracts.billing import BillingReply, Estimate, PricedItem
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock
from qraft_runtime.failpoint import reach
from qraft_telemetry import logs
from svc_imagegen.domain import failpoints
from svc_imagegen.domain.failures import CallRefused, Kind, credits_text
from svc_imagegen.domain.fingerprint import fingerprint
from svc_imagegen.domain.job import Job, JobState, Money
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.domain.routing import Catalog, ModelRoute
from svc_imagegen.ports import Accepted, ApiKey, Billing, IdempotencyMismatch, JobStore
from svc_imagegen.usecases.gate import CapabilityGate
from svc_imagegen.usecases.references import ReferenceIntake, Upload
from svc_imagegen.usecases.same_calls import SameCalls

_NEEDS_PRICE: Final = frozenset({ledger.CREDITS_INSUFFICIENT, ledger.PRICE_CHANGED})


@dataclass(frozen=True, slots=True)
class AcceptTerms:
    """hold_lease_s: longer than any job can be open, so that only lost holds expire."""

    job_timeout_s: float = 660.0
    hold_lease_s: int = 2 * 86_400
    join_window_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """One call as checked by the edge. request: without references, its model as the client named it ("" = default)."""

    key: ApiKey
    request: ImageRequest
    received_at: datetime
    uploads: tuple[Upload, ...] = ()
    idempotency_key: str | None = None
    retry_count: int = 0
    expected_microcredits: int | None = None
    price_version: int | None = None


class AcceptCall:
    """The use case; one instance serves all calls of a process."""

    def __init__(
        self,
        terms: AcceptTerms,
        *,
        catalog: Catalog,
        gate: CapabilityGate,
        references: ReferenceIntake,
        jobs: JobStore,
        billing: Billing,
        clock: Clock,
    ) -> None:
        self._terms = terms
        self._catalog = catalog
        self._gate = gate
        self._references = references
        self._jobs = jobs
        self._billing = billing
        self._clock = clock
        self._same_calls = SameCalls()

    async def __call__(self, call: NewCall) -> Accepted:
        """
        Return the job of this call: a new one, or the one it belongs to.

        Raises:
            CallRefused: nothing was made and nothing is held.
            Transient: a part that is needed is away; sending the same call again is safe.
        """
        route = self.route(call.request.model)
        request = msgspec.structs.replace(call.request, model=route.model)
        job = self._new_job(call, request, route)
        if call.idempotency_key is None and call.retry_count == 0:
            return await self._make(call, job, route)
        # Together the same call waits for its first one, so that its repetitions never hold credits of their own.
        same = call.idempotency_key or job.fingerprint
        async with self._same_calls.one_at_a_time(f"{call.key.account_id}/{same}"):
            joined = await self._find(call, job)
            return Accepted(joined, is_new=False) if joined else await self._make(call, job, route)

    def route(self, model: str) -> ModelRoute:
        """
        Return who serves the model; "" is the default.

        Raises:
            CallRefused: if nobody does.
        """
        route = self._catalog.find(model or None)
        if route is None:
            message = f"The model {model[:200]!r} does not exist here; GET /v1/models lists those that do."
            raise CallRefused(Kind.MISSING, "model_not_found", message, param="model")
        return route

    async def estimate(self, request: ImageRequest, *, n_references: int) -> tuple[ModelRoute, Estimate]:
        """
        Return the price of a request; nothing is stored.

        Raises:
            CallRefused: for an unknown model or price.
        """
        route = self.route(request.model)
        reply = await self._billing.estimate(_priced(request, route, n_references=n_references))
        if reply.estimate is None:
            raise _refusal(reply, route)
        return route, reply.estimate

    def _new_job(self, call: NewCall, request: ImageRequest, route: ModelRoute) -> Job:
        now = self._clock.now()
        account_id = call.key.account_id
        uploads = tuple((it.role, it.sha256) for it in call.uploads)
        return Job(
            job_id=_new_id(now),
            account_id=account_id,
            key_id=call.key.key_id,
            provider=route.provider,
            request=request,
            state=JobState.PENDING,
            money=Money.HELD,
            held_microcredits=0,
            charged_microcredits=0,
            price_version=0,
            per_image_microcredits=0,
            references_microcredits=0,
            created_at=now,
            deadline_at=now + timedelta(seconds=self._terms.job_timeout_s),
            is_simulated=route.is_simulated,
            updated_at=now,
            fingerprint=fingerprint(request, account_id=account_id, provider=route.provider, uploads=uploads),
            idempotency_key=call.idempotency_key,
        )

    async def _find(self, call: NewCall, job: Job) -> Job | None:
        try:
            return await self._jobs.find_join(
                job,
                retry_count=call.retry_count,
                received_at=call.received_at,
                join_window_s=self._terms.join_window_s,
            )
        except IdempotencyMismatch as error:
            raise _mismatch() from error

    async def _make(self, call: NewCall, job: Job, route: ModelRoute) -> Accepted:
        await self._gate.check(job.request, route, uploads=call.uploads)
        references = await self._references.take(call.uploads) if call.uploads else ()
        request = msgspec.structs.replace(job.request, references=references)
        item = _priced(request, route, n_references=len(request.pictures))
        reply = await self._billing.reserve(
            account_id=job.account_id,
            job_id=job.job_id,
            item=item,
            lease_s=self._terms.hold_lease_s,
            expected_microcredits=call.expected_microcredits,
            price_version=call.price_version,
        )
        if reply.outcome != ledger.OK or reply.estimate is None:
            # Another process may have accepted this call meanwhile, with the last of the credits.
            joined = await self._find(call, job) if call.idempotency_key or call.retry_count else None
            if joined is None:
                raise _refusal(await self._with_price(reply, item), route)
            return Accepted(joined, is_new=False)
        reach(failpoints.AFTER_RESERVE)
        return await self._store(call, _held(job, request, reply.estimate))

    async def _store(self, call: NewCall, job: Job) -> Accepted:
        # Transient from here on leaves the hold alone: the job may have been stored. The sweeper knows.
        try:
            accepted = await self._jobs.accept(
                job,
                retry_count=call.retry_count,
                received_at=call.received_at,
                join_window_s=self._terms.join_window_s,
            )
        except IdempotencyMismatch as error:
            await self._give_back(job)
            raise _mismatch() from error
        reach(failpoints.AFTER_ACCEPT)
        if not accepted.is_new:
            await self._give_back(job)
        return accepted

    async def _with_price(self, reply: BillingReply, item: PricedItem) -> BillingReply:
        """Return the refusal with the price that holds now, which its reader needs to decide."""
        if reply.estimate is not None or reply.code not in _NEEDS_PRICE:
            return reply
        return msgspec.structs.replace(reply, estimate=(await self._billing.estimate(item)).estimate)

    async def _give_back(self, job: Job) -> None:
        try:
            await self._billing.void(job.job_id, account_id=job.account_id, reason="joined")
        except Transient as error:
            logs.get().warning("hold.left_to_sweeper", job_id=job.job_id, reason=error.reason)


def _held(job: Job, request: ImageRequest, estimate: Estimate) -> Job:
    return msgspec.structs.replace(
        job,
        request=request,
        held_microcredits=estimate.total_microcredits,
        price_version=estimate.price_version,
        per_image_microcredits=estimate.per_image_microcredits,
        references_microcredits=estimate.references_microcredits,
    )


def _priced(request: ImageRequest, route: ModelRoute, *, n_references: int) -> PricedItem:
    return PricedItem(
        provider=route.provider,
        model=route.model,
        operation=request.operation.value,
        size=request.size,
        quality=request.quality,
        n=request.n,
        n_references=n_references,
    )


def _new_id(now: datetime) -> str:
    # Milliseconds first, so that ids sort by age and their index stays compact; then 80 random bits.
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def _mismatch() -> CallRefused:
    message = "This Idempotency-Key was used before with other content; use a new key for a new call."
    return CallRefused(Kind.IDEMPOTENCY, "idempotency_key_reused", message)


def _refusal(reply: BillingReply, route: ModelRoute) -> CallRefused:
    match reply.code:
        case ledger.CREDITS_INSUFFICIENT | ledger.ACCOUNT_UNKNOWN:
            need = f" {credits_text(reply.estimate.total_microcredits)} are needed." if reply.estimate else ""
            message = f"The account has too few credits available for this call.{need}"
            return CallRefused(Kind.CREDITS, "credit_balance_exhausted", message)
        case ledger.PRICE_UNKNOWN:
            message = (
                f"No price is known for {route.explicit_id} with this operation, size and quality, so the call is not "
                "made; name a size and quality that the price list has."
            )
            return CallRefused(Kind.INVALID, ledger.PRICE_UNKNOWN, message)
        case ledger.PRICE_CHANGED:
            now = reply.estimate
            price = f" now {credits_text(now.total_microcredits)} (version {now.price_version})" if now else ""
            message = f"The price has changed; it is{price or ' another one now'}. Ask for an estimate and confirm it."
            return CallRefused(Kind.CONFLICT, ledger.PRICE_CHANGED, message, param="expected_credits")
        case ledger.ACCOUNT_CLOSED:
            return CallRefused(Kind.FORBIDDEN, ledger.ACCOUNT_CLOSED, "The account is closed.")
        case _:
            return CallRefused(Kind.INTERNAL, reply.code or "billing_refused", "The ledger refused the call.")
