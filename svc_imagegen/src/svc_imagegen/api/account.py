"""Prices before spending, and the balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from qraft_contracts import billing as ledger
from qraft_contracts.billing import Balance
from svc_imagegen.api.fields import decode_object, invalid, take_exactly
from svc_imagegen.api.http import Answer, Call
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.domain.failures import CallRefused, Kind, credits_text
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.validate import EstimateFields, FieldInvalid, check_size
from svc_imagegen.ports import Billing
from svc_imagegen.usecases.accept import AcceptCall

_BODY_BYTES_MAX: Final = 64 * 1024
_NO_STORE: Final = ((b"cache-control", b"no-store"),)


class EstimateView(msgspec.Struct, frozen=True):
    """The upper bound of a call's price; hand expected_credits and price_version back to be sure of it."""

    expected_credits: str
    per_image_credits: str
    references_credits: str
    price_version: int
    n: int
    provider: str
    model: str
    is_simulated: bool


class KeyOwnView(msgspec.Struct, frozen=True):
    """The key that asks."""

    id: str
    name: str
    scopes: tuple[str, ...]


class AccountView(msgspec.Struct, frozen=True):
    """The caller's account; amounts are decimal numbers of credits as text."""

    account_id: str
    available_credits: str
    held_credits: str
    spent_credits: str
    shortfall_credits: str
    key: KeyOwnView


@dataclass(frozen=True, slots=True)
class AccountCalls:
    """The handlers."""

    terms: GatewayTerms
    accept: AcceptCall
    billing: Billing

    async def estimate(self, call: Call) -> Answer:
        """`POST /api/estimate`."""
        fields = take_exactly(EstimateFields, await decode_object(await call.body(n_bytes_max=_BODY_BYTES_MAX)))
        try:
            check_size(fields.size, pixels_max=self.terms.pixels_max)
        except FieldInvalid as error:
            raise invalid(error) from error
        request = ImageRequest(
            operation=Operation(fields.operation),
            model=fields.model or "",
            prompt="",
            n=fields.n or 1,
            size=fields.size or "auto",
            quality=fields.quality or "auto",
        )
        route, found = await self.accept.estimate(request, n_references=fields.n_references)
        view = EstimateView(
            expected_credits=credits_text(found.total_microcredits),
            per_image_credits=credits_text(found.per_image_microcredits),
            references_credits=credits_text(found.references_microcredits),
            price_version=found.price_version,
            n=found.n,
            provider=route.provider,
            model=route.model,
            is_simulated=route.is_simulated,
        )
        return Answer(200, msgspec.json.encode(view), _NO_STORE)

    async def show(self, call: Call) -> Answer:
        """`GET /api/account`."""
        key = call.key
        reply = await self.billing.balance(key.account_id)
        # An account that was never given credits is not in the ledger yet: everything is zero.
        balance = reply.balance
        if balance is None and reply.code == ledger.ACCOUNT_UNKNOWN:
            balance = Balance(key.account_id, 0, 0, 0, 0)
        if balance is None:
            raise CallRefused(Kind.INTERNAL, reply.code or "billing_refused", "The ledger refused to tell the balance.")
        view = AccountView(
            account_id=key.account_id,
            available_credits=credits_text(balance.available_microcredits),
            held_credits=credits_text(balance.held_microcredits),
            spent_credits=credits_text(balance.spent_microcredits),
            shortfall_credits=credits_text(balance.shortfall_microcredits),
            key=KeyOwnView(key.key_id, key.name, tuple(sorted(key.scopes))),
        )
        return Answer(200, msgspec.json.encode(view), _NO_STORE)
