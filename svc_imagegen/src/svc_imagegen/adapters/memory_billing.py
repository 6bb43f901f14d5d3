"""
svc_billing's twin for the image service's tests: the same answers to the same commands, for holds and balances.

It knows grants only as one balance, has no chain and no expiry by itself (`expire` does it), and answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from qraft_contracts import billing
from qraft_contracts.billing import Balance, BillingReply, Estimate, Hold, PricedItem
from qraft_contracts.outcomes import Transient
from qraft_runtime.clock import Clock, SystemClock
from svc_imagegen.domain.job import hold_id_of

PRICE_VERSION: Final = 1
_OPEN: Final = frozenset({"held", "disputed"})
_ALREADY: Final = {
    "settled": billing.ALREADY_SETTLED,
    "voided": billing.ALREADY_VOIDED,
    "expired": billing.ALREADY_EXPIRED,
}


class MemoryBilling:
    """
    The Billing port in memory.

    prices: (provider, model) → (micro-credits per picture, per reference); everything else has no price. is_away: every
    call raises Transient, as when svc_billing does not answer.
    """

    def __init__(self, prices: dict[tuple[str, str], tuple[int, int]], *, clock: Clock | None = None) -> None:
        self._prices = prices
        self._clock = clock or SystemClock()
        self._balances: dict[str, Balance] = {}
        self._holds: dict[str, Hold] = {}
        self._answers: dict[str, tuple[Hashable, BillingReply]] = {}
        self.is_away = False
        self.loss_microcredits = 0
        self.n_resolutions: dict[str, int] = {}  # hold id → how often it was settled, voided or expired: never above 1

    def grant(self, account_id: str, microcredits: int) -> None:
        """Give an account credits, opening it if need be."""
        known = self._balances.get(account_id, Balance(account_id, 0, 0, 0, 0))
        self._balances[account_id] = msgspec.structs.replace(
            known, available_microcredits=known.available_microcredits + microcredits
        )

    def expire(self, hold_id: str) -> None:
        """Let an open hold run out, as its lease would."""
        hold = self._holds[hold_id]
        if hold.state == "held":
            self._release(hold, "expired", charged=0)

    def hold(self, hold_id: str) -> Hold | None:
        """Return one hold."""
        return self._holds.get(hold_id)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """Return every hold."""
        return tuple(self._holds.values())

    async def estimate(self, item: PricedItem) -> BillingReply:
        """Price a call."""
        self._check_here()
        found = self._priced(item)
        if found is None:
            return _refused("", billing.PRICE_UNKNOWN, f"no price for {item.provider}/{item.model}")
        return BillingReply(outcome=billing.OK, estimate=found)

    async def reserve(
        self, *, account_id: str, job_id: str, item: PricedItem, lease_s: int,
        expected_microcredits: int | None = None, price_version: int | None = None,
    ) -> BillingReply:  # fmt: skip
        """Price a call and hold its upper bound."""
        content = (account_id, item, lease_s, expected_microcredits, price_version)
        return self._once(
            f"reserve:{hold_id_of(job_id)}",
            content,
            lambda op: self._reserve(op, account_id, job_id, item, lease_s, expected_microcredits, price_version),
        )

    async def settle(
        self, job_id: str, *, amount_microcredits: int, asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None, is_simulated: bool,
    ) -> BillingReply:  # fmt: skip
        """Charge a hold, once."""
        hold_id = hold_id_of(job_id)

        def decide(op: str) -> BillingReply:
            hold = self._holds.get(hold_id)
            if hold is None:
                raise Transient(billing.HOLD_UNKNOWN, hold_id)
            if hold.state not in _OPEN:
                return _refused(op, _ALREADY[hold.state], hold_id)
            if not asset_sha256s:
                return _refused(op, billing.EVIDENCE_MISSING, "a settle needs a verified picture")
            return BillingReply(
                outcome=billing.OK, operation_id=op, hold=self._release(hold, "settled", charged=amount_microcredits)
            )

        content = (amount_microcredits, asset_sha256s, provider_cost_microusd, is_simulated)
        return self._once(f"settle:{hold_id}", content, decide)

    async def void(self, job_id: str, *, account_id: str, reason: str) -> BillingReply:
        """Give a hold back; of an unknown one: refuse its reserve, should it come."""
        hold_id = hold_id_of(job_id)

        def decide(op: str) -> BillingReply:
            hold = self._holds.get(hold_id)
            if hold is None:
                self._holds[hold_id] = burned = self._new_hold(hold_id, account_id, "voided", 0, lease_s=0)
                return BillingReply(outcome=billing.OK, operation_id=op, hold=burned)
            if hold.state not in _OPEN:
                return _refused(op, _ALREADY[hold.state], hold_id)
            return BillingReply(outcome=billing.OK, operation_id=op, hold=self._release(hold, "voided", charged=0))

        return self._once(f"void:{hold_id}:{reason}", (account_id, reason), decide)

    async def dispute(self, job_id: str, *, reason: str) -> BillingReply:
        """Keep a hold without a lease."""
        hold_id = hold_id_of(job_id)

        def decide(op: str) -> BillingReply:
            hold = self._holds.get(hold_id)
            if hold is None:
                raise Transient(billing.HOLD_UNKNOWN, hold_id)
            if hold.state not in _OPEN:
                return _refused(op, _ALREADY[hold.state], hold_id)
            self._holds[hold_id] = kept = msgspec.structs.replace(hold, state="disputed", expires_at=None)
            return BillingReply(outcome=billing.OK, operation_id=op, hold=kept)

        return self._once(f"dispute:{hold_id}", (reason,), decide)

    async def late_success(
        self, job_id: str, *, amount_microcredits: int, asset_sha256s: tuple[str, ...],
        provider_cost_microusd: int | None,
    ) -> BillingReply:  # fmt: skip
        """Book our loss."""
        hold_id = hold_id_of(job_id)

        def decide(op: str) -> BillingReply:
            hold = self._holds.get(hold_id)
            if hold is None or hold.state in _OPEN:
                raise Transient(billing.HOLD_UNKNOWN, f"{hold_id} is not given back yet")
            if hold.state == "settled":
                return _refused(op, billing.ALREADY_SETTLED, hold_id)
            self.loss_microcredits += amount_microcredits
            return BillingReply(outcome=billing.OK, operation_id=op, hold=hold)

        content = (amount_microcredits, asset_sha256s, provider_cost_microusd)
        return self._once(f"late_success:{hold_id}", content, decide)

    async def refund_failed(self, job_id: str, *, n_attempts: int, reason: str) -> BillingReply:
        """Make a failing refund visible."""
        hold_id = hold_id_of(job_id)

        def decide(op: str) -> BillingReply:
            hold = self._holds.get(hold_id)
            if hold is None:
                raise Transient(billing.HOLD_UNKNOWN, hold_id)
            self._holds[hold_id] = marked = msgspec.structs.replace(hold, is_refund_failing=True)
            return BillingReply(outcome=billing.OK, operation_id=op, hold=marked)

        return self._once(f"refund_failed:{hold_id}:{n_attempts}", (reason,), decide)

    async def balance(self, account_id: str) -> BillingReply:
        """Return an account's balance."""
        self._check_here()
        found = self._balances.get(account_id)
        if found is None:
            return _refused("", billing.ACCOUNT_UNKNOWN, account_id)
        return BillingReply(outcome=billing.OK, balance=found)

    async def open_holds(self, *, purpose_prefix: str, made_before: datetime) -> BillingReply:
        """Return open holds of a purpose, oldest first."""
        self._check_here()
        found = [
            it
            for it in self._holds.values()
            if it.state in _OPEN and it.purpose.startswith(purpose_prefix) and it.made_at < made_before
        ]
        return BillingReply(outcome=billing.OK, holds=tuple(sorted(found, key=lambda it: it.made_at)[:500]))

    def _once(self, operation_id: str, content: Hashable, decide: Callable[[str], BillingReply]) -> BillingReply:
        self._check_here()
        known = self._answers.get(operation_id)
        if known is not None:
            if known[0] != content:
                return _refused(operation_id, billing.OPERATION_CONFLICT, "the id was used with other content")
            return msgspec.structs.replace(known[1], is_replay=True)
        reply = decide(operation_id)
        self._answers[operation_id] = (content, reply)
        return reply

    def _reserve(
        self, op: str, account_id: str, job_id: str, item: PricedItem, lease_s: int,
        expected: int | None, version: int | None,
    ) -> BillingReply:  # fmt: skip
        found = self._priced(item)
        balance = self._balances.get(account_id)
        hold_id = hold_id_of(job_id)
        if found is None:
            return _refused(op, billing.PRICE_UNKNOWN, f"no price for {item.provider}/{item.model}")
        if balance is None:
            return _refused(op, billing.ACCOUNT_UNKNOWN, account_id)
        if hold_id in self._holds:
            return _refused(op, _ALREADY.get(self._holds[hold_id].state, billing.HOLD_CONFLICT), hold_id)
        if expected not in (None, found.total_microcredits) or version not in (None, PRICE_VERSION):
            return _with_estimate(_refused(op, billing.PRICE_CHANGED, "the price is another now"), found)
        if balance.available_microcredits < found.total_microcredits:
            return _with_estimate(_refused(op, billing.CREDITS_INSUFFICIENT, "expected more credits"), found)
        self._move(account_id, available=-found.total_microcredits, held=found.total_microcredits)
        self._holds[hold_id] = hold = self._new_hold(
            hold_id, account_id, "held", found.total_microcredits, lease_s=lease_s
        )
        return BillingReply(outcome=billing.OK, operation_id=op, estimate=found, hold=hold)

    def _release(self, hold: Hold, state: str, *, charged: int) -> Hold:
        """Resolve an open hold; what is charged above it comes from available, then from a shortfall."""
        above = max(0, charged - hold.amount_microcredits)
        available = self._balances[hold.account_id].available_microcredits
        from_available = min(above, available)
        self._move(
            hold.account_id,
            held=-hold.amount_microcredits,
            available=max(0, hold.amount_microcredits - charged) - from_available,
            spent=charged,
            shortfall=above - from_available,
        )
        self.n_resolutions[hold.hold_id] = self.n_resolutions.get(hold.hold_id, 0) + 1
        self._holds[hold.hold_id] = done = msgspec.structs.replace(
            hold, state=state, settled_microcredits=charged, expires_at=None, is_refund_failing=False
        )
        return done

    def _move(self, account_id: str, *, available: int = 0, held: int = 0, spent: int = 0, shortfall: int = 0) -> None:
        was = self._balances[account_id]
        now = Balance(
            account_id,
            was.available_microcredits + available,
            was.held_microcredits + held,
            was.spent_microcredits + spent,
            was.shortfall_microcredits + shortfall,
        )
        assert now.available_microcredits >= 0 and now.held_microcredits >= 0, now
        self._balances[account_id] = now

    def _new_hold(self, hold_id: str, account_id: str, state: str, amount: int, *, lease_s: int) -> Hold:
        now = self._clock.now()
        return Hold(
            hold_id=hold_id, account_id=account_id, purpose=hold_id, state=state, amount_microcredits=amount,
            settled_microcredits=0, made_at=now, expires_at=now + timedelta(seconds=lease_s) if lease_s else None,
        )  # fmt: skip

    def _priced(self, item: PricedItem) -> Estimate | None:
        price = self._prices.get((item.provider, item.model))
        if price is None:
            return None
        per_image, per_reference = price
        references = per_reference * item.n_references
        return Estimate(PRICE_VERSION, per_image, references, per_image * item.n + references, item.n)

    def _check_here(self) -> None:
        if self.is_away:
            raise Transient("billing_away", "svc_billing does not answer")


def _with_estimate(reply: BillingReply, estimate: Estimate) -> BillingReply:
    """Return the answer with the price that holds now."""
    return msgspec.structs.replace(reply, estimate=estimate)


def _refused(operation_id: str, code: str, message: str) -> BillingReply:
    return BillingReply(outcome=billing.REFUSED, operation_id=operation_id, code=code, message=message)
