"""The Billing port over the bus: one request a command, with an id made of the job, so that asking again is safe."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from qraft_bus.port import Bus
from qraft_contracts import billing as ledger
from qraft_contracts.billing import (
    BillingReply,
    DisputeHold,
    EstimateCredits,
    ListOpenHolds,
    PricedItem,
    ReadBalance,
    RecordLateSuccess,
    RecordRefundFailure,
    ReserveCredits,
    SettleHold,
    VoidHold,
)
from qraft_contracts.codec import decode, encode
from qraft_contracts.outcomes import Transient
from svc_imagegen.domain.job import hold_id_of

TIMEOUT_S: Final = 5.0
# A `retry` answer left nothing behind: a full queue of the ledger is over in milliseconds.
_N_TRIES: Final = 3
_PAUSE_S: Final = 0.05


class BusBilling:
    """svc_billing, asked over the bus. Every method may raise Transient: not answered in time, or `retry`."""

    def __init__(self, bus: Bus, *, timeout_s: float = TIMEOUT_S) -> None:
        self._bus = bus
        self._timeout_s = timeout_s

    async def estimate(self, item: PricedItem) -> BillingReply:
        """Price a call; nothing is stored."""
        return await self._ask(EstimateCredits(item=item))

    async def reserve(
        self, *, account_id: str, job_id: str, item: PricedItem, lease_s: int,
        expected_microcredits: int | None = None, price_version: int | None = None,
    ) -> BillingReply:  # fmt: skip
        """Price a call and hold its upper bound."""
        hold_id = hold_id_of(job_id)
        return await self._ask(
            ReserveCredits(
                operation_id=f"reserve:{hold_id}",
                account_id=account_id,
                hold_id=hold_id,
                item=item,
                lease_s=lease_s,
                purpose=hold_id,
                expected_microcredits=expected_microcredits,
                price_version=price_version,
            )
        )

    async def settle(
        self, job_id: str, *, amount_microcredits: int, asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None, is_simulated: bool,
    ) -> BillingReply:  # fmt: skip
        """Charge a hold, once."""
        hold_id = hold_id_of(job_id)
        return await self._ask(
            SettleHold(
                operation_id=f"settle:{hold_id}",
                hold_id=hold_id,
                amount_microcredits=amount_microcredits,
                asset_sha256s=asset_sha256s,
                provider_cost_microusd=provider_cost_microusd,
                is_simulated=is_simulated,
            )
        )

    async def void(self, job_id: str, *, account_id: str, reason: str) -> BillingReply:
        """Give a hold back, once. The reason is part of the id: two reasons are two commands, the first one wins."""
        hold_id = hold_id_of(job_id)
        return await self._ask(
            VoidHold(operation_id=f"void:{hold_id}:{reason}", hold_id=hold_id, account_id=account_id, reason=reason)
        )

    async def dispute(self, job_id: str, *, reason: str) -> BillingReply:
        """Keep a hold without a lease until its outcome is known."""
        hold_id = hold_id_of(job_id)
        return await self._ask(DisputeHold(operation_id=f"dispute:{hold_id}", hold_id=hold_id, reason=reason))

    async def late_success(
        self, job_id: str, *, amount_microcredits: int, asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None,
    ) -> BillingReply:  # fmt: skip
        """Book as our loss what came after the hold was given back."""
        hold_id = hold_id_of(job_id)
        return await self._ask(
            RecordLateSuccess(
                operation_id=f"late_success:{hold_id}",
                hold_id=hold_id,
                amount_microcredits=amount_microcredits,
                asset_sha256s=asset_sha256s,
                provider_cost_microusd=provider_cost_microusd,
            )
        )

    async def refund_failed(self, job_id: str, *, n_attempts: int, reason: str) -> BillingReply:
        """Make a failing refund visible in the account's statement."""
        hold_id = hold_id_of(job_id)
        return await self._ask(
            RecordRefundFailure(
                operation_id=f"refund_failed:{hold_id}:{n_attempts}",
                hold_id=hold_id,
                n_attempts=n_attempts,
                reason=reason,
            )
        )

    async def balance(self, account_id: str) -> BillingReply:
        """Return an account's balance."""
        return await self._ask(ReadBalance(account_id=account_id))

    async def open_holds(self, *, purpose_prefix: str, made_before: datetime) -> BillingReply:
        """Return open holds of a purpose, oldest first."""
        return await self._ask(ListOpenHolds(purpose_prefix=purpose_prefix, made_before=made_before))

    async def _ask(self, command: Any) -> BillingReply:
        data = encode(command)
        reply = BillingReply(outcome=ledger.RETRY)
        for i_try in range(_N_TRIES):
            if i_try:
                await asyncio.sleep(_PAUSE_S * i_try)
            answer = await self._bus.request(command.SUBJECT, data, schema=command.SCHEMA, timeout_s=self._timeout_s)
            reply = decode(answer, BillingReply)
            if reply.outcome != ledger.RETRY:
                return reply
        raise Transient(f"billing_{reply.code or 'retry'}", reply.message)
